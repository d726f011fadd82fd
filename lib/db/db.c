/*
 * One libpq session of one thread. Statements are prepared on first use and remembered by their text;
 * parameters that are arrays, times and bytes go in binary form, so that nothing is ever quoted here. A lost
 * session is only noted: db_ensure makes the next one, where every statement is prepared anew.
 */
#include "db/db.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "db/db_internal.h"

#define ARGS_MAX       48
#define STATEMENTS_MAX 512u /* a power of two; a program's SQL is literals, far fewer than these */
#define PASSWORD_MAX   1024

/* pg_type.dat */
enum oid {
    OID_BYTEA = 17,
    OID_BOOL = 16,
    OID_INT8 = 20,
    OID_TEXT = 25,
    OID_TIMESTAMPTZ = 1184,
    OID_BOOL_ARRAY = 1000,
    OID_BYTEA_ARRAY = 1001,
    OID_TEXT_ARRAY = 1009,
    OID_INT8_ARRAY = 1016,
    OID_TIMESTAMPTZ_ARRAY = 1185,
};

#define PG_EPOCH_MS INT64_C(946684800000) /* 2000-01-01, the zero of timestamptz */

struct statement {
    char *sql;
    char name[16];
};

struct db {
    PGconn *conn; /* NULL: dropped */
    char *conninfo, *password_file, *schema, *application_name;
    int64_t statement_timeout_ms;
    struct statement statements[STATEMENTS_MAX];
    unsigned n_statements;
};

struct db_args {
    struct arena *arena;
    int n;
    Oid type[ARGS_MAX];
    const char *value[ARGS_MAX];
    int length[ARGS_MAX], format[ARGS_MAX];
};

struct db_rows {
    PGresult *result;
    struct arena *arena; /* of decoded bytes; made when first needed */
};

/* ---- errors -----------------------------------------------------------------------------------------------
 */

static const struct {
    const char *prefix;
    enum code code;
} sqlstates[] = {
    {"23505", CODE_ALREADY_EXISTS},      {"23503", CODE_FAILED_PRECONDITION},
    {"23514", CODE_FAILED_PRECONDITION}, {"40", CODE_ABORTED},
    {"55P03", CODE_RESOURCE_EXHAUSTED},  {"57014", CODE_DEADLINE_EXCEEDED},
    {"22", CODE_INVALID_ARGUMENT},       {"08", CODE_UNAVAILABLE},
    {"57P", CODE_UNAVAILABLE},           {"53", CODE_UNAVAILABLE},
    {"25006", CODE_UNAVAILABLE}, /* read-only: a standby answered */
};

/* An error that the server did not send came from libpq itself: the session is lost, whatever PQstatus still
 * says. */
static enum code code_of(const PGresult *result)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    if (!state)
        return CODE_UNAVAILABLE;
    for (size_t i = 0; i < ARRAY_LEN(sqlstates); i++)
        if (!strncmp(state, sqlstates[i].prefix, strlen(sqlstates[i].prefix)))
            return sqlstates[i].code;
    return CODE_INTERNAL;
}

/* libpq ends its messages with a newline. */
static int text_len(const char *message)
{
    return (int)strcspn(message, "\n");
}

/* Takes the result. Its DETAIL is left out: it may quote data. */
static enum code fail(struct db *db, PGresult *result, const char *what, struct status *st)
{
    const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const char *constraint = result ? PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME) : NULL;
    if (!message)
        message = db->conn ? PQerrorMessage(db->conn) : "not connected";
    enum code code = status_set(st, code_of(result), "database: %s: %.*s%s%s", what, text_len(message),
                                message, constraint ? ", constraint " : "", constraint ? constraint : "");
    PQclear(result);
    if (code == CODE_UNAVAILABLE)
        db_drop(db);
    return code;
}

/* ---- session ----------------------------------------------------------------------------------------------
 */

static char *dup_or_null(const char *s)
{
    if (!s)
        return NULL;
    char *copy = strdup(s);
    if (!copy)
        abort();
    return copy;
}

