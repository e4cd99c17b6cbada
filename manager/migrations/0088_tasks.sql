-- Scheduled work: each piece is a row. Any replica takes what is due.
CREATE TABLE tasks (
    -- task_<26 characters>.
    id              TEXT PRIMARY KEY NOT NULL,
    -- What is to be done, `<capability>.<action>`; a replica takes only kinds that it knows.
    kind            TEXT NOT NULL,
    -- What it is about, such as `key` and its id; of recurring work `period` and its name.
    about_kind      TEXT NOT NULL,
    about_id        TEXT NOT NULL,
    -- Names the piece of work: planned again under the same name it stays one.
    task_key        TEXT NOT NULL,
    -- What else the work needs to know, as its kind writes it; JSON.
    detail          TEXT NOT NULL,
    -- When it is to be done (UTC ms); never changes.
    due_at          BIGINT NOT NULL,
    -- waiting, running, done, failed, cancelled.
    state           TEXT NOT NULL,
    -- Not taken before (UTC ms): its time or the end of the back-off, of a running one the end of the claim.
    next_attempt_at BIGINT NOT NULL,
    -- Whoever runs it; null unless `running`.
    claim           TEXT,
    -- Attempts begun since it was planned, tried again by hand or last got on.
    attempts        BIGINT NOT NULL DEFAULT 0,
    -- How far it got, as its kind writes it; null: it is done in one piece, or has not begun.
    progress        TEXT,
    -- What came of it, for people; null before there is anything to say.
    result          TEXT,
    -- Why the last attempt failed; null: none has.
    last_error      TEXT,
    created_at      BIGINT NOT NULL,
    -- When it was done, given up or cancelled (UTC ms); null while it waits or runs.
    finished_at     BIGINT
);
CREATE UNIQUE INDEX tasks_task_key_key ON tasks (task_key);
-- What a replica may take next.
CREATE INDEX tasks_open ON tasks (next_attempt_at, due_at, id) WHERE finished_at IS NULL;
CREATE INDEX tasks_due ON tasks (due_at, id);
CREATE INDEX tasks_about ON tasks (about_kind, about_id);
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;

-- It sees everything.
UPDATE roles SET permissions = permissions || ' tasks.read' WHERE name = 'auditor' AND permissions <> '*';
