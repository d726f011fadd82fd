-- One schema and one role per service; safe to run again. Passwords come from the environment, never from argv.
\set ON_ERROR_STOP on
\getenv registry_password CLM_REGISTRY_PASSWORD
\getenv bootstrap_password CLM_BOOTSTRAP_PASSWORD
\getenv tasks_password CLM_TASKS_PASSWORD
SELECT 'CREATE DATABASE clm' WHERE NOT EXISTS (SELECT 1 FROM pg_database WHERE datname = 'clm') \gexec
REVOKE ALL ON DATABASE clm FROM PUBLIC;
\connect clm
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE TEMPORARY TABLE wanted (name text, password text);
INSERT INTO wanted VALUES ('registry', :'registry_password'), ('bootstrap', :'bootstrap_password'), ('tasks', :'tasks_password');
SELECT format('CREATE ROLE %I LOGIN', name) FROM wanted WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', name, password) FROM wanted \gexec
SELECT format('ALTER ROLE %1$I SET search_path = %1$I', name) FROM wanted \gexec
SELECT format('GRANT CONNECT ON DATABASE clm TO %I', name) FROM wanted \gexec
SELECT format('GRANT %I TO CURRENT_USER', name) FROM wanted \gexec
SELECT format('CREATE SCHEMA IF NOT EXISTS %1$I AUTHORIZATION %1$I', name) FROM wanted \gexec
-- The registry searches hostnames by their parts. Trusted: it needs no superuser, but a right that no service has.
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA registry;
