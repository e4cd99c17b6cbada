-- Reminders that a key ends.
ALTER TABLE keys ADD COLUMN expiry_set_at BIGINT; -- UTC ms: when the present expiry was set; NULL: when the key came on record
-- The reminder that was written last for the present expiry: so many days before; NULL = none.
ALTER TABLE keys ADD COLUMN reminded_days BIGINT;
ALTER TABLE x_api_keys ADD COLUMN reminded_days BIGINT;
-- Those that end within some days, page by page.
CREATE INDEX keys_ending ON keys (expires_at, id);
DROP INDEX keys_expiry;
CREATE INDEX x_api_keys_ending ON x_api_keys (expires_at, id);
-- What house-keeping deletes.
CREATE INDEX mails_ended ON mails (ended_at, id);
