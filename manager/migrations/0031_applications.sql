-- Forms to obtain (KA), change (KU) or revoke (KR) a key.
CREATE TABLE applications (
    id             TEXT   NOT NULL PRIMARY KEY,
    kind           TEXT   NOT NULL, -- KA, KU or KR
    number         TEXT,            -- KA-yyyyMMdd-0001; null until first submitted
    applicant      TEXT   NOT NULL, -- operator who filed it
    version        BIGINT NOT NULL, -- 1 at first, then one more with every action: what If-Match compares
    created_at     BIGINT NOT NULL, -- UTC ms
    submitted_at   BIGINT,          -- UTC ms of the last submission; null until first submitted
    updated_at     BIGINT NOT NULL, -- UTC ms
    -- What it asks for.
    client         TEXT   NOT NULL, -- client whose key it is about
    key_id         TEXT,            -- KU, KR: the key to change or revoke; null on KA
    name           TEXT,            -- the key's name; null on KR
    effective_date TEXT   NOT NULL, -- yyyy-MM-dd in the installation's zone, inclusive
    expiry_date    TEXT,            -- yyyy-MM-dd in the installation's zone, inclusive; null on KR
    quota          BIGINT,          -- uses; -1 = unlimited; null on KR
    reset_usage    BIGINT,          -- KU: 1 = uses so far no longer count, 0 = they do; else null
    description    TEXT   NOT NULL,
    search         TEXT   NOT NULL, -- number, client, name and description in lower case, for keyword search
    -- Where it stands.
    state          TEXT   NOT NULL, -- draft, pending_order, returned, approved, rejected, cancelled
    level          BIGINT,          -- pending_order: waits there; returned, rejected: ended there; else null
    levels         BIGINT,          -- pending_order, returned: levels as submitted; else null
    ended_at       BIGINT,          -- UTC ms of approval, rejection or cancellation; else null
    effect         TEXT,            -- approved: done, scheduled, stopped or failed; else null
    effect_at      BIGINT,          -- UTC ms: when it was done, stopped or failed, or is due; null without effect
    effect_key     TEXT,            -- done: the key issued, changed or revoked; else null
    effect_failure TEXT,            -- failed: why; else null
    open_key       TEXT             -- key_id from submission to the end of the form, else null
);

CREATE UNIQUE INDEX applications_number_key ON applications (number);
-- One change or revoke form per key at a time.
CREATE UNIQUE INDEX applications_open_key_key ON applications (open_key);
CREATE INDEX applications_by_state ON applications (state, kind, level);
CREATE INDEX applications_by_age ON applications (created_at, id);
CREATE INDEX applications_by_applicant ON applications (applicant, created_at);
CREATE INDEX applications_by_client ON applications (client, created_at);
CREATE INDEX applications_by_due ON applications (effect, effect_at);

-- The APIs that a form chooses; none on KR.
CREATE TABLE application_apis (
    application_id TEXT NOT NULL, -- applications.id
    api_uid        TEXT NOT NULL,
    PRIMARY KEY (application_id, api_uid)
);

-- Who did what with a form, and when: never changed, thrown away only with a draft.
CREATE TABLE application_history (
    application_id TEXT   NOT NULL, -- applications.id
    version        BIGINT NOT NULL, -- the version of the form that the action made
    at             BIGINT NOT NULL, -- UTC ms
    actor          TEXT   NOT NULL, -- operator, or `keygate` for what the manager did by itself
    action         TEXT   NOT NULL, -- save, edit, submit, resubmit, approve, return, reject, withdraw, stop, apply, fail
    level          BIGINT,          -- approve, return, reject: the level that signed; else null
    comment        TEXT   NOT NULL, -- empty = none
    state          TEXT   NOT NULL, -- where the form stood afterwards
    PRIMARY KEY (application_id, version)
);

CREATE INDEX application_history_by_actor ON application_history (actor, action, application_id);

-- The last number drawn for each kind and day. Drawn in the transaction of the submission: no gaps.
CREATE TABLE application_numbers (
    kind TEXT   NOT NULL,
    day  TEXT   NOT NULL, -- yyyyMMdd in the installation's zone
    last BIGINT NOT NULL,
    PRIMARY KEY (kind, day)
);
