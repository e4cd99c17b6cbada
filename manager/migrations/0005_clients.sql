-- Who calls: applications and partners.
CREATE TABLE clients (
    id                  TEXT   NOT NULL PRIMARY KEY, -- the client id (user name); never changes
    name                TEXT   NOT NULL,             -- the client's code
    display_name        TEXT   NOT NULL,
    application_number  TEXT,                        -- NULL: none
    password_hash       TEXT   NOT NULL,             -- argon2id, PHC text
    failed_attempts     BIGINT NOT NULL,             -- wrong passwords since the last right one
    allowed_attempts    BIGINT NOT NULL,             -- at so many, password credentials are closed
    status              TEXT   NOT NULL,             -- active, disabled, locked
    start_date          TEXT,                        -- yyyy-MM-dd in time_zone, first day; NULL: always (then expiry_date too)
    expiry_date         TEXT,                        -- yyyy-MM-dd in time_zone, last day; NULL: always (then start_date too)
    service_from        TEXT,                        -- HH:mm in time_zone, first minute; NULL: all day (then service_until too)
    service_until       TEXT,                        -- HH:mm in time_zone, last minute; NULL: all day (then service_from too)
    time_zone           TEXT   NOT NULL,             -- IANA name
    quota               BIGINT NOT NULL,             -- calls per period; 0 = unlimited
    quota_period        TEXT   NOT NULL,             -- day, week, month, total
    tps                 BIGINT NOT NULL,             -- requests per second and node; 0 = unlimited
    priority            BIGINT NOT NULL,             -- 0 (best) to 9
    audience            TEXT   NOT NULL,             -- both, internal, external
    security_level      TEXT   NOT NULL,             -- A (highest) to D, SYSTEM (lowest)
    note                TEXT   NOT NULL,             -- the owner
    emails              TEXT   NOT NULL,             -- separated by commas; '' = none
    remark              TEXT   NOT NULL,
    search              TEXT   NOT NULL,             -- id, names and application number in lower case
    created_at          BIGINT NOT NULL,             -- UTC ms
    updated_at          BIGINT NOT NULL,             -- UTC ms
    version             BIGINT NOT NULL,             -- 1, 2, 3 …: If-Match
    CONSTRAINT clients_name_key UNIQUE (name),
    CONSTRAINT clients_display_name_key UNIQUE (display_name)
);

-- From where a client may call. A client without any may call from everywhere.
CREATE TABLE client_bindings (
    client_id  TEXT   NOT NULL, -- clients.id
    position   BIGINT NOT NULL, -- 1, 2, 3 … as entered
    name       TEXT   NOT NULL, -- what people call it
    address    TEXT   NOT NULL, -- IP address or CIDR block
    PRIMARY KEY (client_id, position)
);

CREATE TABLE client_groups (
    client_id  TEXT NOT NULL, -- clients.id
    group_id   TEXT NOT NULL REFERENCES api_groups (id), -- a group that a client has cannot be deleted
    PRIMARY KEY (client_id, group_id)
);
CREATE INDEX client_groups_group ON client_groups (group_id);
