-- What the dashboard counts, kept by the statements that change it: differences, so that no two writers wait for each other
-- at one row; the registry folds them once a minute. kind 1: identities by the hour of their end, of agents that are not
-- disabled; 2: agents in safe mode, whatever their status; 3: agents by version; 4: open alerts by kind.
CREATE TABLE tallies (
    kind  smallint NOT NULL,
    at    bigint NOT NULL,
    name  text NOT NULL DEFAULT '',
    n     bigint NOT NULL
);
CREATE INDEX tallies_kind ON tallies (kind, at);

CREATE FUNCTION agent_tallies(a agents) RETURNS TABLE (kind smallint, at bigint, name text)
LANGUAGE sql STABLE AS $$
    SELECT t.k::smallint, t.v, t.x FROM (VALUES
        (1, CASE WHEN NOT a.disabled THEN floor(extract(epoch FROM a.identity_not_after) / 3600)::bigint END, ''),
        (2, CASE WHEN a.safe_mode OR a.operator_safe_mode OR a.frozen_reason <> '' THEN 0::bigint END, ''),
        (3, CASE WHEN a.agent_version <> '' THEN 0::bigint END, a.agent_version)) AS t(k, v, x) WHERE t.v IS NOT NULL
$$;

CREATE FUNCTION agents_tally() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO tallies (kind, at, name, n)
            SELECT t.kind, t.at, t.name, -count(*) FROM old_rows o, agent_tallies(o::agents) t GROUP BY 1, 2, 3;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO tallies (kind, at, name, n)
            SELECT t.kind, t.at, t.name, count(*) FROM new_rows r, agent_tallies(r::agents) t GROUP BY 1, 2, 3;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER agents_tally_insert AFTER INSERT ON agents REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION agents_tally();
CREATE TRIGGER agents_tally_update AFTER UPDATE ON agents REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION agents_tally();
CREATE TRIGGER agents_tally_delete AFTER DELETE ON agents REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION agents_tally();

CREATE FUNCTION alerts_tally() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO tallies (kind, at, n) SELECT 4, o.kind, -count(*) FROM old_rows o
            WHERE o.resolved_at IS NULL AND o.acknowledged_at IS NULL GROUP BY 2;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO tallies (kind, at, n) SELECT 4, r.kind, count(*) FROM new_rows r
            WHERE r.resolved_at IS NULL AND r.acknowledged_at IS NULL GROUP BY 2;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER alerts_tally_insert AFTER INSERT ON alerts REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION alerts_tally();
CREATE TRIGGER alerts_tally_update AFTER UPDATE ON alerts REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION alerts_tally();
CREATE TRIGGER alerts_tally_delete AFTER DELETE ON alerts REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION alerts_tally();

INSERT INTO tallies (kind, at, name, n)
    SELECT t.kind, t.at, t.name, count(*) FROM agents a, agent_tallies(a) t GROUP BY 1, 2, 3;
INSERT INTO tallies (kind, at, n)
    SELECT 4, kind, count(*) FROM alerts WHERE resolved_at IS NULL AND acknowledged_at IS NULL GROUP BY 2;
