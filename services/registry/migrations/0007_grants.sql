-- Administrators invite operators, change what they may do, and make API keys.
ALTER TABLE operators
    ALTER COLUMN password DROP NOT NULL,            -- NULL: invited, and not come yet
    ADD COLUMN last_login_at  timestamptz;
ALTER TABLE operator_links
    ADD COLUMN operator_id  uuid REFERENCES operators ON DELETE CASCADE; -- whose password it sets; NULL: makes a new one
CREATE INDEX operator_links_operator ON operator_links (operator_id);
ALTER TABLE api_keys
    ADD COLUMN created_by  text NOT NULL DEFAULT 'service:registry';
