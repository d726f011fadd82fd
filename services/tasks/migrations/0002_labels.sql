-- Operators' grants may be limited by labels: what agents have of them. Rows learn theirs from the next snapshot; until
-- then they have none, and whoever is limited does not see them.
ALTER TABLE agents ADD COLUMN labels jsonb NOT NULL DEFAULT '{}';
UPDATE agents SET version = version - 1;
CREATE INDEX agents_labels ON agents USING gin (labels);
