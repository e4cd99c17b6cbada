-- After a rotation: when the old secret ends by itself.
ALTER TABLE key_secrets ADD COLUMN ends_at BIGINT; -- UTC ms; NULL = when it is retired by hand
