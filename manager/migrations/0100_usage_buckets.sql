-- What was called, by minute, hour and day. Reports are counted by the minute; minutes are summed up to
-- hours and hours to days, and each is kept for a time of its own.

CREATE TABLE usage_calls (
    grain      TEXT   NOT NULL, -- minute, hour, day
    start      BIGINT NOT NULL, -- UTC ms of its first instant; hours and days are those of the installation's zone
    client     TEXT   NOT NULL, -- clients.id, also of one that is gone; '' = unknown caller
    credential TEXT   NOT NULL, -- '' = unknown caller
    api        TEXT   NOT NULL, -- apis uid; '' = none matched
    result     TEXT   NOT NULL, -- admitted, or the code of the denial
    calls      BIGINT NOT NULL,
    PRIMARY KEY (grain, start, client, credential, api, result)
);

CREATE INDEX usage_calls_client ON usage_calls (client, grain, start);
CREATE INDEX usage_calls_credential ON usage_calls (credential, grain, start);

-- How calls that were let in were answered.
CREATE TABLE usage_answers (
    grain   TEXT   NOT NULL, -- as in usage_calls
    start   BIGINT NOT NULL, -- as in usage_calls
    client  TEXT   NOT NULL, -- '' = nobody had to prove who calls
    api     TEXT   NOT NULL, -- apis uid
    result  TEXT   NOT NULL, -- answered_2xx and so on; answered_not = the stream ended without an answer
    le_ms   BIGINT NOT NULL, -- last millisecond of the histogram's bucket; 0 = the last bucket, which has no end
    answers BIGINT NOT NULL,
    ms      BIGINT NOT NULL, -- what they took together, from the head of the request to the end of the stream
    PRIMARY KEY (grain, start, client, api, result, le_ms)
);

CREATE INDEX usage_answers_client ON usage_answers (client, grain, start);

-- How far finer counts have been summed up.
CREATE TABLE usage_rolled (
    grain   TEXT   NOT NULL PRIMARY KEY, -- hour, day
    through BIGINT NOT NULL              -- UTC ms; what begins before it is in its rows of that grain
);