static void statements_forget(struct db *db)
{
    for (unsigned i = 0; i < STATEMENTS_MAX; i++) {
        free(db->statements[i].sql);
        db->statements[i].sql = NULL;
    }
    db->n_statements = 0;
}

void db_drop(struct db *db)
{
    statements_forget(db);
    PQfinish(db->conn);
    db->conn = NULL;
}

static void on_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result; /* "table exists, skipping" and the like */
}

static enum code set_up_session(struct db *db, struct status *st)
{
    char timeout[24];
    (void)snprintf(timeout, sizeof(timeout), "%" PRId64, db->statement_timeout_ms);
    char *quoted = PQescapeIdentifier(db->conn, db->schema, strlen(db->schema));
    if (!quoted)
        return fail(db, NULL, "the schema's name", st);
    const char *values[] = {quoted, timeout};
    /* No jit: our statements touch few rows, and compiling one takes longer than running it (30 ms of a
     * lease). A client that vanishes without a word (its machine lost power, its network is cut) is a client
     * to the server until TCP says otherwise, for two hours as systems come: so long nobody else would get
     * what it has locked, the outbox's relay first of all. The server is told to ask after 15 s of silence,
     * and to end a transaction that says nothing for a minute. */
    PGresult *result =
        PQexecParams(db->conn,
                     "SELECT set_config('search_path', $1, false), set_config('TimeZone', 'UTC', false), "
                     "set_config('DateStyle', 'ISO, YMD', false), set_config('bytea_output', 'hex', false), "
                     "set_config('statement_timeout', $2, false), set_config('jit', 'off', false), "
                     "set_config('client_min_messages', 'warning', false), "
                     "set_config('tcp_keepalives_idle', '15', false), "
                     "set_config('tcp_keepalives_interval', '5', false), "
                     "set_config('tcp_keepalives_count', '3', false), "
                     "set_config('tcp_user_timeout', '30000', false), "
                     "set_config('idle_in_transaction_session_timeout', '60000', false)",
                     2, NULL, values, NULL, NULL, 0);
    PQfreemem(quoted);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        return fail(db, result, "set up the session", st);
    PQclear(result);
    return CODE_OK;
}

static enum code connect_now(struct db *db, struct status *st)
{
    AUTO_SECRET struct secret *password = NULL;
    if (db->password_file)
        TRY(secret_read_file(db->password_file, PASSWORD_MAX, true, &password, st));
    /* Later keywords win over earlier ones: the connection string may change the first three, not the rest.
     */
    const char *keywords[] = {"connect_timeout",
                              "tcp_user_timeout",
                              "client_encoding",
                              "dbname",
                              "application_name",
                              password ? "password" : NULL,
                              NULL};
    const char *values[] = {"5",
                            "10000",
                            "UTF8",
                            db->conninfo,
                            db->application_name,
                            password ? (const char *)password->data : NULL,
                            NULL};
    db->conn = PQconnectdbParams(keywords, values, 1);
    if (!db->conn)
        abort();
    if (PQstatus(db->conn) != CONNECTION_OK) {
        const char *message = PQerrorMessage(db->conn);
        (void)status_set(st, CODE_UNAVAILABLE, "database: connect: %.*s", text_len(message), message);
        db_drop(db);
        return CODE_UNAVAILABLE;
    }
    (void)PQsetNoticeReceiver(db->conn, on_notice, NULL);
    if (set_up_session(db, st) != CODE_OK) {
        db_drop(db);
        st->code = CODE_UNAVAILABLE;
        return CODE_UNAVAILABLE;
    }
    return CODE_OK;
}

enum code db_open(const struct db_config *config, struct db **ret, struct status *st)
{
    struct db *db = calloc(1, sizeof(*db));
    if (!db)
        abort();
    db->conninfo = dup_or_null(config->conninfo);
    db->password_file = dup_or_null(config->password_file);
    db->schema = dup_or_null(config->schema ? config->schema : "public");
    db->application_name = dup_or_null(config->application_name ? config->application_name : "clm");
    db->statement_timeout_ms = config->statement_timeout_ms;
    enum code code = connect_now(db, st);
    if (code != CODE_OK) {
        db_close(db);
        return code;
    }
    *ret = db;
    return CODE_OK;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    db_drop(db);
    free(db->conninfo);
    free(db->password_file);
    free(db->schema);
    free(db->application_name);
    free(db);
}

