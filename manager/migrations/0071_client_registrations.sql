-- Forms that ask for a client (CR). They name no client that there is and no dates, so that the columns
-- `client` and `effective_date` may be null: SQLite changes that by a new table alone.
CREATE TABLE applications_with_registrations (
    id             TEXT   NOT NULL,
    kind           TEXT   NOT NULL, -- KA, KU, KR or CR
    number         TEXT,            -- KA-yyyyMMdd-0001; null until first submitted
    applicant_kind TEXT   NOT NULL DEFAULT 'operator', -- operator, client or visitor
    applicant      TEXT   NOT NULL, -- operator's or client's id, or visitor's e-mail address
    version        BIGINT NOT NULL, -- 1 at first, then one more with every action: what If-Match compares
    created_at     BIGINT NOT NULL, -- UTC ms
    submitted_at   BIGINT,          -- UTC ms of the last submission; null until first submitted
    updated_at     BIGINT NOT NULL, -- UTC ms
    -- What it asks for.
    client         TEXT,            -- client whose key it is about; null on CR
    key_id         TEXT,            -- KU, KR: the key to change or revoke; else null
    name           TEXT,            -- the key's name, CR: the client's; null on KR
    display_name   TEXT,            -- CR: the client's display name; else null
    emails         TEXT,            -- CR: the client's addresses, separated by commas; else null
    effective_date TEXT,            -- yyyy-MM-dd in the installation's zone, inclusive; null on CR
    expiry_date    TEXT,            -- yyyy-MM-dd in the installation's zone, inclusive; null on KR, CR
    quota          BIGINT,          -- uses; -1 = unlimited; null on KR, CR
    reset_usage    BIGINT,          -- KU: 1 = uses so far no longer count, 0 = they do; else null
    description    TEXT   NOT NULL,
    search         TEXT   NOT NULL, -- number, client, names and description in lower case, for keyword search
    -- Where it stands.
    state          TEXT   NOT NULL, -- draft, pending_order, returned, approved, rejected, cancelled
    level          BIGINT,          -- pending_order: waits there; returned, rejected: ended there; else null
    levels         BIGINT,          -- pending_order, returned: levels as submitted; else null
    ended_at       BIGINT,          -- UTC ms of approval, rejection or cancellation; else null
    effect         TEXT,            -- approved: done, scheduled, stopped or failed; else null
    effect_at      BIGINT,          -- UTC ms: when it was done, stopped or failed, or is due; null without effect
    effect_key     TEXT,            -- done: the key issued, changed or revoked; else null
    effect_client  TEXT,            -- done: the client that a CR made; else null
    effect_failure TEXT,            -- failed: why; else null
    open_key       TEXT,            -- key_id from submission to the end of the form, else null
    CONSTRAINT applications_by_id PRIMARY KEY (id)
);

INSERT INTO applications_with_registrations
    (id, kind, number, applicant_kind, applicant, version, created_at, submitted_at, updated_at,
     client, key_id, name, effective_date, expiry_date, quota, reset_usage, description, search,
     state, level, levels, ended_at, effect, effect_at, effect_key, effect_failure, open_key)
SELECT id, kind, number, applicant_kind, applicant, version, created_at, submitted_at, updated_at,
       client, key_id, name, effective_date, expiry_date, quota, reset_usage, description, search,
       state, level, levels, ended_at, effect, effect_at, effect_key, effect_failure, open_key
  FROM applications;

DROP TABLE applications;
ALTER TABLE applications_with_registrations RENAME TO applications;

CREATE UNIQUE INDEX applications_number_key ON applications (number);
-- One change or revoke form per key at a time.
CREATE UNIQUE INDEX applications_open_key_key ON applications (open_key);
CREATE INDEX applications_by_state ON applications (state, kind, level);
CREATE INDEX applications_by_age ON applications (created_at, id);
CREATE INDEX applications_by_applicant ON applications (applicant_kind, applicant, created_at);
CREATE INDEX applications_by_client ON applications (client, created_at);
CREATE INDEX applications_by_due ON applications (effect, effect_at);

-- The addresses from which a client that is asked for is to call; none: from everywhere.
CREATE TABLE application_bindings (
    application_id TEXT   NOT NULL, -- applications.id
    position       BIGINT NOT NULL, -- from 1, in the order in which they were entered
    name           TEXT   NOT NULL,
    address        TEXT   NOT NULL, -- IPv4, IPv6, CIDR or host name
    PRIMARY KEY (application_id, position)
);
