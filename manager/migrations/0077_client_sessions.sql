-- What a client presents as Bearer below /client/v1 after it has signed in. One that was ended is
-- gone; one that ran out, or whose password is in force no more, serves nothing and goes within the hour.
CREATE TABLE client_sessions (
    id             TEXT   NOT NULL PRIMARY KEY, -- cs_…
    client_id      TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    sha256         TEXT   NOT NULL,             -- lower-case hex of the token's text
    password_mark  TEXT   NOT NULL,             -- of the password it was opened with: lower-case hex SHA-256 of clients.password_hash as it was
    created_at     BIGINT NOT NULL,             -- UTC ms
    expires_at     BIGINT NOT NULL,             -- UTC ms, last instant; use moves it where client_session_sliding holds
    CONSTRAINT client_sessions_sha256_key UNIQUE (sha256)
);
CREATE INDEX client_sessions_client ON client_sessions (client_id, created_at);
CREATE INDEX client_sessions_end ON client_sessions (expires_at);
