-- Envoys are forgotten by when they were seen, and counted by it.
CREATE INDEX holders_last_seen ON holders (last_seen_at);
