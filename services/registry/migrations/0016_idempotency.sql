-- What an idempotency key was used for, for a day.
CREATE TABLE idempotency (
    actor           text NOT NULL,
    key             text NOT NULL,
    request_sha256  bytea NOT NULL CHECK (length(request_sha256) = 32),
    entity_id       text NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
