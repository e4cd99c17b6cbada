-- Since when an operator is active, or else disabled, without a break: what was agreed with an account ends with it,
-- although it may be enabled again.
ALTER TABLE operators ADD COLUMN active_since BIGINT NOT NULL DEFAULT 0; -- UTC ms; 0 = before this column

-- A reviewer hands the own signing to another operator for a while.
CREATE TABLE delegations (
    id         TEXT   NOT NULL PRIMARY KEY, -- dg_…
    principal  TEXT   NOT NULL,             -- operator whose signing it is
    delegate   TEXT   NOT NULL,             -- operator who signs on behalf
    begins_at  BIGINT NOT NULL,             -- UTC ms, first instant
    ends_at    BIGINT NOT NULL,             -- UTC ms, first instant after it
    reason     TEXT   NOT NULL,             -- empty = none
    created_at BIGINT NOT NULL,             -- UTC ms
    created_by TEXT   NOT NULL,             -- operator: the principal, or an administrator
    revoked_at BIGINT,                      -- UTC ms; null = not revoked
    revoked_by TEXT                         -- operator; null = not revoked
);
CREATE INDEX delegations_by_principal ON delegations (principal, ends_at);
CREATE INDEX delegations_by_delegate ON delegations (delegate, ends_at);
CREATE INDEX delegations_by_age ON delegations (created_at, id);
