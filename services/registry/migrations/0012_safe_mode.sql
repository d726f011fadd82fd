-- The whole platform's safe mode, beside the one row's other concerns; version is that of its event.
ALTER TABLE platform
    ADD COLUMN safe_mode         boolean NOT NULL DEFAULT false,
    ADD COLUMN safe_mode_reason  text NOT NULL DEFAULT '',
    ADD COLUMN safe_mode_by      text NOT NULL DEFAULT '',
    ADD COLUMN safe_mode_since   timestamptz,
    ADD COLUMN version           bigint NOT NULL DEFAULT 0;

-- Since when an agent has its status.
ALTER TABLE agents ADD COLUMN status_since timestamptz;
UPDATE agents SET status_since = now();
CREATE INDEX alerts_agent_open ON alerts (agent_id) WHERE agent_id IS NOT NULL AND resolved_at IS NULL;
