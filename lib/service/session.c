/*
 * The process's database sessions: each thread has its own, and what one of them finds out about the server
 * (lost, there again) the others and the readiness get to know.
 */
#include "service/internal.h"

#define STATEMENT_TIMEOUT_MS 30000

static void db_set_up(struct service *service, bool up)
{
    (void)pthread_mutex_lock(&service->mutex);
    service->db_up = up;
    (void)pthread_mutex_unlock(&service->mutex);
}

/* A session that is lost says that the others of its time are, too; one that cannot be made says nothing of
 * them. Whether the database was known to be away does not matter: whoever holds a lock or listens in its
 * session learns by the epoch that the next one does not. */
void service_db_lost(struct service *service, unsigned epoch)
{
    (void)pthread_mutex_lock(&service->mutex);
    if (epoch == service->db_epoch) {
        service->db_epoch++;
        service->db_up = false;
    }
    (void)pthread_mutex_unlock(&service->mutex);
}

enum code service_open_db(const struct service *service, struct db **ret, struct status *st)
{
    const struct service_config *config = service->config;
    const struct db_config db = {
        .conninfo = config->db_conninfo,
        .password_file = config->db_password_file,
        .schema = service->descriptor->name,
        .application_name = service->descriptor->name,
        .statement_timeout_ms = STATEMENT_TIMEOUT_MS,
    };
    return db_open(&db, ret, st);
}

enum code service_db_session(struct service *service, struct db **db, unsigned *epoch, struct status *st)
{
    (void)pthread_mutex_lock(&service->mutex);
    unsigned now = service->db_epoch;
    (void)pthread_mutex_unlock(&service->mutex);
    if (*db && *epoch != now) {
        db_close(*db);
        *db = NULL;
    }
    bool had_one = *db;
    enum code code = had_one ? db_ensure(*db, st) : service_open_db(service, db, st);
    *epoch = now;
    if (code != CODE_OK && had_one)
        service_db_lost(service, now);
    db_set_up(service, code == CODE_OK);
    return code;
}

int64_t service_lock_key(const struct service *service, const char *name)
{
    uint64_t hash = 14695981039346656037u;
    const char *const parts[] = {"clm/", service->descriptor->name, "/", name};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (const char *c = parts[i]; *c; c++)
            hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    return (int64_t)hash;
}
