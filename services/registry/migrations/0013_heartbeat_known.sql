-- What a heartbeat is compared with, beside it: a batch that says nothing new never reads the agents. Kept by whoever
-- saves an agent.
ALTER TABLE heartbeats
    ADD COLUMN known             text NOT NULL DEFAULT '',   -- the agent's own reason for safe mode, after a '!' if it is
    ADD COLUMN known_generation  bigint NOT NULL DEFAULT 0;
UPDATE heartbeats h SET known = CASE WHEN a.safe_mode THEN '!' ELSE '' END || a.safe_mode_reason,
    known_generation = a.generation FROM agents a WHERE a.id = h.agent_id;