enum code db_ensure(struct db *db, struct status *st)
{
    if (db->conn && PQstatus(db->conn) == CONNECTION_OK)
        return CODE_OK;
    db_drop(db);
    return connect_now(db, st);
}

enum code db_restore_timeout(struct db *db, struct status *st)
{
    char sql[64];
    (void)snprintf(sql, sizeof(sql), "SET statement_timeout = %" PRId64, db->statement_timeout_ms);
    return db_script(db, sql, st);
}

/* ---- parameters -------------------------------------------------------------------------------------------
 */

struct db_args *db_args_new(struct arena *arena)
{
    struct db_args *args = arena_alloc(arena, sizeof(*args));
    args->arena = arena;
    return args;
}

static void push(struct db_args *args, Oid type, const void *value, size_t len, bool binary)
{
    assert(args->n < ARGS_MAX && len <= INT32_MAX);
    args->type[args->n] = type;
    args->value[args->n] = value;
    args->length[args->n] = (int)len;
    args->format[args->n] = binary;
    args->n++;
}

/* Text, numbers and truth values go without a type: the server takes them for what the statement needs. */
void db_arg_text(struct db_args *args, const char *s)
{
    push(args, 0, arena_strdup(args->arena, s), 0, false);
}

void db_arg_int(struct db_args *args, int64_t n)
{
    push(args, 0, arena_printf(args->arena, "%" PRId64, n), 0, false);
}

void db_arg_bool(struct db_args *args, bool b)
{
    push(args, 0, b ? "t" : "f", 0, false);
}

void db_arg_bytes(struct db_args *args, const void *data, size_t len)
{
    push(args, OID_BYTEA, data ? arena_dup(args->arena, data, len) : NULL, len, true);
}

static uint64_t time_binary(int64_t wall_ms)
{
    return htobe64((uint64_t)((wall_ms - PG_EPOCH_MS) * 1000));
}

void db_arg_time(struct db_args *args, int64_t wall_ms)
{
    uint64_t binary = time_binary(wall_ms);
    push(args, OID_TIMESTAMPTZ, wall_ms < 0 ? NULL : arena_dup(args->arena, &binary, sizeof(binary)),
         sizeof(binary), true);
}

/* Arrays in the form of array_recv(): dimensions, has-null flag, element type, {length, lower bound}, then
 * each element as {length or -1, bytes}, all big-endian 32 bits. */
struct array {
    uint8_t *data;
    size_t used;
};

static void array_put32(struct array *array, uint32_t n)
{
    n = htobe32(n);
    memcpy(array->data + array->used, &n, sizeof(n));
    array->used += sizeof(n);
}

static struct array array_begin(struct db_args *args, Oid element, size_t n, size_t payload)
{
    assert(n <= INT32_MAX && payload <= INT32_MAX);
    struct array array = {.data = arena_alloc(args->arena, 20 + 4 * n + payload)};
    array_put32(&array, n > 0 ? 1 : 0);
    array_put32(&array, 1);
    array_put32(&array, element);
    if (n > 0) {
        array_put32(&array, (uint32_t)n);
        array_put32(&array, 1);
    }
    return array;
}

static void array_add(struct array *array, const void *data, size_t len)
{
    array_put32(array, data ? (uint32_t)len : UINT32_MAX);
    if (data && len > 0) {
        memcpy(array->data + array->used, data, len);
        array->used += len;
    }
}

void db_arg_text_array(struct db_args *args, const char *const *v, size_t n)
{
    size_t payload = 0;
    for (size_t i = 0; i < n; i++)
        payload += v[i] ? strlen(v[i]) : 0;
    struct array array = array_begin(args, OID_TEXT, n, payload);
    for (size_t i = 0; i < n; i++)
        array_add(&array, v[i], v[i] ? strlen(v[i]) : 0);
    push(args, OID_TEXT_ARRAY, array.data, array.used, true);
}

