-- Events of this service on their way to the stream, and which events of others it has applied.
CREATE TABLE outbox (
    id          uuid PRIMARY KEY,
    subject     text NOT NULL,
    body        bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    stream_seq  bigint
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE stream_seq IS NULL;

CREATE TABLE inbox (
    event_id    uuid PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbox_applied_at ON inbox (applied_at);

CREATE TABLE parked (
    event_id    text NOT NULL,
    subject     text NOT NULL,
    body        bytea NOT NULL,
    reason      text NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX parked_at ON parked (parked_at);

-- Which stream the relay's sequence numbers belong to; one row. A stream made anew gets everything again.
CREATE TABLE relay (
    singleton          boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    stream_created_ms  bigint NOT NULL
);
CREATE INDEX outbox_sent ON outbox (stream_seq) WHERE stream_seq IS NOT NULL;
