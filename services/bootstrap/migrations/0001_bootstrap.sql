-- What clm-bootstrap knows: whose CA this is, tokens, identities, issued certificates, and its view of agents.

-- Which CA belongs to this database. Written once, by clm-bootstrap init; a server with another root refuses to start.
CREATE TABLE ca (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    root_sha256   text NOT NULL CHECK (root_sha256 ~ '^[0-9a-f]{64}$'),
    trust_domain  text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- A registration's secret, as its hash. Bound by its first use to two keys; burnt when their identity is confirmed.
CREATE TABLE token (
    id                    uuid PRIMARY KEY,
    secret_sha256         bytea NOT NULL UNIQUE CHECK (octet_length(secret_sha256) = 32),
    agent_id              uuid NOT NULL,
    hostname              text NOT NULL,
    created_by            text NOT NULL,
    created_at            timestamptz NOT NULL,
    not_after             timestamptz NOT NULL,
    identity_spki_sha256  bytea,
    task_spki_sha256      bytea,
    bound_at              timestamptz,
    used_at               timestamptz,
    revoked_at            timestamptz,
    version               bigint NOT NULL DEFAULT 1,
    CHECK ((identity_spki_sha256 IS NULL) = (bound_at IS NULL)),
    CHECK ((task_spki_sha256 IS NULL) = (bound_at IS NULL)),
    CHECK (used_at IS NULL OR bound_at IS NOT NULL)
);
CREATE INDEX token_open ON token (agent_id) WHERE used_at IS NULL AND revoked_at IS NULL;

-- One row an agent that ever had a certificate: its entity version, and the row that its changes lock.
CREATE TABLE agent_identity (
    agent_id              uuid PRIMARY KEY,
    version               bigint NOT NULL DEFAULT 0,
    issued_generation     integer CHECK (issued_generation >= 0),
    confirmed_generation  integer CHECK (confirmed_generation >= 0),
    CHECK (confirmed_generation IS NULL OR confirmed_generation <= issued_generation)
);

-- The pair of certificates of one generation.
CREATE TABLE identity (
    agent_id              uuid NOT NULL REFERENCES agent_identity,
    generation            integer NOT NULL CHECK (generation >= 0),
    token_id              uuid REFERENCES token,
    identity_spki_sha256  bytea NOT NULL,
    task_spki_sha256      bytea NOT NULL,
    identity_certificate  bytea NOT NULL,
    task_certificate      bytea NOT NULL,
    issuer_certificate    bytea NOT NULL,
    serial                text NOT NULL UNIQUE,
    fingerprint_sha256    text NOT NULL,
    not_after             timestamptz NOT NULL,
    issued_at             timestamptz NOT NULL,
    confirmed_at          timestamptz,
    PRIMARY KEY (agent_id, generation)
);
CREATE UNIQUE INDEX identity_token ON identity (token_id);

-- Certificates for the hosts' servers. One for each key under one attempt of a task.
CREATE TABLE certificate (
    task_id             uuid NOT NULL,
    attempt             integer NOT NULL CHECK (attempt > 0),
    spki_sha256         bytea NOT NULL,
    agent_id            uuid NOT NULL REFERENCES agent_identity,
    serial              text NOT NULL UNIQUE,
    certificate         bytea NOT NULL,
    issuer_certificate  bytea NOT NULL,
    not_after           timestamptz NOT NULL,
    issued_at           timestamptz NOT NULL,
    PRIMARY KEY (task_id, attempt, spki_sha256)
);
CREATE INDEX certificate_agent ON certificate (agent_id, issued_at);

-- Projection of the registry's agents: fed by its events, greater versions only. version 0: only CreateToken said so.
CREATE TABLE agent_scope (
    agent_id       uuid PRIMARY KEY,
    version        bigint NOT NULL,
    scope_version  bigint NOT NULL,
    operations     bigint[] NOT NULL,
    paths          text[] NOT NULL,
    dns_names      text[] NOT NULL,
    disabled       boolean NOT NULL
);
