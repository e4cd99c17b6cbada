-- Leases of the next window, handed out in the last seconds of the present one: they count in a generation
-- of their own, which begins with the window. All NULL = none were.
ALTER TABLE meters ADD COLUMN ahead_generation BIGINT; -- its number, higher than any before
ALTER TABLE meters ADD COLUMN ahead_window_end BIGINT; -- UTC ms, end of the window that it is for
ALTER TABLE meters ADD COLUMN ahead_debited    BIGINT; -- units handed out in it, net of what came back

ALTER TABLE lease_streams ADD COLUMN opens_at BIGINT;  -- granted: UTC ms from which it may be spent; NULL = at once
