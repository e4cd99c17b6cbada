-- Visitors who ask for a client below /client/v1: from the question to the form that it becomes.
CREATE TABLE registrations (
    id              TEXT   NOT NULL PRIMARY KEY, -- rg_…
    email           TEXT   NOT NULL,             -- to which the confirmation went: the first address asked for
    asked           TEXT   NOT NULL,             -- what was asked for, JSON; '' once the form holds it
    confirm_sha256  TEXT,                        -- lower-case hex of the token that was mailed; NULL: it was used
    follow_sha256   TEXT,                        -- lower-case hex of the token that follows the form; NULL until confirmed
    application     TEXT,                        -- applications.id; NULL until confirmed
    created_at      BIGINT NOT NULL,             -- UTC ms
    expires_at      BIGINT NOT NULL,             -- UTC ms, last instant at which the token that is in force serves
    CONSTRAINT registrations_confirm_key UNIQUE (confirm_sha256),
    CONSTRAINT registrations_follow_key UNIQUE (follow_sha256)
);
CREATE INDEX registrations_end ON registrations (expires_at);

-- Every question of the last hour, whether a mail came of it or not: how many there may be is bounded.
CREATE TABLE registration_attempts (
    id            TEXT   NOT NULL PRIMARY KEY, -- ra_…
    caller        TEXT   NOT NULL,             -- the caller's address; of IPv6 its first 64 bits; '' = unknown
    email_sha256  TEXT   NOT NULL,             -- lower-case hex of the address asked for, in lower case
    mailed        BIGINT NOT NULL,             -- 1: a mail went out; 0: that address had enough of them
    asked_at      BIGINT NOT NULL              -- UTC ms
);
CREATE INDEX registration_attempts_at ON registration_attempts (asked_at);

-- One row, held by whoever counts: attempts in parallel are not more than may be.
CREATE TABLE registration_head (
    id     BIGINT NOT NULL PRIMARY KEY, -- 1
    asked  BIGINT NOT NULL              -- questions so far
);
INSERT INTO registration_head (id, asked) VALUES (1, 0);
