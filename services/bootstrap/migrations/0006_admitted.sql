-- What the registry's gateways refuse is refused here, too: identities below this generation.
ALTER TABLE agent_scope ADD COLUMN min_generation bigint NOT NULL DEFAULT 0;
