-- Certificates that were revoked before their end, and the newest list of each issuing CA.
CREATE TABLE revoked (
    issuer      text NOT NULL,
    serial      text NOT NULL CHECK (serial ~ '^[0-9a-f]{2,40}$'),
    agent_id    uuid NOT NULL,
    reason      smallint NOT NULL,
    revoked_at  timestamptz NOT NULL,
    not_after   timestamptz NOT NULL,
    listed_in   bigint,                   -- number of the first list that has it
    PRIMARY KEY (issuer, serial)
);
CREATE INDEX revoked_unlisted ON revoked (issuer) WHERE listed_in IS NULL;
CREATE INDEX revoked_agent ON revoked (agent_id);

CREATE TABLE crl (
    issuer       text PRIMARY KEY,
    number       bigint NOT NULL CHECK (number > 0),
    this_update  timestamptz NOT NULL,
    next_update  timestamptz NOT NULL,
    der          bytea NOT NULL,
    late_told    boolean NOT NULL DEFAULT false
);
