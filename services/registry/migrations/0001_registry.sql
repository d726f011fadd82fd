-- Agents: what changes seldom. Every write of a row raises version and adds an event in the same transaction.
CREATE TABLE agents (
    id                    uuid PRIMARY KEY,
    hostname              text NOT NULL,
    status                smallint NOT NULL CHECK (status BETWEEN 1 AND 6), -- Agent.Status
    disabled              boolean NOT NULL DEFAULT false,
    disabled_reason       text NOT NULL DEFAULT '',
    safe_mode             boolean NOT NULL DEFAULT false,
    safe_mode_reason      text NOT NULL DEFAULT '',
    labels                jsonb NOT NULL DEFAULT '{}',
    scope                 bytea NOT NULL,            -- an encoded Scope
    min_generation        bigint NOT NULL DEFAULT 0, -- confirmed: identities below are refused
    generation            bigint NOT NULL DEFAULT 0, -- last seen in a heartbeat
    identity_generation   bigint NOT NULL DEFAULT -1, -- of the certificate below; -1: none issued
    identity_fingerprint  text,
    identity_not_after    timestamptz,
    created_at            timestamptz NOT NULL,
    bootstrapped_at       timestamptz,
    facts                 bytea,                     -- encoded HostFacts
    agent_version         text NOT NULL DEFAULT '',
    version               bigint NOT NULL DEFAULT 1,
    created_by            text NOT NULL,
    idempotency_key       text,
    request_sha256        bytea,
    UNIQUE (created_by, idempotency_key)
);
CREATE INDEX agents_hostname ON agents (hostname text_pattern_ops);
CREATE INDEX agents_status ON agents (status, id);
CREATE INDEX agents_labels ON agents USING gin (labels);
CREATE INDEX agents_identity_end ON agents (identity_not_after) WHERE identity_not_after IS NOT NULL;

-- What changes with every heartbeat: narrow, no index but the key, so that an update stays on its page.
CREATE TABLE heartbeats (
    agent_id       uuid PRIMARY KEY REFERENCES agents ON DELETE CASCADE,
    last_at        timestamptz, -- NULL: never heard
    interval_ms    integer NOT NULL DEFAULT 30000,
    gateway_id     text,
    instance_id    text,
    boot_id        text,
    clock_skew_ms  bigint,
    watched        boolean NOT NULL DEFAULT false -- its agent is ONLINE or SAFE_MODE: the sweep looks at nothing else
) WITH (fillfactor = 60);

-- A gateway that was away gives its agents time to come back: their silence counts from counting_from on.
CREATE TABLE gateways (
    id             text PRIMARY KEY,
    epoch          text NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    counting_from  timestamptz NOT NULL
) WITH (fillfactor = 60);

-- The same for the platform as a whole: one row.
CREATE TABLE platform (
    singleton      boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_sweep_at  timestamptz NOT NULL,
    counting_from  timestamptz NOT NULL
);
INSERT INTO platform (last_sweep_at, counting_from) VALUES (now(), now());

-- Agents by status, kept as differences in the transaction that made them, so that no two writers wait for each other
-- at one row; the sweep folds them.
CREATE TABLE agent_counts (
    status  smallint NOT NULL,
    n       bigint NOT NULL
);

CREATE TABLE activity (
    id           bigserial PRIMARY KEY,
    occurred_at  timestamptz NOT NULL,
    event        text NOT NULL,
    agent_id     uuid,
    actor        text NOT NULL DEFAULT '',
    message      text NOT NULL DEFAULT ''
);

CREATE TABLE api_keys (
    id              text PRIMARY KEY,
    name            text NOT NULL,
    hash            bytea NOT NULL CHECK (length(hash) = 32), -- SHA-256 of the whole key
    roles           integer NOT NULL,                         -- bits, 1 << Role
    label_selector  text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    revoked_at      timestamptz,
    last_used_at    timestamptz
);
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;