void db_arg_int_array(struct db_args *args, const int64_t *v, size_t n)
{
    struct array array = array_begin(args, OID_INT8, n, 8 * n);
    for (size_t i = 0; i < n; i++) {
        uint64_t binary = htobe64((uint64_t)v[i]);
        array_add(&array, &binary, sizeof(binary));
    }
    push(args, OID_INT8_ARRAY, array.data, array.used, true);
}

void db_arg_bool_array(struct db_args *args, const bool *v, size_t n)
{
    struct array array = array_begin(args, OID_BOOL, n, n);
    for (size_t i = 0; i < n; i++)
        array_add(&array, &(uint8_t){v[i]}, 1);
    push(args, OID_BOOL_ARRAY, array.data, array.used, true);
}

void db_arg_time_array(struct db_args *args, const int64_t *wall_ms, size_t n)
{
    struct array array = array_begin(args, OID_TIMESTAMPTZ, n, 8 * n);
    for (size_t i = 0; i < n; i++) {
        uint64_t binary = time_binary(wall_ms[i]);
        array_add(&array, wall_ms[i] < 0 ? NULL : &binary, sizeof(binary));
    }
    push(args, OID_TIMESTAMPTZ_ARRAY, array.data, array.used, true);
}

void db_arg_bytes_array(struct db_args *args, const void *const *data, const size_t *len, size_t n)
{
    size_t payload = 0;
    for (size_t i = 0; i < n; i++)
        payload += data[i] ? len[i] : 0;
    struct array array = array_begin(args, OID_BYTEA, n, payload);
    for (size_t i = 0; i < n; i++)
        array_add(&array, data[i], len[i]);
    push(args, OID_BYTEA_ARRAY, array.data, array.used, true);
}

/* ---- rows -------------------------------------------------------------------------------------------------
 */

void db_rows_free(struct db_rows *rows)
{
    if (!rows)
        return;
    PQclear(rows->result);
    arena_free(rows->arena);
    free(rows);
}

size_t db_rows_count(const struct db_rows *rows)
{
    return (size_t)PQntuples(rows->result);
}

int64_t db_rows_affected(const struct db_rows *rows)
{
    return strtoll(PQcmdTuples(rows->result), NULL, 10);
}

static const char *cell(const struct db_rows *rows, size_t row, int col)
{
    assert(row < db_rows_count(rows) && col >= 0 && col < PQnfields(rows->result));
    return PQgetisnull(rows->result, (int)row, col) ? NULL : PQgetvalue(rows->result, (int)row, col);
}

bool db_is_null(const struct db_rows *rows, size_t row, int col)
{
    return !cell(rows, row, col);
}

const char *db_text(const struct db_rows *rows, size_t row, int col)
{
    return cell(rows, row, col);
}

int64_t db_int(const struct db_rows *rows, size_t row, int col)
{
    const char *text = cell(rows, row, col);
    return text ? strtoll(text, NULL, 10) : 0;
}

bool db_bool(const struct db_rows *rows, size_t row, int col)
{
    const char *text = cell(rows, row, col);
    return text && text[0] == 't';
}

int64_t db_time(const struct db_rows *rows, size_t row, int col)
{
    const char *text = cell(rows, row, col);
    if (!text)
        return -1;
    /* "2026-11-23 23:01:02.345678+00": the session is in UTC and ISO style; RFC 3339 wants minutes in the
     * offset. */
    char rfc3339[48];
    int64_t ms;
    int n = snprintf(rfc3339, sizeof(rfc3339), "%s:00", text);
    if (n < 0 || (size_t)n >= sizeof(rfc3339) || n < 12)
        return -1;
    rfc3339[10] = 'T';
    return clock_parse_rfc3339(rfc3339, &ms) ? ms : -1;
}

