-- Whom a token is for, beyond who holds it. NULL: anybody, from anywhere.
ALTER TABLE token
    ADD COLUMN hostname_pattern  text,
    ADD COLUMN source_cidr       text;
