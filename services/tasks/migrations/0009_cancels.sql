-- What agents should stop is asked with every check-in, and is next to nothing: an index of that alone is looked through at once.
CREATE INDEX tasks_cancels ON tasks (agent_id) WHERE cancel_requested AND state IN (3, 4);
