-- People who administer, apply or review.
CREATE TABLE operators (
    id               TEXT   NOT NULL PRIMARY KEY, -- op_…
    name             TEXT   NOT NULL,             -- signs in with it; folded to lower case
    display_name     TEXT   NOT NULL,
    email            TEXT,                        -- NULL: gets no mails
    password_hash    TEXT,                        -- argon2id, PHC text; NULL: cannot sign in by password
    status           TEXT   NOT NULL,             -- active, disabled
    failed_attempts  BIGINT NOT NULL,             -- wrong passwords since the last right one
    created_at       BIGINT NOT NULL,             -- UTC ms
    updated_at       BIGINT NOT NULL,             -- UTC ms
    version          BIGINT NOT NULL,             -- 1, 2, 3 …: If-Match
    CONSTRAINT operators_name_key UNIQUE (name)
);

-- Names of roles and what they permit.
CREATE TABLE roles (
    name         TEXT   NOT NULL PRIMARY KEY,
    description  TEXT   NOT NULL,
    permissions  TEXT   NOT NULL, -- names separated by spaces; * = everything
    created_at   BIGINT NOT NULL  -- UTC ms
);

CREATE TABLE operator_roles (
    operator_id  TEXT NOT NULL, -- operators.id
    role         TEXT NOT NULL, -- roles.name
    PRIMARY KEY (operator_id, role)
);
CREATE INDEX operator_roles_role ON operator_roles (role);

-- What an operator presents as Bearer: a session (from a sign-in) or an API token.
CREATE TABLE operator_tokens (
    id           TEXT   NOT NULL PRIMARY KEY, -- ot_…
    operator_id  TEXT   NOT NULL,             -- operators.id
    kind         TEXT   NOT NULL,             -- session, api
    name         TEXT   NOT NULL,             -- what the owner calls it; '' for sessions
    sha256       TEXT   NOT NULL,             -- lower-case hex of the token's text
    created_at   BIGINT NOT NULL,             -- UTC ms
    expires_at   BIGINT,                      -- UTC ms, last instant; NULL: never (API tokens)
    revoked_at   BIGINT,                      -- UTC ms; NULL: not revoked
    CONSTRAINT operator_tokens_sha256_key UNIQUE (sha256)
);
CREATE INDEX operator_tokens_operator ON operator_tokens (operator_id, id);

INSERT INTO roles (name, description, permissions, created_at) VALUES
    ('admin', 'May do everything', '*', 0),
    ('applicant', 'Applies for keys and follows its forms', 'catalog.read clients.read applications.apply', 0),
    ('reviewer_1', 'Reviews forms at the first level', 'catalog.read clients.read applications.read applications.review', 0),
    ('reviewer_2', 'Reviews forms at the second level', 'catalog.read clients.read applications.read applications.review', 0),
    ('auditor', 'Sees everything, changes nothing', 'operators.read catalog.read clients.read keys.read applications.read mail.read quotas.read gateways.read usage.read audit.read', 0);
