-- The outbox and, once a mail has been sent or given up, its log. One row per mail and recipient.
CREATE TABLE mails (
    -- ml_<26 characters>; also the left half of the Message-ID, the same at every attempt.
    id              TEXT PRIMARY KEY NOT NULL,
    -- Name of the template, see templates/mail.
    template        TEXT NOT NULL,
    -- BCP 47 tag.
    language        TEXT NOT NULL,
    -- One mail address.
    recipient       TEXT NOT NULL,
    -- What the mail is about: kind (`key`, `application` …) and id.
    about_kind      TEXT NOT NULL,
    about_id        TEXT NOT NULL,
    -- Rendered when the mail was written, secrets masked: what the log shows.
    subject         TEXT NOT NULL,
    body_masked     TEXT NOT NULL,
    -- The context as JSON, sealed. Null once the mail was accepted or given up.
    context_sealed  TEXT,
    -- The context as JSON with its secrets masked: what a mail without secrets is sent again from.
    context_masked  TEXT NOT NULL,
    -- waiting, sending, sent, failed.
    state           TEXT NOT NULL,
    -- No attempt before this instant (UTC ms).
    next_attempt_at BIGINT NOT NULL,
    -- Attempts begun.
    attempts        BIGINT NOT NULL DEFAULT 0,
    -- Who sends it now; null unless `sending`.
    claim           TEXT,
    -- When the claim lapses and another worker may take the row (UTC ms); null unless `sending`.
    claimed_until   BIGINT,
    -- 1 = some attempt ended without the server's answer: the mail may have arrived more than once.
    maybe_repeated  BIGINT NOT NULL DEFAULT 0,
    -- Why the last attempt failed; null if none did.
    last_error      TEXT,
    -- primary, secondary or file; null until sent.
    sent_via        TEXT,
    created_at      BIGINT NOT NULL,
    -- When it was sent or given up (UTC ms); null before.
    ended_at        BIGINT
);
CREATE INDEX mails_due ON mails (state, next_attempt_at);
CREATE INDEX mails_about ON mails (about_kind, about_id);
