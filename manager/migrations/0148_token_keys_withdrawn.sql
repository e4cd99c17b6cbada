-- A key that has leaked is withdrawn: what it has signed serves no more. Its row stays, without the key, until
-- the last token is forgotten that names it.
ALTER TABLE token_keys ADD COLUMN withdrawn_at BIGINT; -- UTC ms; NULL = it was not
-- Of a key that has retired no access token lives any more: gateways and the JWKS have it no longer. It is kept
-- to tell old texts of refresh tokens from those of strangers.
ALTER TABLE token_keys ADD COLUMN closed_at    BIGINT; -- UTC ms; NULL = it was not
