-- A password that somebody else has set, or that was generated, serves only to set an own one.
ALTER TABLE operators ADD COLUMN must_change_password BIGINT NOT NULL DEFAULT 0; -- 1 = yes

-- What a token may do at most; the roles of its operator bound it too.
ALTER TABLE operator_tokens ADD COLUMN permissions TEXT; -- names separated by spaces; NULL = all that the roles permit
-- Written at most once a minute.
ALTER TABLE operator_tokens ADD COLUMN last_used_at BIGINT; -- UTC ms; NULL = never
