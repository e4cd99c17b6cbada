-- The flow that forms of one kind pass. A kind without a row has no flow: its forms cannot be submitted.
CREATE TABLE approval_flows (
    kind       TEXT   NOT NULL PRIMARY KEY, -- KA, KU or KR
    version    BIGINT NOT NULL,             -- 1 at first, then one more with every change: what If-Match compares
    updated_at BIGINT NOT NULL,             -- UTC ms
    updated_by TEXT   NOT NULL              -- operator
);

-- The roles that sign each level of a flow. Levels are counted from 1 without gaps; every level has a role.
CREATE TABLE approval_flow_roles (
    kind  TEXT   NOT NULL, -- approval_flows.kind
    level BIGINT NOT NULL, -- from 1
    role  TEXT   NOT NULL, -- name of a role; whoever has one of a level's roles may sign it
    PRIMARY KEY (kind, level, role)
);
