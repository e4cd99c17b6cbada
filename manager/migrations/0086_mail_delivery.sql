-- When a mail was first to go out (UTC ms): its age is told from here, and when it is given up.
-- Null in rows of older versions that had been tried already: `created_at` counts.
ALTER TABLE mails ADD COLUMN not_before BIGINT;
UPDATE mails SET not_before = next_attempt_at WHERE state = 'waiting' AND attempts = 0;
-- Attempts that ended without the server's answer after the mail had been handed over, or without
-- a word of the process that made them.
ALTER TABLE mails ADD COLUMN unanswered BIGINT NOT NULL DEFAULT 0;
-- The log is read by time and by recipient.
CREATE INDEX mails_created ON mails (created_at, id);
CREATE INDEX mails_recipient ON mails (recipient, created_at);

-- What each attempt at a mail came to, one row per server that was asked. Removed with the mail.
CREATE TABLE mail_attempts (
    mail       TEXT NOT NULL,
    -- Number of the attempt, from 1.
    attempt    BIGINT NOT NULL,
    -- Place of this server within the attempt, from 1.
    turn       BIGINT NOT NULL,
    -- `host:port`, or the folder; empty where the process that tried did not say.
    server     TEXT NOT NULL,
    -- accepted, postponed, refused, unavailable (the server, whatever the mail), answer_lost,
    -- no_word (the process that tried never said how it ended).
    outcome    TEXT NOT NULL,
    -- The server's answer, or what went wrong and in which step.
    answer     TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    PRIMARY KEY (mail, attempt, turn)
);

-- How the servers of this installation fare, shared by all replicas: who asks whom next.
CREATE TABLE mail_servers (
    -- `host:port`, or the folder of the file transport.
    address         TEXT PRIMARY KEY NOT NULL,
    -- Conversations in a row that failed for the server's reasons, not for a mail's; 0 = it is well.
    failures        BIGINT NOT NULL DEFAULT 0,
    -- No conversation before this instant (UTC ms), then one that tries; null = it is well.
    paused_until    BIGINT,
    -- Last mail that it accepted (UTC ms); null = none yet.
    last_success_at BIGINT,
    -- Last attempt that failed for whatever reason (UTC ms); null = none yet.
    last_failure_at BIGINT,
    -- What that said, without addresses of people; null = none yet.
    last_error      TEXT
);
