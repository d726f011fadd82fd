-- How hosts are doing. The history of an agent is two rings of rows that are written over and over, so that it never needs to
-- be cleaned: a slot is the number of its step modulo the ring's length (metrics.h).
CREATE TABLE metrics_latest (
    agent_id  uuid PRIMARY KEY REFERENCES agents ON DELETE CASCADE,
    at        timestamptz NOT NULL,
    sample    bytea NOT NULL              -- an encoded HostMetrics
) WITH (fillfactor = 60);

CREATE TABLE metrics (
    agent_id      uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    ring          smallint NOT NULL,
    slot          smallint NOT NULL,
    at            timestamptz NOT NULL,   -- begin of the step that the slot holds now
    samples       integer NOT NULL,
    cpu_samples   integer NOT NULL,
    cpu_sum       bigint NOT NULL,        -- thousandths
    cpu_max       bigint NOT NULL,
    load_sum      bigint NOT NULL,        -- thousandths, of the 1-minute average
    load_max      bigint NOT NULL,
    memory_used   bigint NOT NULL,        -- bytes; these and the following are the last of the step
    memory_total  bigint NOT NULL,
    disk_used     bigint NOT NULL,
    disk_total    bigint NOT NULL,
    uptime_sec    bigint NOT NULL,
    PRIMARY KEY (agent_id, ring, slot)
) WITH (fillfactor = 70);
