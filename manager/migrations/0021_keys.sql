-- DGRK keys. The secrets of a key stand in key_secrets, its APIs in key_apis.
CREATE TABLE keys (
    -- key_<26 characters>.
    id              TEXT PRIMARY KEY NOT NULL,
    -- Whose (clients.id).
    client_id       TEXT NOT NULL,
    -- The public half, as requests present it; compared with case.
    api_key         TEXT NOT NULL,
    -- Its name, for people.
    alias           TEXT NOT NULL,
    -- First and last instant at which it works (UTC ms, both included).
    effective_at    BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    -- Calls that it may make in all; -1 = unlimited. What is used is the ledger's business.
    use_quota       BIGINT NOT NULL,
    -- active, inactive, revoked.
    state           TEXT NOT NULL,
    -- When it was revoked (UTC ms); null unless `revoked`.
    revoked_at      BIGINT,
    -- issued (the pair was made here) or imported.
    origin          TEXT NOT NULL,
    -- Counts the changes, for If-Match.
    version         BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX keys_api_key_key ON keys (api_key);
CREATE INDEX keys_client ON keys (client_id, id);
CREATE INDEX keys_expiry ON keys (expires_at);

CREATE TABLE key_secrets (
    -- sec_<26 characters>; named in usage reports.
    id              TEXT PRIMARY KEY NOT NULL,
    key_id          TEXT NOT NULL,
    -- The secret key's text, sealed with purpose `keys.secret`.
    sealed          TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    -- Last use that a gateway reported (UTC ms); null = never.
    last_used_at    BIGINT
);
CREATE INDEX key_secrets_key ON key_secrets (key_id, created_at);

CREATE TABLE key_apis (
    key_id          TEXT NOT NULL,
    api_uid         TEXT NOT NULL,
    PRIMARY KEY (key_id, api_uid)
);
CREATE INDEX key_apis_api ON key_apis (api_uid);
