-- issued (the text was made here) or imported (by its hash, from elsewhere).
ALTER TABLE x_api_keys ADD COLUMN origin TEXT NOT NULL DEFAULT 'issued';
-- Last call that a gateway reported as let in (UTC ms, by the minute); null = never.
ALTER TABLE x_api_keys ADD COLUMN last_used_at BIGINT;
-- Folded alias and mask, which searches compare.
ALTER TABLE x_api_keys ADD COLUMN search TEXT NOT NULL DEFAULT '';
UPDATE x_api_keys SET search = lower(alias || ' ' || mask);
