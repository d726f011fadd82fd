-- Lists of agents in another order than that of registration, page by page.
CREATE INDEX agents_by_hostname ON agents ((hostname COLLATE "C"), id);
CREATE INDEX agents_by_expiry ON agents ((coalesce(identity_not_after, 'infinity'::timestamptz)), id);
