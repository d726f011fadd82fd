-- Each change of an alert is an event: it raises the version in the same statement.
ALTER TABLE alerts ADD COLUMN version bigint NOT NULL DEFAULT 1;
