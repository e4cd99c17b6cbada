-- Who is told that a quota is nearly used up, and of what it was told.

-- At which parts of their quotas a client is told; a client without a row: at 80 % and 100 %.
CREATE TABLE client_quota_warnings (
    client_id  TEXT   NOT NULL PRIMARY KEY REFERENCES clients (id) ON DELETE CASCADE,
    percents   TEXT   NOT NULL, -- 50 to 100, ascending, separated by blanks; '' = never
    updated_at BIGINT NOT NULL, -- UTC ms
    version    BIGINT NOT NULL
);

-- Meters of which half or more is handed out and something may be to tell.
CREATE TABLE meter_watches (
    meter        BIGINT NOT NULL PRIMARY KEY, -- meters.id
    next_percent BIGINT                       -- nothing is to be told before this part is handed out; NULL = not known
);

-- What was told. Told once per generation and part; again after the limit was raised, if the part of
-- the new limit was not used by then.
CREATE TABLE meter_warnings (
    meter      BIGINT NOT NULL, -- meters.id
    generation BIGINT NOT NULL, -- of the meter
    percent    BIGINT NOT NULL, -- of the limit
    told_at    BIGINT NOT NULL, -- UTC ms
    PRIMARY KEY (meter, generation, percent)
);

INSERT INTO meter_watches (meter, next_percent)
SELECT id, NULL FROM meters WHERE debited * 2 >= limit_units;
