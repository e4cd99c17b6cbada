-- How the jobs of each replica fare, as it last told.
CREATE TABLE job_runs (
    replica         TEXT NOT NULL, -- rp_<26 characters>: one life of a process
    job             TEXT NOT NULL,
    last_run_at     BIGINT NOT NULL, -- UTC ms
    succeeded       BIGINT NOT NULL, -- 1 = its last run did
    last_failure_at BIGINT, -- UTC ms; NULL = none in this life
    last_error      TEXT, -- of that failure
    reported_at     BIGINT NOT NULL, -- UTC ms
    PRIMARY KEY (replica, job)
);
CREATE INDEX job_runs_reported ON job_runs (reported_at);
