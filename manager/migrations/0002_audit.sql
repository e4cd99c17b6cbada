-- The audit trail: append-only, each entry's hash covers the one before.
CREATE TABLE audit_entries (
    seq      BIGINT NOT NULL PRIMARY KEY, -- 1, 2, 3 … without a gap
    at       BIGINT NOT NULL,             -- UTC ms
    actor    TEXT   NOT NULL,             -- operator:<id>, client:<id>, system or cli
    action   TEXT   NOT NULL,             -- capability.action, e.g. clients.create
    subject  TEXT   NOT NULL,             -- <kind>:<id> of what was acted on
    detail   TEXT   NOT NULL,             -- JSON object, nothing secret
    hash     TEXT   NOT NULL              -- lower-case hex SHA-256 over the hash before and all columns
);
CREATE INDEX audit_entries_subject ON audit_entries (subject, seq);

-- One row: the end of the chain; its lock puts entries in order.
CREATE TABLE audit_head (
    id    BIGINT NOT NULL PRIMARY KEY, -- 1
    seq   BIGINT NOT NULL,             -- of the last entry; 0 = none
    hash  TEXT   NOT NULL              -- of the last entry; '' = none
);
INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, '');
