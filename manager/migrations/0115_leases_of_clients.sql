-- How large the leases of a client's quota, of its keys and tokens are: read with each meter, so that the
-- next lease is as set. (meters.horizon_s and meters.max_lease, which nothing ever set, are read no more.)
ALTER TABLE clients ADD COLUMN lease_horizon_s   BIGINT; -- seconds of demand that a lease should last for, 1 to 86400; NULL = the installation's
ALTER TABLE clients ADD COLUMN max_lease_percent BIGINT; -- part of the limit that a lease may have, 1 to 100; NULL = the installation's
