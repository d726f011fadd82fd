-- How many tasks are in each state that is not an end, for the metrics: period 0 of the tallies, as differences, too.
CREATE FUNCTION tasks_tally_open() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO task_tallies (period, at, state, n)
            SELECT 0, 'epoch', state, count(*) FROM new_rows WHERE state < 5 GROUP BY state;
    ELSE
        INSERT INTO task_tallies (period, at, state, n)
            SELECT 0, 'epoch', state, sum(n) FROM (
                SELECT state, 1 AS n FROM new_rows UNION ALL SELECT state, -1 FROM old_rows) AS moved
            WHERE state < 5 GROUP BY state HAVING sum(n) <> 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tasks_tally_open_insert AFTER INSERT ON tasks REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks_tally_open();
CREATE TRIGGER tasks_tally_open_update AFTER UPDATE ON tasks REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks_tally_open();
INSERT INTO task_tallies (period, at, state, n)
    SELECT 0, 'epoch', state, count(*) FROM tasks WHERE finished_at IS NULL GROUP BY state;
