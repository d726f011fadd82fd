-- Heads of the audit log that agents verified and signed with their task keys: one in an agent's day, each of a head of
-- this tree.
CREATE TABLE audit_cosignatures (
    tree_id   uuid NOT NULL,
    size      bigint NOT NULL,
    agent_id  uuid NOT NULL,
    day       bigint NOT NULL,             -- days begin at another moment for each agent
    made_at   timestamptz NOT NULL,
    signer    text NOT NULL,               -- fingerprint of the task certificate
    cms       bytea NOT NULL,              -- CMS SignedData over an encoded Cosignature
    PRIMARY KEY (tree_id, size, agent_id)
);
CREATE UNIQUE INDEX audit_cosignatures_day ON audit_cosignatures (agent_id, tree_id, day);
CREATE INDEX audit_cosignatures_made ON audit_cosignatures USING brin (made_at);
