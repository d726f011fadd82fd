-- How long a task had when it was made: an operator's retry gives it as long again. NULL of those from before: what lies between
-- their making and their deadline.
ALTER TABLE tasks ADD COLUMN deadline_sec bigint;
