-- Refresh tokens on record. Each renewal hands out another text with the same jti and the same end; the text
-- before it serves no more.
CREATE TABLE refresh_tokens (
    id          TEXT   NOT NULL PRIMARY KEY, -- rt_…: the jti of all its texts
    sha256      TEXT   NOT NULL,             -- lower-case hex of the text that serves
    client_id   TEXT   NOT NULL,             -- clients.id
    user_name   TEXT,                        -- the resource owner; NULL = the client itself
    authorities TEXT   NOT NULL,             -- what is claimed of the owner, separated by blanks
    grant_type  TEXT   NOT NULL,             -- password, authorization_code
    scope       TEXT   NOT NULL,             -- as it was when the first token was issued
    kid         TEXT   NOT NULL,             -- token_keys.kid, of the text that serves
    access      TEXT   NOT NULL,             -- tokens.id of the access token that was handed out with that text
    issued_at   BIGINT NOT NULL,             -- UTC ms
    expires_at  BIGINT NOT NULL,             -- UTC ms, last instant
    uses        BIGINT NOT NULL,             -- renewals at most; 0 = unlimited
    used        BIGINT NOT NULL,             -- renewals so far
    ended_at    BIGINT,                      -- UTC ms; NULL = nobody has ended it
    ended_by    TEXT                         -- revocation, reuse
);
CREATE INDEX refresh_tokens_client ON refresh_tokens (client_id, issued_at, id);
CREATE INDEX refresh_tokens_end ON refresh_tokens (expires_at);
