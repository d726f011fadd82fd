-- Which certificates the fleet's hosts have, where each is, and whether it is served. Hosts say so: what one says of a
-- certificate is its word, so a row is one certificate as it was described, and a host that lies has a row of its own.
CREATE TABLE certificates (
    id                  text PRIMARY KEY,          -- SHA-256 of the description
    fingerprint         text NOT NULL,             -- SHA-256 of the certificate
    subject             text NOT NULL,
    issuer              text NOT NULL,
    serial              text NOT NULL,
    dns_names           text[] NOT NULL,
    not_before          timestamptz NOT NULL,
    not_after           timestamptz NOT NULL,
    key_type            text NOT NULL,
    signature_algorithm text NOT NULL,
    is_ca               boolean NOT NULL,
    self_signed         boolean NOT NULL,
    first_seen_at       timestamptz NOT NULL
);
CREATE INDEX certificates_end ON certificates (not_after, id);
CREATE INDEX certificates_fingerprint ON certificates (fingerprint);

CREATE TABLE certificate_places (
    agent_id      uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
    key           bytea NOT NULL,                  -- SHA-256 of source, place, server name and certificate
    certificate   text NOT NULL REFERENCES certificates,
    source        smallint NOT NULL,               -- FoundCertificate.Source
    place         text NOT NULL,                   -- a path or an endpoint
    server_name   text,
    alias         text,
    used_by       text,
    key_path      text,
    process       text,
    served        boolean NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    PRIMARY KEY (agent_id, key)
);
CREATE INDEX certificate_places_certificate ON certificate_places (certificate);
