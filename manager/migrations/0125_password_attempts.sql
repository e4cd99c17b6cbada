-- A row is written with each attempt at a password, whoever has the name and whether anybody has it: the
-- attempts at a name that nobody has wait for the disk as the others do.
CREATE TABLE password_attempts (
    slot     BIGINT NOT NULL PRIMARY KEY, -- 0 to 63: by the hash of the name, which it does not tell
    attempts BIGINT NOT NULL              -- since there is this table
);
