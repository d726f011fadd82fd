-- People: operators, the one-time links that make them, and their console sessions. Secrets are there as SHA-256 only,
-- passwords as scrypt texts.
CREATE TABLE operators (
    id              uuid PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    password        text NOT NULL, -- "scrypt$…"
    roles           integer NOT NULL,
    label_selector  text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    disabled_at     timestamptz
);

CREATE TABLE operator_links (
    hash        bytea PRIMARY KEY CHECK (length(hash) = 32),
    roles       integer NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);

CREATE TABLE sessions (
    id            uuid PRIMARY KEY,
    hash          bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    operator_id   uuid NOT NULL REFERENCES operators ON DELETE CASCADE,
    source        text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    last_used_at  timestamptz NOT NULL
);
CREATE INDEX sessions_operator ON sessions (operator_id);

-- Logins that were begun and did not succeed, by source and name ('' for all names of the source).
CREATE TABLE login_attempts (
    source   text NOT NULL,
    name     text NOT NULL,
    n        integer NOT NULL,
    ends_at  timestamptz NOT NULL,
    PRIMARY KEY (source, name)
);
