-- X-Api-Keys. The text itself is nowhere.
CREATE TABLE x_api_keys (
    -- xak_<26 characters>.
    id              TEXT PRIMARY KEY NOT NULL,
    -- Whose (clients.id).
    client_id       TEXT NOT NULL,
    -- Its name, for people.
    alias           TEXT NOT NULL,
    -- SHA-256 of the text, lower-case hex.
    sha256          TEXT NOT NULL,
    -- First three characters, ***, last three.
    mask            TEXT NOT NULL,
    -- First and last instant at which it works (UTC ms, both included).
    effective_at    BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    -- The operator who created it.
    created_by      TEXT NOT NULL
);
CREATE UNIQUE INDEX x_api_keys_sha256_key ON x_api_keys (sha256);
CREATE INDEX x_api_keys_client ON x_api_keys (client_id, id);

CREATE TABLE x_api_key_groups (
    x_api_key_id    TEXT NOT NULL,
    group_id        TEXT NOT NULL,
    PRIMARY KEY (x_api_key_id, group_id)
);
CREATE INDEX x_api_key_groups_group ON x_api_key_groups (group_id);
