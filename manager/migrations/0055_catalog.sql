-- One row, locked by every transaction that changes the catalogue: whether two APIs answer at the
-- same place can be told of the whole catalogue alone, so that writers take turns.
CREATE TABLE catalog_head (
    id      BIGINT NOT NULL PRIMARY KEY, -- always 1
    writes  BIGINT NOT NULL              -- transactions that have held it
);

INSERT INTO catalog_head (id, writes) VALUES (1, 0);

-- group: what clients and their credentials are given. scope: a virtual group, for delegated
-- authorization. Names and aliases are unique over both.
ALTER TABLE api_groups ADD COLUMN kind TEXT NOT NULL DEFAULT 'group';
CREATE INDEX api_groups_kind_name ON api_groups (kind, name);

ALTER TABLE apis ADD COLUMN labels TEXT NOT NULL DEFAULT '';     -- one a line, as entered; '' = none
ALTER TABLE apis ADD COLUMN label_keys TEXT NOT NULL DEFAULT ''; -- the same folded, with a line break before and after each
ALTER TABLE apis ADD COLUMN enable_at BIGINT;                    -- UTC ms at which it becomes enabled; NULL: not planned
ALTER TABLE apis ADD COLUMN disable_at BIGINT;                   -- UTC ms at which it becomes disabled; NULL: not planned
CREATE INDEX apis_enable_at ON apis (enable_at);
CREATE INDEX apis_disable_at ON apis (disable_at);

-- From now on `search` holds the description too.
UPDATE apis SET search = search || '
' || lower(description);
