-- Where in lib/safemode's table an agent is: what it may have signed is asked there. `disabled` is about its tokens alone: an identity
-- that has ended needs a fresh one.
ALTER TABLE agent_scope ADD COLUMN safe_column smallint NOT NULL DEFAULT 0; -- enum safe_column
UPDATE agent_scope SET safe_column = 3 WHERE disabled;
