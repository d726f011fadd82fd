-- What this service keeps of the registry's agents and of bootstrap's identities. Versions are theirs.
CREATE TABLE agents (
    agent_id        uuid PRIMARY KEY,
    version         bigint NOT NULL,
    status          smallint NOT NULL,
    safe_mode       boolean NOT NULL,
    disabled        boolean NOT NULL,
    deleted         boolean NOT NULL,
    min_generation  integer NOT NULL,
    scope           bytea,               -- encoded Scope; NULL allows nothing
    agent_version   text
);

CREATE TABLE identities (
    agent_id          uuid NOT NULL,
    generation        integer NOT NULL,
    task_certificate  bytea NOT NULL,
    confirmed         boolean NOT NULL,
    version           bigint NOT NULL,
    PRIMARY KEY (agent_id, generation)
);
CREATE INDEX identities_confirmed ON identities (agent_id, version DESC, generation DESC) WHERE confirmed;

-- States: 1 SCHEDULED, 2 READY, 3 LEASED, 4 RUNNING, 5 SUCCEEDED, 6 INSTALLED_UNVERIFIED, 7 FAILED, 8 CANCELLED, 9 EXPIRED.
-- Kinds: 1 DEPLOY, 2 RENEW, 3 VALIDATE, 4 DISCOVER.
CREATE TABLE tasks (
    id                uuid PRIMARY KEY,
    agent_id          uuid NOT NULL,
    kind              smallint NOT NULL CHECK (kind BETWEEN 1 AND 4),
    state             smallint NOT NULL CHECK (state BETWEEN 1 AND 9),
    spec              bytea NOT NULL,
    attempt           integer NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    lease             integer NOT NULL DEFAULT 0 CHECK (lease >= 0),
    max_attempts      integer NOT NULL CHECK (max_attempts >= 1),
    priority          smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    version           bigint NOT NULL DEFAULT 1,
    created_by        text NOT NULL,
    idempotency_key   text,
    request_sha256    bytea NOT NULL,
    traceparent       text,
    created_at        timestamptz NOT NULL,
    not_before        timestamptz NOT NULL,
    deadline          timestamptz NOT NULL,
    leased_at         timestamptz,
    seen_at           timestamptz,         -- last delivered, or listed by its agent
    started_at        timestamptz,
    finished_at       timestamptz,
    phase             text,
    progress_permille integer,
    message           text,
    cancel_requested  boolean NOT NULL DEFAULT false,
    envelope          bytea,               -- the last one made: CMS, sealed for the agent
    result            bytea,               -- encoded TaskResult of the receipt that ended it
    CHECK ((state >= 5) = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX tasks_idempotency ON tasks (created_by, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_ready ON tasks (agent_id, priority DESC, id) WHERE state = 2;
CREATE INDEX tasks_held ON tasks (agent_id) WHERE state IN (3, 4);
CREATE INDEX tasks_seen ON tasks (seen_at) WHERE state IN (3, 4);
CREATE INDEX tasks_scheduled ON tasks (not_before) WHERE state = 1;
-- Not WHERE state IN (1, 2): a planner with old statistics would take it for leases, which look up by agent.
CREATE INDEX tasks_deadline ON tasks (deadline) WHERE finished_at IS NULL;
CREATE INDEX tasks_agent ON tasks (agent_id, id DESC);

CREATE TABLE task_dependencies (
    task_id        uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    after_task_id  uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    PRIMARY KEY (task_id, after_task_id)
);
CREATE INDEX task_dependencies_after ON task_dependencies (after_task_id);

-- Pages of a result until its receipt arrives.
CREATE TABLE result_pages (
    task_id      uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    attempt      integer NOT NULL,
    page         integer NOT NULL CHECK (page BETWEEN 1 AND 64),
    data         bytea NOT NULL,
    received_at  timestamptz NOT NULL,
    PRIMARY KEY (task_id, attempt, page)
);
CREATE INDEX result_pages_received ON result_pages (received_at);

-- Every receipt that verified, as it was signed; late ones came for a task that had already ended.
CREATE TABLE receipts (
    task_id      uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    attempt      integer NOT NULL,
    sha256       bytea NOT NULL,
    receipt      bytea NOT NULL,
    generation   integer NOT NULL,
    outcome      smallint NOT NULL,
    late         boolean NOT NULL,
    result       bytea,
    received_at  timestamptz NOT NULL,
    PRIMARY KEY (task_id, attempt, sha256)
);
