-- The scopes that a client has: what users may delegate to it.
CREATE TABLE client_scopes (
    client_id  TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    scope_id   TEXT NOT NULL REFERENCES api_groups (id), -- of kind scope; one that a client has cannot be deleted
    PRIMARY KEY (client_id, scope_id)
);
CREATE INDEX client_scopes_scope ON client_scopes (scope_id);
