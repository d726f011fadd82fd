-- The platform's epoch, as the registry said it: a restore from a backup. Orders carry it, so that a scope from before is told
-- from one of now.
ALTER TABLE platform ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
