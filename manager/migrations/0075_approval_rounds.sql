-- Where a submitted form stands among its signers. A form that is submitted again begins another round, in which
-- nobody has signed yet.
CREATE TABLE approval_rounds (
    form            TEXT   NOT NULL PRIMARY KEY, -- applications.id
    kind            TEXT   NOT NULL,             -- KA, KU, KR or CR
    number          TEXT   NOT NULL,             -- KA-yyyyMMdd-0001
    author_operator TEXT,                        -- operator who filed it; null = somebody else
    author_email    TEXT,                        -- address of a visitor who filed it; else null
    round           BIGINT NOT NULL,             -- 1 at first, then one more with every submission
    levels          BIGINT NOT NULL,             -- how many there were when it was submitted
    level           BIGINT,                      -- waits there; null = waits no longer
    since           BIGINT NOT NULL,             -- UTC ms: when that level began to wait, or the round ended
    reminded_at     BIGINT,                      -- UTC ms: when the level's reviewers were reminded; else null
    escalated_at    BIGINT,                      -- UTC ms: when the level was opened to others; else null
    reported_at     BIGINT                       -- UTC ms: when it was reported that nobody can sign; else null
);
CREATE INDEX approval_rounds_by_level ON approval_rounds (kind, level);

-- Who approved which level of which round: one signature each.
CREATE TABLE approval_signatures (
    form         TEXT   NOT NULL, -- applications.id
    round        BIGINT NOT NULL, -- approval_rounds.round
    level        BIGINT NOT NULL, -- from 1
    signer       TEXT   NOT NULL, -- operator
    on_behalf_of TEXT,            -- operator whose delegate signed; null = nobody's
    escalated    BIGINT NOT NULL, -- 1 = it took the escalation to be allowed
    at           BIGINT NOT NULL, -- UTC ms
    PRIMARY KEY (form, round, level)
);

-- Forms that were submitted before.
INSERT INTO approval_rounds (form, kind, number, author_operator, author_email, round, levels, level, since)
SELECT a.id, a.kind, a.number,
       CASE WHEN a.applicant_kind = 'operator' THEN a.applicant ELSE NULL END,
       CASE WHEN a.applicant_kind = 'visitor' THEN a.applicant ELSE NULL END,
       (SELECT COUNT(*) FROM application_history h
         WHERE h.application_id = a.id AND h.action IN ('submit', 'resubmit')),
       COALESCE(a.levels, a.level, 1),
       CASE WHEN a.state = 'pending_order' THEN a.level ELSE NULL END,
       a.updated_at
  FROM applications a
 WHERE a.number IS NOT NULL;

INSERT INTO approval_signatures (form, round, level, signer, escalated, at)
SELECT h.application_id, r.round, h.level, h.actor, 0, h.at
  FROM application_history h
  JOIN approval_rounds r ON r.form = h.application_id
 WHERE h.action = 'approve'
   AND h.version > (SELECT MAX(s.version) FROM application_history s
                     WHERE s.application_id = h.application_id AND s.action IN ('submit', 'resubmit'));

-- Who signed on whose behalf, and whether it took the escalation.
ALTER TABLE application_history ADD COLUMN on_behalf_of TEXT; -- operator whose delegate signed; null = nobody's
ALTER TABLE application_history ADD COLUMN escalated BIGINT;  -- 1 = signed by escalation; null or 0 = not