static uint8_t hex_digit(char c)
{
    return (uint8_t)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

const void *db_bytes(const struct db_rows *rows, size_t row, int col, size_t *ret_len)
{
    const char *text = cell(rows, row, col);
    *ret_len = 0;
    if (!text)
        return NULL;
    assert(PQftype(rows->result, col) == OID_BYTEA && text[0] == '\\' && text[1] == 'x');
    struct db_rows *owner = (struct db_rows *)(uintptr_t)rows; /* decoding is remembered, not seen */
    if (!owner->arena)
        owner->arena = arena_new();
    size_t len = strlen(text + 2) / 2;
    uint8_t *data = arena_alloc(owner->arena, len + 1);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(hex_digit(text[2 + 2 * i]) << 4 | hex_digit(text[3 + 2 * i]));
    *ret_len = len;
    return data;
}

/* ---- statements -------------------------------------------------------------------------------------------
 */

static enum code finish(struct db *db, PGresult *result, const char *what, struct db_rows **ret,
                        struct status *st)
{
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        return fail(db, result, what, st);
    if (!ret) {
        PQclear(result);
        return CODE_OK;
    }
    struct db_rows *rows = calloc(1, sizeof(*rows));
    if (!rows)
        abort();
    rows->result = result;
    *ret = rows;
    return CODE_OK;
}

static uint32_t hash_text(const char *s)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *s; s++)
        hash = (hash ^ (unsigned char)*s) * 16777619u;
    return hash;
}

/* *ret NULL: the table is full, run it unprepared. */
static enum code prepared(struct db *db, const char *sql, const struct db_args *args,
                          const struct statement **ret, struct status *st)
{
    uint32_t i = hash_text(sql) % STATEMENTS_MAX;
    for (; db->statements[i].sql; i = (i + 1) % STATEMENTS_MAX) {
        *ret = &db->statements[i];
        if (!strcmp(db->statements[i].sql, sql))
            return CODE_OK;
    }
    *ret = NULL;
    if (db->n_statements >= STATEMENTS_MAX / 2)
        return CODE_OK;
    struct statement *statement = &db->statements[i];
    (void)snprintf(statement->name, sizeof(statement->name), "s%u", i);
    PGresult *result =
        PQprepare(db->conn, statement->name, sql, args ? args->n : 0, args ? args->type : NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return fail(db, result, "prepare", st);
    PQclear(result);
    statement->sql = dup_or_null(sql);
    db->n_statements++;
    *ret = statement;
    return CODE_OK;
}

enum code db_query(struct db *db, const char *sql, const struct db_args *args, struct db_rows **ret,
                   struct status *st)
{
    static const struct db_args none;
    if (!db->conn)
        return status_set(st, CODE_UNAVAILABLE, "database: not connected");
    const struct statement *statement;
    TRY(prepared(db, sql, args, &statement, st));
    if (!args)
        args = &none;
    PGresult *result =
        statement
            ? PQexecPrepared(db->conn, statement->name, args->n, args->value, args->length, args->format, 0)
            : PQexecParams(db->conn, sql, args->n, args->type, args->value, args->length, args->format, 0);
    return finish(db, result, "query", ret, st);
}

enum code db_query_planned(struct db *db, const char *sql, const struct db_args *args, struct db_rows **ret,
                           struct status *st)
{
    if (!db->conn)
        return status_set(st, CODE_UNAVAILABLE, "database: not connected");
    PGresult *result =
        PQexecParams(db->conn, sql, args->n, args->type, args->value, args->length, args->format, 0);
    return finish(db, result, "query", ret, st);
}

enum code db_query_one(struct db *db, const char *sql, const struct db_args *args, struct db_rows **ret,
                       struct status *st)
{
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query(db, sql, args, &rows, st));
    if (db_rows_count(rows) == 0)
        return status_set(st, CODE_NOT_FOUND, "not found");
    if (ret)
        *ret = TAKE(rows);
    return CODE_OK;
}

