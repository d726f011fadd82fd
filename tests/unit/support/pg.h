/*
 * A private PostgreSQL for one test binary: own cluster in a temporary directory, a Unix socket there, no
 * TCP. Started at the first call, stopped and removed when the process ends (also when it is killed). Run as
 * root it becomes the user `postgres`, which is what the server demands. A server that does not start fails
 * the run.
 */
#ifndef CLM_TESTS_SUPPORT_PG_H
#define CLM_TESTS_SUPPORT_PG_H

/* Connection string of the database `postgres`, as superuser. Valid until the process ends. */
const char *pg_conninfo(void);
/* What a crash and a restart do: every session is gone, data and conninfo stay. */
void pg_kill_server(void);
void pg_start_server(void);

#endif
