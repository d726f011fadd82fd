/*
 * One file a (task, attempt). Record: 4 bytes length, 4 bytes its complement, 8 bytes SHA-256 prefix over
 * length and payload, payload (JournalRecord). Only the last record can be torn, because each is on disk
 * before the next begins: a bad record that reaches the end of the file (or zeros up to there, which a file
 * system may leave after power loss) is cut off; a bad one before that is damage and the file is refused.
 * Used by exec, and by the child that runs the task meanwhile; never by both at once for one file.
 */
#include "agent/journal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "pki/digest.h"

#define HEADER      16u
#define RECORD_MAX  (8u * 1024u * 1024u)
#define FILE_MAX    (64u * 1024u * 1024u)
#define LARGE_BYTES (64 * 1024)
#define SUFFIX      ".journal"

struct journal {
    int fd;
    char *path;
    off_t end;
    struct arena *arena;
    Clm__Agent__JournalRecord **record;
    size_t n, cap;
};

/* ---- records ----------------------------------------------------------------------------------------------
 */

static void u32_put(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static uint32_t u32_get(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void record_sum(const uint8_t header[4], const uint8_t *payload, size_t len, uint8_t out[8])
{
    uint8_t digest[SHA256_SIZE];
    struct sha256_ctx *ctx = sha256_ctx_new();
    sha256_ctx_add(ctx, (struct bytes){header, 4});
    sha256_ctx_add(ctx, (struct bytes){payload, len});
    sha256_ctx_free(ctx, digest);
    memcpy(out, digest, 8);
}

static void *arena_alloc_cb(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void arena_free_cb(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

static void journal_keep(struct journal *journal, Clm__Agent__JournalRecord *record)
{
    if (journal->n == journal->cap) {
        journal->cap = journal->cap ? 2 * journal->cap : 8;
        journal->record = reallocarray(journal->record, journal->cap, sizeof(*journal->record));
        if (!journal->record)
            abort();
    }
    journal->record[journal->n++] = record;
}

/* Our own bytes behind a checksum: no limits but the record's size. */
static Clm__Agent__JournalRecord *record_unpack(struct journal *journal, const uint8_t *data, size_t len)
{
    ProtobufCAllocator allocator = {arena_alloc_cb, arena_free_cb, journal->arena};
    Clm__Agent__JournalRecord *record = clm__agent__journal_record__unpack(&allocator, len, data);
    return record && record->has_type ? record : NULL;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i])
            return false;
    }
    return true;
}

/* Whether what begins at `at` may be the rest of an append that was cut off. */
static bool may_be_torn(const uint8_t *at, size_t left)
{
    if (left < HEADER || all_zero(at, left))
        return true;
    uint32_t len = u32_get(at);
    if (u32_get(at + 4) != ~len)
        return all_zero(at + 4, left - 4);
    return len >= left - HEADER;
}

static bool record_good(const uint8_t *at, size_t left)
{
    if (left < HEADER)
        return false;
    uint32_t len = u32_get(at);
    uint8_t sum[8];
    if (u32_get(at + 4) != ~len || len > RECORD_MAX || len > left - HEADER)
        return false;
    record_sum(at, at + HEADER, len, sum);
    return memcmp(sum, at + 8, sizeof(sum)) == 0;
}

static enum code journal_read(struct journal *journal, struct status *st)
{
    AUTO_BUF struct buf content;
    buf_init(&content, FILE_MAX);
    TRY(file_read(journal->path, FILE_MAX, &content, st));
    size_t at = 0;
    while (at < content.len && record_good(content.data + at, content.len - at)) {
        uint32_t len = u32_get(content.data + at);
        Clm__Agent__JournalRecord *record = record_unpack(journal, content.data + at + HEADER, len);
        if (!record)
            return status_set(st, CODE_DATA_LOSS, "%s: record at byte %zu cannot be read", journal->path, at);
        journal_keep(journal, record);
        at += HEADER + len;
    }
    if (at < content.len && !may_be_torn(content.data + at, content.len - at))
        return status_set(st, CODE_DATA_LOSS, "%s: record at byte %zu is damaged", journal->path, at);
    journal->end = (off_t)at;
    if (at < content.len && (ftruncate(journal->fd, journal->end) != 0 || fdatasync(journal->fd) != 0))
        return status_errno(st, CODE_INTERNAL, errno, "cannot cut the torn end off %s", journal->path);
    return CODE_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------
 */

enum code journal_open(const char *dir, const char *task_id, uint32_t attempt, struct journal **ret,
                       struct status *st)
{
    if (!uuid_valid(task_id))
        return status_set(st, CODE_INVALID_ARGUMENT, "a journal's task id must be a UUID");
    struct journal *journal = calloc(1, sizeof(*journal));
    if (!journal || asprintf(&journal->path, "%s/%s-%" PRIu32 SUFFIX, dir, task_id, attempt) < 0)
        abort();
    journal->arena = arena_new();
    int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
    bool made = false;
    journal->fd = open(journal->path, flags);
    if (journal->fd < 0 && errno == ENOENT) {
        journal->fd = open(journal->path, flags | O_CREAT | O_EXCL, 0600);
        made = true;
    }
    enum code code = CODE_OK;
    if (journal->fd < 0)
        code = status_errno(st, errno == ENOSPC ? CODE_RESOURCE_EXHAUSTED : CODE_INTERNAL, errno,
                            "cannot open %s", journal->path);
    if (code == CODE_OK && made)
        code = dir_fsync(dir, st);
    if (code == CODE_OK)
        code = journal_read(journal, st);
    if (code != CODE_OK) {
        journal_close(journal);
        return code;
    }
    *ret = journal;
    return CODE_OK;
}

bool journal_exists(const char *dir, const char *task_id, uint32_t attempt)
{
    AUTO_FREE char *path = NULL;
    if (!uuid_valid(task_id))
        return false;
    if (asprintf(&path, "%s/%s-%" PRIu32 SUFFIX, dir, task_id, attempt) < 0)
        abort();
    return access(path, F_OK) == 0;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->fd >= 0)
        (void)close(journal->fd);
    arena_free(journal->arena);
    free(journal->record);
    free(journal->path);
    free(journal);
}

enum code journal_append(struct journal *journal, const Clm__Agent__JournalRecord *record, struct status *st)
{
    size_t len = clm__agent__journal_record__get_packed_size(record);
    if (len > RECORD_MAX || journal->end + (off_t)(HEADER + len) > (off_t)FILE_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s: record of %zu bytes is too long", journal->path,
                          len);
    AUTO_FREE uint8_t *frame = malloc(HEADER + len);
    if (!frame)
        abort();
    u32_put(frame, (uint32_t)len);
    u32_put(frame + 4, ~(uint32_t)len);
    (void)clm__agent__journal_record__pack(record, frame + HEADER);
    record_sum(frame, frame + HEADER, len, frame + 8);
    enum code code = fd_write_all(journal->fd, frame, HEADER + len, st);
    if (code == CODE_OK && fdatasync(journal->fd) != 0)
        code = status_errno(st, CODE_INTERNAL, errno, "fdatasync");
    if (code != CODE_OK) {
        /* A half-written record must not stand before the next one. */
        if (ftruncate(journal->fd, journal->end) != 0)
            log_error("cannot cut a half-written record", "file", journal->path, NULL);
        return status_wrap(st, "cannot append to %s", journal->path);
    }
    journal->end += (off_t)(HEADER + len);
    Clm__Agent__JournalRecord *kept = record_unpack(journal, frame + HEADER, len);
    assert(kept);
    journal_keep(journal, kept);
    return CODE_OK;
}

enum code journal_step(struct journal *journal, const char *step, const char *target, const char *path,
                       const char *other_path, const char *fingerprint, struct status *st)
{
    Clm__Agent__JournalRecord record = CLM__AGENT__JOURNAL_RECORD__INIT;
    record.has_type = record.has_at_ms = 1;
    record.type = CLM__AGENT__JOURNAL_RECORD__TYPE__STEP;
    record.at_ms = clock_wall_ms();
    record.step = (char *)(uintptr_t)step;
    record.target = (char *)(uintptr_t)target;
    record.path = (char *)(uintptr_t)path;
    record.other_path = (char *)(uintptr_t)other_path;
    record.fingerprint = (char *)(uintptr_t)fingerprint;
    return journal_append(journal, &record, st);
}

size_t journal_count(const struct journal *journal)
{
    return journal->n;
}

const Clm__Agent__JournalRecord *journal_get(const struct journal *journal, size_t i)
{
    assert(i < journal->n);
    return journal->record[i];
}

const Clm__Agent__JournalRecord *journal_find_step(const struct journal *journal, const char *step)
{
    for (size_t i = journal->n; i-- > 0;) {
        const Clm__Agent__JournalRecord *record = journal->record[i];
        if (record->type == CLM__AGENT__JOURNAL_RECORD__TYPE__STEP && record->step &&
            strcmp(record->step, step) == 0)
            return record;
    }
    return NULL;
}

/* ---- the directory ----------------------------------------------------------------------------------------
 */

/* "<uuid>-<attempt>.journal" */
static bool name_parse(const char *name, char task_id[UUID_TEXT_SIZE], uint32_t *ret_attempt)
{
    size_t len = strlen(name), id_len = UUID_TEXT_SIZE - 1;
    if (len <= id_len + 1 + strlen(SUFFIX) || name[id_len] != '-' ||
        strcmp(name + len - strlen(SUFFIX), SUFFIX) != 0)
        return false;
    memcpy(task_id, name, id_len);
    task_id[id_len] = '\0';
    char *end;
    const char *digits = name + id_len + 1;
    errno = 0;
    unsigned long attempt = strtoul(digits, &end, 10);
    if (errno || *digits < '0' || *digits > '9' || strcmp(end, SUFFIX) != 0 || attempt > UINT32_MAX)
        return false;
    *ret_attempt = (uint32_t)attempt;
    return uuid_valid(task_id);
}

static void set_aside(const char *dir, const char *name, const struct status *why)
{
    AUTO_FREE char *from = NULL, *to = NULL;
    if (asprintf(&from, "%s/%s", dir, name) < 0 || asprintf(&to, "%s/%s.damaged", dir, name) < 0)
        abort();
    log_error("a journal file cannot be read and is moved aside", "file", from, "reason", why->msg, NULL);
    if (rename(from, to) != 0)
        log_error("cannot move it aside", "file", from, "reason", strerror(errno), NULL);
}

struct pair {
    char task_id[UUID_TEXT_SIZE];
    uint32_t attempt;
};

/* Names first: callbacks may add and remove files. */
static enum code pairs_list(const char *dir, struct pair **ret, size_t *ret_n, struct status *st)
{
    DIR *handle = opendir(dir);
    if (!handle)
        return status_errno(st, CODE_INTERNAL, errno, "cannot open directory %s", dir);
    size_t cap = 0;
    *ret = NULL;
    *ret_n = 0;
    for (struct dirent *entry; (entry = readdir(handle));) {
        struct pair pair;
        if (!name_parse(entry->d_name, pair.task_id, &pair.attempt))
            continue;
        if (*ret_n == cap) {
            cap = cap ? 2 * cap : 32;
            *ret = reallocarray(*ret, cap, sizeof(pair));
            if (!*ret)
                abort();
        }
        (*ret)[(*ret_n)++] = pair;
    }
    (void)closedir(handle);
    return CODE_OK;
}

static enum code scan_one(const char *dir, const struct pair *pair,
                          enum code (*on_file)(const char *task_id, uint32_t attempt, void *arg,
                                               struct status *st),
                          void *arg, struct status *st)
{
    struct journal *journal;
    enum code code = journal_open(dir, pair->task_id, pair->attempt, &journal, st);
    if (code == CODE_OK) {
        journal_close(journal);
        return on_file(pair->task_id, pair->attempt, arg, st);
    }
    if (code != CODE_DATA_LOSS)
        return code;
    AUTO_FREE char *name = NULL;
    if (asprintf(&name, "%s-%" PRIu32 SUFFIX, pair->task_id, pair->attempt) < 0)
        abort();
    set_aside(dir, name, st);
    return CODE_OK;
}

enum code journal_scan(const char *dir,
                       enum code (*on_file)(const char *task_id, uint32_t attempt, void *arg,
                                            struct status *st),
                       void *arg, struct status *st)
{
    AUTO_FREE struct pair *pairs = NULL;
    size_t n = 0;
    TRY(pairs_list(dir, &pairs, &n, st));
    for (size_t i = 0; i < n; i++)
        TRY(scan_one(dir, &pairs[i], on_file, arg, st));
    return CODE_OK;
}

struct prune {
    const char *dir;
    int64_t before_ms, large_before_ms;
};

static enum code prune_one(const char *task_id, uint32_t attempt, void *arg, struct status *st)
{
    const struct prune *prune = arg;
    struct journal *journal;
    TRY(journal_open(prune->dir, task_id, attempt, &journal, st));
    const Clm__Agent__JournalRecord *last = journal->n ? journal->record[journal->n - 1] : NULL;
    enum code code = CODE_OK;
    if (last && last->type == CLM__AGENT__JOURNAL_RECORD__TYPE__ACKNOWLEDGED &&
        last->at_ms < (journal->end > LARGE_BYTES ? prune->large_before_ms : prune->before_ms) &&
        unlink(journal->path) != 0)
        code = status_errno(st, CODE_INTERNAL, errno, "cannot remove %s", journal->path);
    journal_close(journal);
    return code;
}

enum code journal_prune(const char *dir, int64_t keep_ms, struct status *st)
{
    struct prune prune = {.dir = dir,
                          .before_ms = clock_wall_ms() - keep_ms,
                          .large_before_ms = clock_wall_ms() - keep_ms / 10};
    return journal_scan(dir, prune_one, &prune, st);
}
