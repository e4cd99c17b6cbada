-- Registered APIs: what gates let be called.
CREATE TABLE apis (
    uid             TEXT   NOT NULL PRIMARY KEY, -- api_…; what a DGRK key lists
    module          TEXT   NOT NULL,             -- groups the APIs of one back end
    api_id          TEXT   NOT NULL,             -- unique within the module
    name            TEXT   NOT NULL,
    description     TEXT   NOT NULL,
    hosts           TEXT   NOT NULL,             -- lower case, separated by spaces; '' = every host
    methods         TEXT   NOT NULL,             -- upper case, separated by spaces; '' = every method
    path_kind       TEXT   NOT NULL,             -- exact, prefix, template
    path            TEXT   NOT NULL,
    accepts         TEXT   NOT NULL,             -- dgrk, x_api_key, bearer, basic, separated by spaces
    no_auth         BIGINT NOT NULL,             -- 1: no credential is asked for
    enabled         BIGINT NOT NULL,             -- 0: calls are answered 503
    audience        TEXT   NOT NULL,             -- both, internal, external
    unsigned_forms  BIGINT NOT NULL,             -- 1: form and multipart bodies go unsigned
    source          TEXT   NOT NULL,             -- registered
    search          TEXT   NOT NULL,             -- folded module, id, name and path
    sort_key        TEXT   NOT NULL,             -- <module>/<api_id>
    revision        BIGINT NOT NULL,             -- of the change that altered its directory entry last
    created_at      BIGINT NOT NULL,             -- UTC ms
    updated_at      BIGINT NOT NULL,             -- UTC ms
    version         BIGINT NOT NULL,             -- 1, 2, 3 …: If-Match
    CONSTRAINT apis_module_api_id_key UNIQUE (module, api_id)
);
CREATE UNIQUE INDEX apis_sort_key_key ON apis (sort_key);
CREATE INDEX apis_revision ON apis (revision);

-- One row per host and method of an API: no two APIs answer at the same place.
CREATE TABLE api_routes (
    host     TEXT NOT NULL, -- '' = every host
    method   TEXT NOT NULL, -- '' = every method
    path     TEXT NOT NULL, -- <kind> <path>, with {} for each parameter of a template
    api_uid  TEXT NOT NULL, -- apis.uid
    CONSTRAINT api_routes_host_method_path_key UNIQUE (host, method, path)
);
CREATE INDEX api_routes_api ON api_routes (api_uid);

-- APIs that are gone, for holders of an older directory.
CREATE TABLE removed_apis (
    uid       TEXT   NOT NULL PRIMARY KEY,
    revision  BIGINT NOT NULL -- of the change that removed it
);
CREATE INDEX removed_apis_revision ON removed_apis (revision);

-- Sets of APIs that clients and their credentials are given.
CREATE TABLE api_groups (
    id              TEXT   NOT NULL PRIMARY KEY, -- gr_…
    name            TEXT   NOT NULL,             -- letters, digits, _ and -
    alias           TEXT   NOT NULL,             -- for people
    description     TEXT   NOT NULL,
    security_level  TEXT   NOT NULL,             -- A (highest), B, C, D, SYSTEM
    search          TEXT   NOT NULL,             -- folded name and alias
    created_at      BIGINT NOT NULL,             -- UTC ms
    updated_at      BIGINT NOT NULL,             -- UTC ms
    version         BIGINT NOT NULL,             -- 1, 2, 3 …: If-Match
    CONSTRAINT api_groups_name_key UNIQUE (name),
    CONSTRAINT api_groups_alias_key UNIQUE (alias)
);

CREATE TABLE api_group_apis (
    group_id  TEXT NOT NULL REFERENCES api_groups (id),
    api_uid   TEXT NOT NULL REFERENCES apis (uid),
    PRIMARY KEY (group_id, api_uid)
);
CREATE INDEX api_group_apis_api ON api_group_apis (api_uid);
