-- Withheld units of a total that an operator has given to others: nobody knows whether they were spent, so
-- that the limit in force is higher by them, limit_units + reclaimed_units. Their leases have no row any more.
ALTER TABLE meters ADD COLUMN reclaimed_units BIGINT NOT NULL DEFAULT 0; -- in this generation
