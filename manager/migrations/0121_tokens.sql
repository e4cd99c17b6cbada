-- Access tokens on record. Limits are those of the client's token settings when the token was issued.
CREATE TABLE tokens (
    id         TEXT   NOT NULL PRIMARY KEY, -- tk_…: the token's jti
    sha256     TEXT   NOT NULL,             -- lower-case hex of the token's text, which is nowhere
    client_id  TEXT   NOT NULL,             -- clients.id; a client that is gone leaves its tokens, which open nothing
    user_name  TEXT,                        -- the resource owner; NULL = the client itself
    grant_type TEXT   NOT NULL,             -- client_credentials, password, authorization_code
    scope      TEXT   NOT NULL,             -- ids of the groups that the client had, separated by blanks
    kid        TEXT   NOT NULL,             -- token_keys.kid
    family     TEXT,                        -- refresh_tokens.id; NULL = no refresh token belongs to it
    issued_at  BIGINT NOT NULL,             -- UTC ms
    expires_at BIGINT NOT NULL,             -- UTC ms, last instant
    uses       BIGINT NOT NULL,             -- calls at most; 0 = unlimited. What was used is in meters (token_uses)
    ended_at   BIGINT,                      -- UTC ms; NULL = nobody has ended it
    ended_by   TEXT,                        -- revocation, refresh (replaced), reuse (its refresh token was used twice)
    CONSTRAINT tokens_sha256_key UNIQUE (sha256)
);
CREATE INDEX tokens_client ON tokens (client_id, issued_at, id);
CREATE INDEX tokens_end ON tokens (expires_at);
CREATE INDEX tokens_family ON tokens (family) WHERE family IS NOT NULL;
