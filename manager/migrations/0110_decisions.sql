-- What led to refusals, as gateways tell it: for whoever has the id of one and asks why.
CREATE TABLE decisions (
    id          TEXT PRIMARY KEY NOT NULL, -- as the caller was told: 16 hex digits, a hyphen, a number
    received_at BIGINT NOT NULL, -- UTC ms, by the manager's clock
    at          BIGINT NOT NULL, -- UTC ms, by the node's clock: the moment that it decided by
    gateway     TEXT NOT NULL,
    code        TEXT NOT NULL, -- of the denial
    client      TEXT, -- NULL = nobody's credential was named
    credential  TEXT,
    api         TEXT, -- uid; NULL = none is meant
    address     TEXT, -- of the caller; NULL = the node could not tell
    detail      TEXT NOT NULL -- all of it, as JSON; nothing secret is in it
);
CREATE INDEX decisions_received ON decisions (received_at, id);
CREATE INDEX decisions_client ON decisions (client, received_at);

-- Each worker's life that has reported, so that a repeat counts once.
CREATE TABLE decision_reports (
    boot        BIGINT PRIMARY KEY NOT NULL, -- the first half of its decisions' ids
    holder      TEXT NOT NULL, -- its Envoy process
    gateway     TEXT NOT NULL,
    seq         BIGINT NOT NULL, -- the last report that is on record
    reported_at BIGINT NOT NULL, -- UTC ms
    kept        BIGINT NOT NULL, -- its decisions that are, or were, on record
    not_kept    BIGINT NOT NULL -- its refusals of which only the number is known
);
CREATE INDEX decision_reports_reported ON decision_reports (reported_at);

-- How many of each hour are kept, which bounds them, and how many are not.
CREATE TABLE decision_hours (
    hour     BIGINT NOT NULL, -- UTC ms of its beginning
    code     TEXT NOT NULL,
    client   TEXT NOT NULL, -- '' = unknown
    kept     BIGINT NOT NULL,
    not_kept BIGINT NOT NULL,
    PRIMARY KEY (hour, code, client)
);

UPDATE roles SET permissions = permissions || ' decisions.read'
 WHERE name IN ('auditor', 'client_manager') AND permissions <> '*';
