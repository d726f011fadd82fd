-- What an idempotency key of an invitation stands for. The secret of a link may change; its id does not.
ALTER TABLE operator_links ADD COLUMN id uuid UNIQUE;
