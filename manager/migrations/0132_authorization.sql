-- Codes that a browser carries from the authorization endpoint to a client, which turns them into tokens.
CREATE TABLE authorization_codes (
    id              TEXT   NOT NULL PRIMARY KEY, -- ac_…: tokens tell from which code they come
    sha256          TEXT   NOT NULL,             -- lower-case hex of the code's text
    client_id       TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    user_id         TEXT   NOT NULL REFERENCES users (id),
    redirect_uri    TEXT   NOT NULL,             -- as the request named it: the client repeats it
    scope           TEXT   NOT NULL,             -- ids of groups and scopes, separated by blanks
    code_challenge  TEXT,                        -- of RFC 7636, S256; NULL: the client sent none
    created_at      BIGINT NOT NULL,             -- UTC ms
    expires_at      BIGINT NOT NULL,             -- UTC ms, last instant
    used_at         BIGINT,                      -- UTC ms; NULL: not yet. A second use is a theft
    CONSTRAINT authorization_codes_sha256_key UNIQUE (sha256)
);
CREATE INDEX authorization_codes_expires_at ON authorization_codes (expires_at);
CREATE INDEX authorization_codes_client ON authorization_codes (client_id);

-- What users have allowed clients: not asked again.
CREATE TABLE user_consents (
    user_id     TEXT   NOT NULL REFERENCES users (id),
    client_id   TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    scope       TEXT   NOT NULL, -- id of a group or scope; '' = to know who the user is
    granted_at  BIGINT NOT NULL, -- UTC ms
    PRIMARY KEY (user_id, client_id, scope)
);
CREATE INDEX user_consents_client ON user_consents (client_id);
