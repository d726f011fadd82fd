-- The audit log: a Merkle tree (RFC 9162) of encoded records. One row says where the tree stands; who appends holds it.
CREATE TABLE audit_tree (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    tree_id    uuid NOT NULL DEFAULT gen_random_uuid(),
    size       bigint NOT NULL DEFAULT 0,
    frontier   bytea NOT NULL DEFAULT ''   -- concatenated hashes, largest subtree first
);
INSERT INTO audit_tree DEFAULT VALUES;

CREATE TABLE audit_records (
    index        bigint PRIMARY KEY,       -- of the leaf
    event_id     uuid NOT NULL UNIQUE,     -- exactly once
    occurred_at  timestamptz NOT NULL,
    action       text NOT NULL,
    actor        text NOT NULL,
    agent_id     uuid,
    leaf         bytea NOT NULL,           -- an encoded AuditRecord
    leaf_hash    bytea NOT NULL
);
CREATE INDEX audit_records_actor ON audit_records (actor, index);
CREATE INDEX audit_records_agent ON audit_records (agent_id, index) WHERE agent_id IS NOT NULL;
CREATE INDEX audit_records_action ON audit_records (action text_pattern_ops, index);
CREATE INDEX audit_records_occurred ON audit_records USING brin (occurred_at);

-- Complete nodes of every eighth level above the leaves; the levels between are hashed again when a proof needs them.
CREATE TABLE audit_nodes (
    level  smallint NOT NULL,
    index  bigint NOT NULL,
    hash   bytea NOT NULL,
    PRIMARY KEY (level, index)
);

-- Records on their way into the tree, written in the transaction that applied the event or made it.
CREATE TABLE audit_pending (
    event_id     uuid PRIMARY KEY,
    occurred_at  timestamptz NOT NULL,
    action       text NOT NULL,
    actor        text NOT NULL,
    agent_id     uuid,
    leaf         bytea NOT NULL
);

CREATE TABLE audit_heads (
    size           bigint PRIMARY KEY,
    made_at        timestamptz NOT NULL,
    previous_size  bigint NOT NULL,        -- 0: the first
    head           bytea NOT NULL,         -- CMS SignedData over an encoded AuditHead
    consistency    bytea NOT NULL,         -- concatenated hashes, from the previous head
    in_file        boolean NOT NULL DEFAULT false,
    in_webhook     boolean NOT NULL DEFAULT false,
    webhook_tries  integer NOT NULL DEFAULT 0
);
CREATE INDEX audit_heads_unwitnessed ON audit_heads (size) WHERE NOT in_file OR NOT in_webhook;

CREATE TABLE alerts (
    id               uuid PRIMARY KEY,
    kind             smallint NOT NULL,    -- Alert.Kind
    entity           text NOT NULL,
    agent_id         uuid,
    message          text NOT NULL DEFAULT '',
    first_at         timestamptz NOT NULL,
    last_at          timestamptz NOT NULL,
    count            bigint NOT NULL DEFAULT 1,
    acknowledged_at  timestamptz,
    acknowledged_by  text,
    resolved_at      timestamptz,
    resolved_by      text
);
CREATE UNIQUE INDEX alerts_open ON alerts (kind, entity) WHERE resolved_at IS NULL;
CREATE INDEX alerts_agent ON alerts (agent_id, id) WHERE agent_id IS NOT NULL;
CREATE INDEX alerts_resolved ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;
