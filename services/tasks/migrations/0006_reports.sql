-- The report of a VALIDATE by the worst of its checks (Check.Outcome): those that are wrong are found without reading results.
ALTER TABLE tasks ADD COLUMN verdict smallint;
CREATE INDEX tasks_reports ON tasks (id DESC) WHERE verdict IS NOT NULL AND finished_at IS NOT NULL;
CREATE INDEX tasks_reports_agent ON tasks (agent_id, id DESC) WHERE verdict IS NOT NULL AND finished_at IS NOT NULL;
