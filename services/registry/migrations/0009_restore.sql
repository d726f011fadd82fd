-- A restore from a backup begins a new tree of the audit log. Records are numbered on through all trees: the first of a
-- tree has the number `base`. Trees that ended stay readable.
ALTER TABLE audit_tree
    ADD COLUMN number  integer NOT NULL DEFAULT 1,
    ADD COLUMN base    bigint NOT NULL DEFAULT 0;

CREATE TABLE audit_trees_former (
    number     integer PRIMARY KEY,
    tree_id    uuid NOT NULL,
    base       bigint NOT NULL,
    size       bigint NOT NULL,            -- records that this database has of it
    last_size  bigint NOT NULL,            -- of the last head that anybody knew
    last_root  bytea NOT NULL,
    ended_at   timestamptz NOT NULL
);
CREATE VIEW audit_trees AS
    SELECT number, tree_id, base, size FROM audit_trees_former
    UNION ALL SELECT number, tree_id, base, size FROM audit_tree;

ALTER TABLE audit_nodes ADD COLUMN tree integer NOT NULL DEFAULT 1;
ALTER TABLE audit_nodes DROP CONSTRAINT audit_nodes_pkey;
ALTER TABLE audit_nodes ADD PRIMARY KEY (tree, level, index);

ALTER TABLE audit_heads ADD COLUMN tree integer NOT NULL DEFAULT 1;
ALTER TABLE audit_heads DROP CONSTRAINT audit_heads_pkey;
ALTER TABLE audit_heads ADD PRIMARY KEY (tree, size);
ALTER TABLE audit_heads ADD COLUMN origin bytea NOT NULL DEFAULT ''; -- concatenated hashes: that record 0 is in it

-- The newest signed head that an agent holds and this database does not: one row.
CREATE TABLE audit_reported (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    tree_id      uuid NOT NULL,
    size         bigint NOT NULL,
    root         bytea NOT NULL,
    agent_id     uuid NOT NULL,
    reported_at  timestamptz NOT NULL
);

-- Raised by each restore. told: the other services know of it.
ALTER TABLE platform
    ADD COLUMN epoch        bigint NOT NULL DEFAULT 0,
    ADD COLUMN restored_at  timestamptz,
    ADD COLUMN told         boolean NOT NULL DEFAULT true;
CREATE INDEX agents_held_back ON agents (id) WHERE disabled OR frozen_reason <> '';
