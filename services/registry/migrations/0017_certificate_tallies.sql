-- More of what the dashboard counts (0011_tallies.sql): kind 5, certificates of the inventory by the hour of their end; 6: places
-- that serve one, by the hour of its end. A scan that finds everything as it was writes nothing.
CREATE FUNCTION certificates_tally() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO tallies (kind, at, n)
            SELECT 5, floor(extract(epoch FROM o.not_after) / 3600)::bigint, -count(*) FROM old_rows o GROUP BY 2;
    ELSE
        INSERT INTO tallies (kind, at, n)
            SELECT 5, floor(extract(epoch FROM r.not_after) / 3600)::bigint, count(*) FROM new_rows r GROUP BY 2;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER certificates_tally_insert AFTER INSERT ON certificates REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION certificates_tally();
CREATE TRIGGER certificates_tally_delete AFTER DELETE ON certificates REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION certificates_tally();

CREATE FUNCTION places_tally() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO tallies (kind, at, n)
            SELECT 6, floor(extract(epoch FROM c.not_after) / 3600)::bigint, count(*)
            FROM new_rows r JOIN certificates c ON c.id = r.certificate WHERE r.served GROUP BY 2;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO tallies (kind, at, n)
            SELECT 6, floor(extract(epoch FROM c.not_after) / 3600)::bigint, -count(*)
            FROM old_rows o JOIN certificates c ON c.id = o.certificate WHERE o.served GROUP BY 2;
    ELSE
        INSERT INTO tallies (kind, at, n)
            SELECT 6, floor(extract(epoch FROM c.not_after) / 3600)::bigint, sum(x.d)
            FROM (SELECT s.certificate, sum(s.d) AS d FROM (
                    SELECT certificate, -1 AS d FROM old_rows WHERE served
                    UNION ALL SELECT certificate, 1 FROM new_rows WHERE served) s
                GROUP BY 1 HAVING sum(s.d) <> 0) x JOIN certificates c ON c.id = x.certificate GROUP BY 2;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER places_tally_insert AFTER INSERT ON certificate_places REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION places_tally();
CREATE TRIGGER places_tally_update AFTER UPDATE ON certificate_places
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION places_tally();
CREATE TRIGGER places_tally_delete AFTER DELETE ON certificate_places REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION places_tally();

INSERT INTO tallies (kind, at, n)
    SELECT 5, floor(extract(epoch FROM not_after) / 3600)::bigint, count(*) FROM certificates GROUP BY 2;
INSERT INTO tallies (kind, at, n)
    SELECT 6, floor(extract(epoch FROM c.not_after) / 3600)::bigint, count(*)
    FROM certificate_places p JOIN certificates c ON c.id = p.certificate WHERE p.served GROUP BY 2;
