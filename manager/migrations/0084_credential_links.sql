-- One-time links to credentials: what a mail holds in place of a secret. One row per mail.
CREATE TABLE credential_links (
    -- crl_<26 characters>: the first half of the code in the link.
    id              TEXT PRIMARY KEY NOT NULL,
    -- Lower-case hex SHA-256 of the second half, which is kept nowhere.
    secret_sha256   TEXT NOT NULL,
    -- What it shows: a key and one of its secrets.
    key_id          TEXT NOT NULL,
    secret_id       TEXT NOT NULL,
    -- The address that the link was mailed to.
    recipient       TEXT NOT NULL,
    -- What the page shows, as JSON, sealed. Null once the link has ended.
    content_sealed  TEXT,
    -- open, revealed, withdrawn (key revoked, secret retired), expired, guessed (too many wrong codes).
    state           TEXT NOT NULL,
    -- Refused attempts to open it, of whatever reason, as far as they are counted.
    refusals        BIGINT NOT NULL DEFAULT 0,
    created_at      BIGINT NOT NULL,
    -- Not opened from then on (UTC ms).
    expires_at      BIGINT NOT NULL,
    -- When it left `open` (UTC ms); null before.
    ended_at        BIGINT
);
CREATE INDEX credential_links_key ON credential_links (key_id);
CREATE INDEX credential_links_state ON credential_links (state, expires_at);
