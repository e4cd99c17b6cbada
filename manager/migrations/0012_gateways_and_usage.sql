-- Who may ask for grants and leases, the Envoys behind them, and what they count.

-- One entry per installation of the filter that shares a token.
CREATE TABLE gateways (
    id         TEXT   NOT NULL PRIMARY KEY, -- gw_...
    name       TEXT   NOT NULL,             -- as operators call it
    created_at BIGINT NOT NULL              -- UTC ms
);

CREATE UNIQUE INDEX gateways_name_key ON gateways (name);

-- At most two per gateway are live: the old and the new one while it rotates.
CREATE TABLE gateway_tokens (
    id         TEXT   NOT NULL PRIMARY KEY, -- gwt_...
    gateway    TEXT   NOT NULL,             -- gateways.id
    sha256     TEXT   NOT NULL,             -- lower-case hex SHA-256 of the token, which is 256 random bits
    created_at BIGINT NOT NULL,             -- UTC ms
    revoked_at BIGINT                       -- UTC ms; NULL = live
);

CREATE UNIQUE INDEX gateway_tokens_sha256_key ON gateway_tokens (sha256);
CREATE INDEX gateway_tokens_gateway ON gateway_tokens (gateway);

-- One per Envoy process. A holder belongs to the gateway that first named it.
CREATE TABLE holders (
    id                 TEXT   NOT NULL PRIMARY KEY, -- gate::id::HolderId, 32 hex digits
    gateway            TEXT   NOT NULL,             -- gateways.id
    first_seen_at      BIGINT NOT NULL,             -- UTC ms
    last_seen_at       BIGINT NOT NULL,             -- UTC ms, to within a second
    filter_version     TEXT   NOT NULL,             -- as the filter states it; '' = not stated yet
    directory_revision BIGINT NOT NULL,             -- the directory it works with
    feed_revision      BIGINT NOT NULL,             -- the last change it knows
    leases_held        BIGINT NOT NULL              -- as it states
);

CREATE INDEX holders_gateway ON holders (gateway, last_seen_at);

-- The last report counted of each VM's life: a repeat counts once.
CREATE TABLE usage_reports (
    holder     TEXT   NOT NULL, -- holders.id
    slot       BIGINT NOT NULL, -- the VM within the holder
    boot       BIGINT NOT NULL, -- 63 random bits of that VM's life
    seq        BIGINT NOT NULL, -- number of the last report counted
    counted_at BIGINT NOT NULL, -- UTC ms
    PRIMARY KEY (holder, slot, boot)
);

-- Calls per hour, credential, API and result.
CREATE TABLE usage_hours (
    hour       BIGINT NOT NULL, -- UTC ms of the hour's first instant
    credential TEXT   NOT NULL, -- '' = unknown caller
    api        TEXT   NOT NULL, -- apis uid; '' = none matched
    result     TEXT   NOT NULL, -- admitted, or the code of the denial
    calls      BIGINT NOT NULL,
    PRIMARY KEY (hour, credential, api, result)
);

CREATE INDEX usage_hours_credential ON usage_hours (credential, hour);
