-- One row once a manager has served: what the directory says besides its APIs. When a manager
-- starts with other settings it writes them here and records a change of the directory.
CREATE TABLE directory_settings (
    id       BIGINT NOT NULL PRIMARY KEY, -- always 1
    settings TEXT   NOT NULL,             -- gate::wire::directory::Settings as JSON
    revision BIGINT NOT NULL              -- of the change that announced them
);
