-- Ends of tasks by hour and day (one that is tried again ends again), as differences that the service folds once a minute; and what each agent
-- has done, by kind. Kept by whatever statement ends a task.
CREATE TABLE task_tallies (
    period  smallint NOT NULL,      -- 1: an hour, 2: a day
    at      timestamptz NOT NULL,   -- when it began, UTC
    state   smallint NOT NULL,
    n       bigint NOT NULL
);
CREATE INDEX task_tallies_period ON task_tallies (period, at);

CREATE TABLE agent_jobs (
    agent_id          uuid NOT NULL,
    kind              smallint NOT NULL,
    succeeded         bigint NOT NULL DEFAULT 0,
    unverified        bigint NOT NULL DEFAULT 0,
    failed            bigint NOT NULL DEFAULT 0,
    cancelled         bigint NOT NULL DEFAULT 0,
    expired           bigint NOT NULL DEFAULT 0,
    timed             bigint NOT NULL DEFAULT 0, -- of those that began, with their durations
    total_ms          bigint NOT NULL DEFAULT 0,
    longest_ms        bigint NOT NULL DEFAULT 0,
    last_task_id      uuid,
    last_state        smallint,
    last_finished_at  timestamptz,
    last_ms           bigint,
    last_message      text,
    PRIMARY KEY (agent_id, kind)
);

CREATE FUNCTION tasks_tally() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM new_rows WHERE finished_at IS NOT NULL) THEN
        RETURN NULL; -- the usual case: leases and progress
    END IF;
    INSERT INTO task_tallies (period, at, state, n)
        SELECT p.period, date_trunc(p.unit, r.finished_at, 'UTC'), r.state, count(*)
        FROM new_rows r JOIN old_rows o ON o.id = r.id AND o.finished_at IS NULL,
            (VALUES (1, 'hour'), (2, 'day')) AS p(period, unit)
        WHERE r.finished_at IS NOT NULL GROUP BY 1, 2, 3;
    INSERT INTO agent_jobs AS j (agent_id, kind, succeeded, unverified, failed, cancelled, expired, timed, total_ms,
            longest_ms, last_task_id, last_state, last_finished_at, last_ms, last_message)
        SELECT e.agent_id, e.kind, count(*) FILTER (WHERE e.state = 5), count(*) FILTER (WHERE e.state = 6),
            count(*) FILTER (WHERE e.state = 7), count(*) FILTER (WHERE e.state = 8), count(*) FILTER (WHERE e.state = 9),
            count(e.ms), coalesce(sum(e.ms), 0), coalesce(max(e.ms), 0),
            (array_agg(e.id ORDER BY e.finished_at DESC, e.id DESC))[1],
            (array_agg(e.state ORDER BY e.finished_at DESC, e.id DESC))[1], max(e.finished_at),
            (array_agg(e.ms ORDER BY e.finished_at DESC, e.id DESC))[1],
            (array_agg(e.message ORDER BY e.finished_at DESC, e.id DESC))[1]
        FROM (SELECT r.*, CASE WHEN r.started_at <= r.finished_at
                  THEN (extract(epoch FROM r.finished_at - r.started_at) * 1000)::bigint END AS ms
              FROM new_rows r JOIN old_rows o ON o.id = r.id AND o.finished_at IS NULL
              WHERE r.finished_at IS NOT NULL) e
        GROUP BY e.agent_id, e.kind ORDER BY e.agent_id, e.kind
        ON CONFLICT (agent_id, kind) DO UPDATE SET succeeded = j.succeeded + EXCLUDED.succeeded,
            unverified = j.unverified + EXCLUDED.unverified, failed = j.failed + EXCLUDED.failed,
            cancelled = j.cancelled + EXCLUDED.cancelled, expired = j.expired + EXCLUDED.expired,
            timed = j.timed + EXCLUDED.timed, total_ms = j.total_ms + EXCLUDED.total_ms,
            longest_ms = GREATEST(j.longest_ms, EXCLUDED.longest_ms), last_task_id = EXCLUDED.last_task_id,
            last_state = EXCLUDED.last_state, last_finished_at = EXCLUDED.last_finished_at,
            last_ms = EXCLUDED.last_ms, last_message = EXCLUDED.last_message;
    RETURN NULL;
END $$;
-- A trigger with transition tables cannot name columns; one that looks at each row first would cost leases more.
CREATE TRIGGER tasks_tally_update AFTER UPDATE ON tasks REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks_tally();
