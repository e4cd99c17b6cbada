-- A client may have no password: clients.password_hash is '' then, and password credentials are
-- closed until one is set. A password that was reset by mail serves only to set a new one; while
-- it stands, password_hash is '' too.
ALTER TABLE clients ADD COLUMN reset_hash       TEXT;   -- argon2id of the mailed password, PHC text; NULL: none was mailed
ALTER TABLE clients ADD COLUMN reset_expires_at BIGINT; -- UTC ms from which reset_hash serves no more; NULL with it
