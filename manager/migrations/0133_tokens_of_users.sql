-- From which code a token comes: it ends when the code comes again.
ALTER TABLE tokens ADD COLUMN code_id TEXT; -- authorization_codes.id; NULL: it came otherwise
CREATE INDEX tokens_code ON tokens (code_id) WHERE code_id IS NOT NULL;
CREATE INDEX tokens_user ON tokens (user_name) WHERE user_name IS NOT NULL;
