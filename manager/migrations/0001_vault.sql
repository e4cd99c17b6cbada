-- Data keys: each seals secrets of other tables, and is itself sealed with the key-encryption key.
CREATE TABLE vault_keys (
    id          TEXT   NOT NULL PRIMARY KEY, -- dk_<n>, part of every text sealed with it
    sealed_key  TEXT   NOT NULL,             -- kv1:<id>:<base64url>, sealed with the KEK
    created_at  BIGINT NOT NULL              -- UTC ms; the newest seals what is new
);
