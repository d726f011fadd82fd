-- What the platform itself holds against an agent, beside what the agent reports of itself.
ALTER TABLE agents
    ADD COLUMN frozen_reason       text NOT NULL DEFAULT '',      -- 'CLONE', 'SECOND_KEY'; '': not frozen
    ADD COLUMN operator_safe_mode  boolean NOT NULL DEFAULT false,
    ADD COLUMN token_generation    bigint NOT NULL DEFAULT 0;     -- of the last fresh token: below are former installations

-- Two installations under one identity take turns: `returns` counts how often an instance came back after another.
ALTER TABLE heartbeats
    ADD COLUMN former_instance_id  text,
    ADD COLUMN returns             integer NOT NULL DEFAULT 0,
    ADD COLUMN returns_since       timestamptz;
