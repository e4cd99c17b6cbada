-- Calls that were carried out under an Idempotency-Key: a repeat gets the same answer. A row is
-- written by the transaction that carries the call out, so that both are there or neither.
CREATE TABLE idempotency_keys (
    -- Lower-case hex SHA-256 of caller and key: the key itself is not kept.
    id                 TEXT PRIMARY KEY NOT NULL,
    -- idr_<26 characters>: which of several attempts at once carried it out.
    run                TEXT NOT NULL,
    -- SHA-256 of method, path, If-Match and body, sealed: a body may hold a password.
    fingerprint_sealed TEXT NOT NULL,
    -- When it was carried out (UTC ms).
    claimed_at         BIGINT NOT NULL,
    -- From then on the key is as good as new (UTC ms).
    expires_at         BIGINT NOT NULL,
    -- When its answer was there (UTC ms); null before, and where the process ended in between.
    answered_at        BIGINT,
    -- Status, headers and body as JSON, sealed; null where it is not, or no longer, kept.
    answer_sealed      TEXT,
    -- Until when the answer is kept (UTC ms): one that shows a secret goes before its row.
    answer_until       BIGINT
);
CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires_at);
