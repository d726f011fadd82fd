-- Certificates that were issued and that their agents do not use yet, as far as anybody knows: what an agent's row says of its
-- identity is of the confirmed generation.
CREATE TABLE identities_pending (
    agent_id     uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    generation   bigint NOT NULL,
    fingerprint  text NOT NULL,
    not_after    timestamptz NOT NULL,
    PRIMARY KEY (agent_id, generation)
);
