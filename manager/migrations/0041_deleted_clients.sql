-- Ids of clients that are gone: none is given again, so that what is on record about one (keys,
-- forms, the audit trail, usage) never becomes another's.
CREATE TABLE deleted_clients (
    id            TEXT   NOT NULL PRIMARY KEY, -- clients.id
    name          TEXT   NOT NULL,             -- as it was; free again
    display_name  TEXT   NOT NULL,             -- as it was; free again
    deleted_at    BIGINT NOT NULL,             -- UTC ms
    deleted_by    TEXT   NOT NULL              -- as the audit trail names who did it
);
