-- Who a user is at an OpenID provider.
ALTER TABLE users ADD COLUMN issuer  TEXT; -- the provider; NULL: signs in here alone
ALTER TABLE users ADD COLUMN subject TEXT; -- its name for the user; NULL with it
CREATE UNIQUE INDEX users_issuer_subject_key ON users (issuer, subject);