enum code db_script(struct db *db, const char *sql, struct status *st)
{
    if (!db->conn)
        return status_set(st, CODE_UNAVAILABLE, "database: not connected");
    return finish(db, PQexec(db->conn, sql), "run", NULL, st);
}

/* ---- transactions -----------------------------------------------------------------------------------------
 */

enum code db_begin(struct db *db, struct status *st)
{
    assert(!db->conn || PQtransactionStatus(db->conn) == PQTRANS_IDLE || PQstatus(db->conn) != CONNECTION_OK);
    return db_script(db, "BEGIN", st);
}

enum code db_commit(struct db *db, struct status *st)
{
    if (!db->conn)
        return status_set(st, CODE_UNAVAILABLE, "database: the session was lost in the transaction");
    PGresult *result = PQexec(db->conn, "COMMIT");
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return fail(db, result, "commit", st);
    /* The server answers COMMIT of a failed transaction with ROLLBACK, and no error. */
    bool committed = !strcmp(PQcmdStatus(result), "COMMIT");
    PQclear(result);
    return committed ? CODE_OK : status_set(st, CODE_ABORTED, "database: commit of a failed transaction");
}

void db_rollback(struct db *db)
{
    if (!db->conn || PQstatus(db->conn) != CONNECTION_OK || PQtransactionStatus(db->conn) == PQTRANS_IDLE)
        return;
    PGresult *result = PQexec(db->conn, "ROLLBACK");
    bool done = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    if (!done)
        db_drop(db);
}

void db_scope_end(struct db **db)
{
    if (*db)
        db_rollback(*db);
}

/* ---- notifications and locks ------------------------------------------------------------------------------
 */

enum code db_listen(struct db *db, const char *channel, struct status *st)
{
    if (!db->conn)
        return status_set(st, CODE_UNAVAILABLE, "database: not connected");
    char *quoted = PQescapeIdentifier(db->conn, channel, strlen(channel));
    if (!quoted)
        return fail(db, NULL, "listen", st);
    AUTO_ARENA struct arena *arena = arena_new();
    const char *sql = arena_printf(arena, "LISTEN %s", quoted);
    PQfreemem(quoted);
    return db_script(db, sql, st);
}

static bool take_notifications(struct db *db)
{
    bool any = false;
    for (PGnotify *notify; (notify = PQnotifies(db->conn)); any = true)
        PQfreemem(notify);
    return any;
}

enum code db_wait_notify(struct db *db, int64_t timeout_ms, int wake_fd, bool *ret_woken, struct status *st)
{
    *ret_woken = false;
    if (!db->conn)
        return status_set(st, CODE_UNAVAILABLE, "database: not connected");
    int64_t end =
        clock_mono_us() / 1000 + timeout_ms; /* the kernel waits in real time: not the fakeable clock */
    for (;;) {
        if (take_notifications(db)) {
            *ret_woken = true;
            return CODE_OK;
        }
        int64_t left = end - clock_mono_us() / 1000;
        if (left < 0)
            left = 0;
        struct pollfd fds[] = {{.fd = PQsocket(db->conn), .events = POLLIN},
                               {.fd = wake_fd, .events = POLLIN}};
        int n = poll(fds, wake_fd >= 0 ? 2 : 1, left > INT32_MAX ? INT32_MAX : (int)left);
        if (n < 0 && errno != EINTR)
            return status_errno(st, CODE_INTERNAL, errno, "database: wait");
        if (n == 0 || (wake_fd >= 0 && n > 0 && fds[1].revents))
            return CODE_OK;
        if (n > 0 && fds[0].revents && !PQconsumeInput(db->conn))
            return fail(db, NULL, "wait", st);
    }
}

enum code db_try_lock(struct db *db, int64_t key, bool *ret_held, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    struct db_args *args = db_args_new(arena);
    db_arg_int(args, key);
    AUTO_ROWS struct db_rows *rows = NULL;
    TRY(db_query_one(db, "SELECT pg_try_advisory_lock($1)", args, &rows, st));
    *ret_held = db_bool(rows, 0, 0);
    return CODE_OK;
}
