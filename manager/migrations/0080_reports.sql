-- "API Key Approval History": keys newest first, with the forms that issued, changed and revoked them.
ALTER TABLE keys ADD COLUMN search TEXT NOT NULL DEFAULT ''; -- alias in lower case, for keyword search
UPDATE keys SET search = lower(alias);
CREATE INDEX keys_by_age ON keys (created_at, id);
CREATE INDEX keys_by_client_age ON keys (client_id, created_at, id);

ALTER TABLE deleted_clients ADD COLUMN search TEXT NOT NULL DEFAULT ''; -- id and names in lower case, for keyword search
UPDATE deleted_clients SET search = lower(id || '
' || name || '
' || display_name);

CREATE INDEX applications_by_effect_key ON applications (effect_key, effect_at);
