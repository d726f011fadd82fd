-- Any part of a hostname is found by its trigrams. Whoever set the database up may have made the extension elsewhere.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
DO $$
BEGIN
    EXECUTE (SELECT format('CREATE INDEX agents_hostname_part ON agents USING gin (hostname %I.gin_trgm_ops)', n.nspname)
             FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm');
END $$;
