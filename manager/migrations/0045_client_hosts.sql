-- Host names that clients are bound to, and what the name service said of them.
CREATE TABLE host_names (
    name           TEXT   NOT NULL PRIMARY KEY, -- lower case, without a dot at the end
    addresses      TEXT   NOT NULL,             -- last good answer, sorted, separated by commas; '' = none, or too old to be used
    resolved_at    BIGINT,                      -- UTC ms of the last good answer; NULL: never
    tried_at       BIGINT,                      -- UTC ms of the last answer of any kind, or of the wait for one; NULL: never
    refused        TEXT   NOT NULL,             -- addresses of the last answer that may not be used; '' = none
    last_error     TEXT,                        -- what was wrong with the last answer; NULL: nothing
    due_at         BIGINT NOT NULL,             -- UTC ms from which it is asked for again
    claim          TEXT,                        -- the worker that asks; NULL: nobody does
    claimed_until  BIGINT                       -- UTC ms; then another may ask; NULL: nobody does
);
CREATE INDEX host_names_due ON host_names (due_at);

-- Which client is bound to which name: what is in client_bindings, as the worker needs it.
CREATE TABLE client_hosts (
    client_id  TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    name       TEXT NOT NULL REFERENCES host_names (name), -- a name that a client is bound to is not forgotten
    PRIMARY KEY (client_id, name)
);
CREATE INDEX client_hosts_name ON client_hosts (name);
