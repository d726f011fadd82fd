-- Safe mode: an agent's column of lib/safemode's table, and the platform's own flag, which counts for all of them.
ALTER TABLE agents
    ADD COLUMN safe_column  smallint NOT NULL DEFAULT 0, -- enum safe_column
    ADD COLUMN reason       text NOT NULL DEFAULT '';    -- of the status
UPDATE agents SET safe_column = CASE WHEN status = 2 THEN 4 WHEN disabled OR status = 1 THEN 3 WHEN safe_mode THEN 1 ELSE 0 END;

CREATE TABLE platform (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    safe_mode  boolean NOT NULL DEFAULT false,
    version    bigint NOT NULL DEFAULT 0
);
INSERT INTO platform DEFAULT VALUES;

-- The one change at a time that an admin releases for an agent in safe mode.
ALTER TABLE tasks ADD COLUMN break_glass boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX tasks_break_glass ON tasks (agent_id) WHERE break_glass AND finished_at IS NULL;

-- Orders that agents refused as not genuine: told once a minute and agent, so that nobody floods the audit log.
CREATE TABLE order_reports (
    agent_id  uuid PRIMARY KEY,
    told_at   timestamptz NOT NULL
);
