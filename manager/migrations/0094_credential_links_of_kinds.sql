-- What `key_id` is the id of: key, x_api_key or client, whose password it is. Of the latter two
-- `secret_id` is empty: they have one secret at a time.
ALTER TABLE credential_links ADD COLUMN kind TEXT NOT NULL DEFAULT 'key';
