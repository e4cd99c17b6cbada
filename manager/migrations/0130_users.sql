-- People on whose behalf clients obtain tokens: resource owners. They are no operators.
CREATE TABLE users (
    id               TEXT   NOT NULL PRIMARY KEY, -- us_…
    name             TEXT   NOT NULL,             -- signs in with it; folded to lower case
    display_name     TEXT   NOT NULL,
    email            TEXT,                        -- NULL: not known
    org_id           TEXT,                        -- goes into tokens as org_id; NULL: into none
    password_hash    TEXT,                        -- argon2id, PHC text; NULL: has none, signs in elsewhere
    status           TEXT   NOT NULL,             -- active, disabled, locked: set by an operator
    failed_attempts  BIGINT NOT NULL,             -- wrong passwords since the last right one
    search           TEXT   NOT NULL,             -- name, display name and address, folded
    created_at       BIGINT NOT NULL,             -- UTC ms
    updated_at       BIGINT NOT NULL,             -- UTC ms
    version          BIGINT NOT NULL,             -- 1, 2, 3 …: If-Match
    CONSTRAINT users_name_key UNIQUE (name)
);

UPDATE roles SET permissions = permissions || ' users.read'
 WHERE name IN ('auditor', 'client_manager') AND permissions <> '*';
