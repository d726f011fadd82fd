-- The platform's epoch, as the registry said it: a restore from a backup. What was issued before it may be adopted.
CREATE TABLE epoch (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch        bigint NOT NULL,
    restored_at  timestamptz NOT NULL
);
