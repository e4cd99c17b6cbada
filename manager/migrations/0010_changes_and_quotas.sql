-- What the gateways hear of: the numbered list of changes, and the ledger of counted limits.

-- One row. Its counter is raised inside the transaction that changes something, so that numbers
-- become visible in their order: whoever takes number n + 1 waits until n is committed or gone.
CREATE TABLE feed_head (
    id       BIGINT NOT NULL PRIMARY KEY, -- always 1
    epoch    BIGINT NOT NULL,             -- 63 random bits: this life of the database; 0 = not drawn yet
    revision BIGINT NOT NULL              -- number of the newest change; 0 = none yet
);

INSERT INTO feed_head (id, epoch, revision) VALUES (1, 0, 0);

-- Without a gap from the oldest kept number to feed_head.revision.
CREATE TABLE changes (
    revision    BIGINT NOT NULL PRIMARY KEY,
    subject     TEXT   NOT NULL,          -- gate::wire::changes::Subject as JSON
    recorded_at BIGINT NOT NULL           -- UTC ms
);

-- One row: the source of meter numbers.
CREATE TABLE ledger_head (
    id         BIGINT NOT NULL PRIMARY KEY, -- always 1
    last_meter BIGINT NOT NULL              -- highest meter number given
);

INSERT INTO ledger_head (id, last_meter) VALUES (1, 0);

-- One counted limit. An owner without a row is unlimited.
CREATE TABLE meters (
    id            BIGINT NOT NULL PRIMARY KEY, -- gate::id::MeterId; locked in this order
    kind          TEXT   NOT NULL,             -- client_quota | key_uses | token_uses
    owner         TEXT   NOT NULL,             -- client id, key id or token id
    limit_units   BIGINT NOT NULL,             -- units per generation
    period        TEXT   NOT NULL,             -- total | day | week | month
    zone          TEXT   NOT NULL,             -- IANA name of the zone whose midnight turns the window
    horizon_s     BIGINT,                      -- seconds of demand that one lease should last for; NULL = the installation's
    generation    BIGINT NOT NULL,             -- life of the counter, from 1: every window and every reset begins one
    window_start  BIGINT,                      -- UTC ms; NULL = total
    window_end    BIGINT,                      -- UTC ms, first instant of the next window; NULL = total
    debited       BIGINT NOT NULL,             -- units handed out in this generation, net of what came back
    max_lease     BIGINT,                      -- units of one lease at most; NULL = a hundredth of the limit
    last_lease    BIGINT NOT NULL,             -- highest lease number given
    recalled_at   BIGINT                       -- UTC ms of the last recall in this generation; NULL = none yet
);

CREATE UNIQUE INDEX meters_kind_owner_key ON meters (kind, owner);

-- The last step of each stream of renewals, and what it was answered, so that a repeat gets the
-- same. Kept for an hour after the last step, or as long as the stream has leases.
CREATE TABLE lease_streams (
    meter      BIGINT NOT NULL, -- meters.id
    holder     TEXT   NOT NULL, -- holders.id
    rec        BIGINT NOT NULL, -- 63 random bits that the holder drew
    seq        BIGINT NOT NULL, -- the last step taken, from 1
    answer     TEXT   NOT NULL, -- granted | pending | exhausted | closed
    lease      BIGINT,          -- granted: its number
    generation BIGINT,          -- granted: the generation it was debited in
    units      BIGINT,          -- granted: its units
    spend_until BIGINT,         -- granted: UTC ms, end of the life that the holder was told
    window_end BIGINT,          -- granted, exhausted: UTC ms, end of the window; NULL = total
    remaining  BIGINT,          -- granted: what the meter had left after it
    stepped_at BIGINT NOT NULL, -- UTC ms of that step
    PRIMARY KEY (meter, holder, rec)
);

-- Units handed out and not given back. A row goes when its holder returns the lease; the row of
-- a holder that crashed stays, and counts as withheld, until the generation ends.
CREATE TABLE leases (
    meter      BIGINT NOT NULL, -- meters.id
    lease      BIGINT NOT NULL, -- number within the meter
    holder     TEXT   NOT NULL, -- holders.id
    rec        BIGINT NOT NULL, -- the stream that it belongs to
    generation BIGINT NOT NULL, -- the generation it was debited in
    units      BIGINT NOT NULL, -- at least 1
    expires_at BIGINT NOT NULL, -- UTC ms from which its holder certainly spends it no more
    PRIMARY KEY (meter, lease)
);

CREATE INDEX leases_holder ON leases (holder, expires_at);
