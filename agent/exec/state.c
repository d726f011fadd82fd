/* The state directory. Exec's thread only; children call state_forget_key alone. */
#include "agent/exec/state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/journal.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "wire/wire.h"

#define LOCK_WAIT_US    (2 * 1000 * 1000)
#define LOCK_RETRY_MS   20
#define OLD_GENERATIONS 16                             /* looked for, before ours */
#define OLD_KEEP_MS     (INT64_C(25) * 60 * 60 * 1000) /* envelopes live 24 h and 5 min */

static char *path_in(const char *dir, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

static char *path_of_generation(const struct agent_state *state, const char *what, uint32_t generation,
                                const char *suffix)
{
    char *path;
    if (asprintf(&path, "%s/%s-%u.%s", state->dir, what, generation, suffix) < 0)
        abort();
    return path;
}

static enum code private_dir(const char *path, uid_t uid, gid_t gid, struct status *st)
{
    TRY(dir_make(path, 0700, st));
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return status_errno(st, CODE_FAILED_PRECONDITION, errno, "cannot open directory %s", path);
    if (fchmod(fd, 0700) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot set the mode of %s", path);
    if (geteuid() == 0 && uid != (uid_t)-1 && fchown(fd, uid, gid) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot set the owner of %s", path);
    return CODE_OK;
}

/* An existing directory stays as its administrator made it, but whoever can write to it is us. (net enters
 * its own directory before it drops its user: this one need not be passable for it.) */
static enum code own_dir(const char *path, struct status *st)
{
    struct stat info;
    TRY(dir_make(path, 0700, st));
    if (stat(path, &info) != 0)
        return status_errno(st, CODE_FAILED_PRECONDITION, errno, "cannot look at %s", path);
    if ((info.st_uid != geteuid() && info.st_uid != 0) || (info.st_mode & (S_IWGRP | S_IWOTH)))
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "the state directory %s may be written by others: give it to the agent's user with mode 0700",
            path);
    return CODE_OK;
}

static enum code take_lock(struct agent_state *state, struct status *st)
{
    AUTO_FREE char *path = path_in(state->dir, "lock");
    state->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (state->lock_fd < 0)
        return status_errno(st, CODE_UNAVAILABLE, errno, "cannot open %s", path);
    /* A predecessor that was killed leaves a task for the moment that the kernel needs to end it. */
    int64_t until = clock_mono_us() + LOCK_WAIT_US;
    int taken = flock(state->lock_fd, LOCK_EX | LOCK_NB);
    while (taken != 0 && clock_mono_us() < until) {
        (void)poll(NULL, 0, LOCK_RETRY_MS);
        taken = flock(state->lock_fd, LOCK_EX | LOCK_NB);
    }
    if (taken != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "another clm-agent (or a task of one) runs on %s",
                          state->dir);
    return CODE_OK;
}

static struct agent_state *state_new(const char *dir)
{
    struct agent_state *state = calloc(1, sizeof(*state));
    if (!state)
        abort();
    state->lock_fd = -1;
    state->dir = strdup(dir);
    if (!state->dir)
        abort();
    state->journal_dir = path_in(dir, "journal");
    state->net_dir = path_in(dir, "net");
    return state;
}

enum code state_open(const char *dir, uid_t net_uid, gid_t net_gid, struct agent_state **ret,
                     struct status *st)
{
    struct agent_state *state = state_new(dir);
    AUTO_FREE char *backup = path_in(dir, "backup");
    enum code code = own_dir(dir, st);
    if (code == CODE_OK)
        code = private_dir(state->journal_dir, (uid_t)-1, (gid_t)-1, st);
    if (code == CODE_OK)
        code = private_dir(backup, (uid_t)-1, (gid_t)-1, st);
    if (code == CODE_OK)
        code = private_dir(state->net_dir, net_uid, net_gid, st);
    if (code == CODE_OK)
        code = take_lock(state, st);
    if (code != CODE_OK) {
        state_free(state);
        return code;
    }
    *ret = state;
    return CODE_OK;
}

enum code state_peek(const char *dir, struct agent_state **ret, struct status *st)
{
    struct agent_state *state = state_new(dir);
    enum code code = state_load(state, st);
    if (code != CODE_OK) {
        state_free(state);
        return code;
    }
    *ret = state;
    return CODE_OK;
}

void state_forget_key(struct agent_state *state)
{
    key_free(TAKE(state->task_key));
    key_free(TAKE(state->old_task_key));
}

void state_free(struct agent_state *state)
{
    if (!state)
        return;
    state_forget_key(state);
    der_list_done(&state->roots);
    der_list_done(&state->task_chain);
    der_list_done(&state->old_task_chain);
    der_list_done(&state->identity_chain);
    if (state->lock_fd >= 0)
        (void)close(state->lock_fd);
    free(state->dir);
    free(state->journal_dir);
    free(state->net_dir);
    free(state);
}

static enum code chain_read(const char *path, struct der_list *ret, struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    TRY(file_read(path, 512 * 1024, &pem, st));
    der_list_done(ret);
    TRY(pem_to_certs((struct bytes){pem.data, pem.len}, ret, st));
    if (ret->n == 0)
        return status_set(st, CODE_DATA_LOSS, "%s holds no certificate", path);
    return CODE_OK;
}

static enum code chain_write(const char *path, const struct der_list *chain, struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    TRY(certs_to_pem(chain, &pem, st));
    return file_write_atomic(path, pem.data, pem.len, 0644, st);
}

static enum code id_read(struct agent_state *state, struct status *st)
{
    AUTO_FREE char *path = path_in(state->dir, "agent.id");
    AUTO_BUF struct buf content = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    TRY(file_read(path, 16 * 1024, &content, st));
    ProtobufCMessage *msg;
    if (wire_unpack(&clm__agent__stored_identity__descriptor, content.data, content.len, arena, &msg, st) !=
        CODE_OK)
        return status_set(st, CODE_DATA_LOSS, "%s is damaged: enrol this host again with a fresh token",
                          path);
    const Clm__Agent__StoredIdentity *id = (const Clm__Agent__StoredIdentity *)msg;
    if (!id->agent_id || !uuid_valid(id->agent_id) || !id->gateway || !id->trust_domain ||
        strlen(id->gateway) >= sizeof(state->gateway) ||
        strlen(id->trust_domain) >= sizeof(state->trust_domain))
        return status_set(st, CODE_DATA_LOSS, "%s is damaged: enrol this host again with a fresh token",
                          path);
    memcpy(state->agent_id, id->agent_id, sizeof(state->agent_id));
    memcpy(state->gateway, id->gateway, strlen(id->gateway) + 1);
    memcpy(state->trust_domain, id->trust_domain, strlen(id->trust_domain) + 1);
    state->generation = id->generation;
    state->confirmed = id->confirmed;
    state->adopted_at_ms = id->enrolled_at_ms;
    return CODE_OK;
}

static enum code id_write(const struct agent_state *state, struct status *st)
{
    AUTO_FREE char *path = path_in(state->dir, "agent.id");
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__Agent__StoredIdentity id = CLM__AGENT__STORED_IDENTITY__INIT;
    id.agent_id = arena_strdup(arena, state->agent_id);
    id.gateway = arena_strdup(arena, state->gateway);
    id.trust_domain = arena_strdup(arena, state->trust_domain);
    id.has_generation = id.has_confirmed = id.has_enrolled_at_ms = 1;
    id.generation = state->generation;
    id.confirmed = state->confirmed;
    id.enrolled_at_ms = state->adopted_at_ms;
    const uint8_t *data;
    size_t len;
    wire_pack(&id.base, arena, &data, &len);
    return file_write_atomic(path, data, len, 0644, st);
}

static enum code key_read(const char *path, struct key **ret, struct status *st)
{
    AUTO_SECRET struct secret *pem = NULL;
    TRY(secret_read_file(path, 64 * 1024, false, &pem, st));
    return key_parse(pem, NULL, ret, st);
}

/* What cannot be read is not there: an envelope for it comes again, sealed to the present key. */
static void old_read(struct agent_state *state)
{
    struct status ignored;
    for (uint32_t back = 1; back <= OLD_GENERATIONS && back <= state->generation; back++) {
        uint32_t generation = state->generation - back;
        AUTO_FREE char *chain = path_of_generation(state, "task", generation, "pem");
        AUTO_FREE char *path = path_of_generation(state, "task", generation, "key");
        AUTO_KEY struct key *key = NULL;
        if (key_read(path, &key, &ignored) != CODE_OK ||
            chain_read(chain, &state->old_task_chain, &ignored) != CODE_OK ||
            !key_matches_cert(key, der_bytes(&state->old_task_chain.item[0])))
            continue;
        state->old_generation = generation;
        state->old_task_key = TAKE(key);
        return;
    }
}

enum code state_load(struct agent_state *state, struct status *st)
{
    TRY(id_read(state, st));
    AUTO_FREE char *roots = path_in(state->dir, "roots.pem");
    AUTO_FREE char *task = path_of_generation(state, "task", state->generation, "pem");
    AUTO_FREE char *identity = path_of_generation(state, "identity", state->generation, "pem");
    AUTO_FREE char *key = path_of_generation(state, "task", state->generation, "key");
    enum code code = chain_read(roots, &state->roots, st);
    if (code == CODE_OK)
        code = chain_read(task, &state->task_chain, st);
    if (code == CODE_OK)
        code = chain_read(identity, &state->identity_chain, st);
    state_forget_key(state);
    if (code == CODE_OK)
        code = key_read(key, &state->task_key, st);
    if (code == CODE_OK && !key_matches_cert(state->task_key, der_bytes(&state->task_chain.item[0])))
        code = status_set(st, CODE_DATA_LOSS, "%s is not the key of %s", key, task);
    if (code != CODE_OK)
        state->agent_id[0] = '\0';
    else
        old_read(state);
    /* agent.id is there, so a file that is not has been lost. */
    if (code == CODE_NOT_FOUND) {
        struct status why = *st;
        return status_set(st, CODE_DATA_LOSS, "%s: enrol this host again with a fresh token", why.msg);
    }
    return code;
}

/* Makes the key at path, or reads the one that is there. */
static enum code key_make(const char *path, struct key **ret, struct status *st)
{
    enum code code = key_read(path, ret, st);
    if (code != CODE_NOT_FOUND)
        return code;
    AUTO_KEY struct key *key = NULL;
    AUTO_SECRET struct secret *pem = NULL;
    TRY(key_generate(KEY_EC_P256, &key, st));
    TRY(key_to_pem(key, NULL, &pem, st));
    TRY(file_write_atomic(path, pem->data, pem->len, 0600, st));
    *ret = TAKE(key);
    return CODE_OK;
}

enum code state_task_key(struct agent_state *state, uint32_t generation, struct status *st)
{
    AUTO_FREE char *path = path_of_generation(state, "task", generation, "key");
    state_forget_key(state);
    return key_make(path, &state->task_key, st);
}

enum code state_next_key(const struct agent_state *state, uint32_t generation, struct key **ret,
                         struct status *st)
{
    AUTO_FREE char *path = path_of_generation(state, "task", generation, "key");
    return key_make(path, ret, st);
}

/* A bootstrap makes its key before it knows the generation: under that name it is found from now on. */
static enum code key_write(const struct agent_state *state, struct status *st)
{
    AUTO_FREE char *path = path_of_generation(state, "task", state->generation, "key");
    AUTO_SECRET struct secret *pem = NULL;
    TRY(key_to_pem(state->task_key, NULL, &pem, st));
    return file_write_atomic(path, pem->data, pem->len, 0600, st);
}

enum code state_save(struct agent_state *state, struct status *st)
{
    AUTO_FREE char *roots = path_in(state->dir, "roots.pem");
    AUTO_FREE char *task = path_of_generation(state, "task", state->generation, "pem");
    AUTO_FREE char *identity = path_of_generation(state, "identity", state->generation, "pem");
    state->adopted_at_ms = clock_wall_ms();
    TRY(key_write(state, st));
    TRY(chain_write(roots, &state->roots, st));
    TRY(chain_write(task, &state->task_chain, st));
    TRY(chain_write(identity, &state->identity_chain, st));
    return id_write(state, st);
}

static void generation_delete(const struct agent_state *state, uint32_t generation)
{
    AUTO_FREE char *key = path_of_generation(state, "task", generation, "key");
    AUTO_FREE char *task = path_of_generation(state, "task", generation, "pem");
    AUTO_FREE char *identity = path_of_generation(state, "identity", generation, "pem");
    (void)unlink(key);
    (void)unlink(task);
    (void)unlink(identity);
}

enum code state_adopt(struct agent_state *state, uint32_t generation, struct key **key,
                      struct der_list *task_chain, struct der_list *identity_chain, struct status *st)
{
    struct agent_state next = *state;
    next.generation = generation;
    next.confirmed = false;
    next.task_key = *key;
    next.task_chain = *task_chain;
    next.identity_chain = *identity_chain;
    TRY(state_save(&next, st));
    key_free(state->old_task_key);
    der_list_done(&state->old_task_chain);
    der_list_done(&state->identity_chain);
    next.old_generation = state->generation;
    next.old_task_key = state->task_key;
    next.old_task_chain = state->task_chain;
    *state = next;
    *key = NULL;
    *task_chain = *identity_chain = (struct der_list){0};
    return CODE_OK;
}

void state_prune(struct agent_state *state, int64_t now_ms)
{
    bool all = now_ms - state->adopted_at_ms > OLD_KEEP_MS;
    if (!state->confirmed)
        return;
    for (uint32_t back = 1; back <= OLD_GENERATIONS && back <= state->generation; back++) {
        uint32_t generation = state->generation - back;
        if (all || !state->old_task_key || generation < state->old_generation)
            generation_delete(state, generation);
    }
    if (all) {
        key_free(TAKE(state->old_task_key));
        der_list_done(&state->old_task_chain);
    }
}

static enum code set_confirmed(struct agent_state *state, bool confirmed, struct status *st)
{
    if (state->confirmed == confirmed)
        return CODE_OK;
    state->confirmed = confirmed;
    enum code code = id_write(state, st);
    if (code != CODE_OK)
        state->confirmed = !confirmed;
    return code;
}

enum code state_set_confirmed(struct agent_state *state, struct status *st)
{
    return set_confirmed(state, true, st);
}

enum code state_set_unconfirmed(struct agent_state *state, struct status *st)
{
    return set_confirmed(state, false, st);
}

enum code state_check_writable(const struct agent_state *state, struct status *st)
{
    AUTO_FREE char *path = path_in(state->journal_dir, "write-check");
    static const char text[] = "the agent checks here whether it can write\n";
    enum code code = file_write_atomic(path, text, sizeof(text) - 1, 0600, st);
    if (code != CODE_OK)
        return CODE_UNAVAILABLE;
    return CODE_OK;
}

/* ---- starts -----------------------------------------------------------------------------------------------
 */

#define STARTS_KEPT 16

static enum code starts_write(const struct agent_state *state, Clm__Agent__RecentStarts *starts, bool running,
                              struct status *st)
{
    AUTO_FREE char *path = path_in(state->dir, "starts");
    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *data;
    size_t len;
    starts->has_running = 1;
    starts->running = running;
    wire_pack(&starts->base, arena, &data, &len);
    return file_write_atomic(path, data, len, 0600, st);
}

/* Unreadable counts as empty: this is a guard, not a record. */
static void starts_read(const struct agent_state *state, struct arena *arena, Clm__Agent__RecentStarts *ret)
{
    AUTO_FREE char *path = path_in(state->dir, "starts");
    AUTO_BUF struct buf content = {0};
    struct status st;
    ProtobufCMessage *msg;
    clm__agent__recent_starts__init(ret);
    if (file_read(path, 4096, &content, &st) == CODE_OK &&
        wire_unpack(&clm__agent__recent_starts__descriptor, content.data, content.len, arena, &msg, &st) ==
            CODE_OK)
        *ret = *(const Clm__Agent__RecentStarts *)msg;
}

enum code state_note_start(const struct agent_state *state, int64_t now_ms, int64_t window_ms,
                           unsigned *ret_crashes, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__Agent__RecentStarts old, starts = CLM__AGENT__RECENT_STARTS__INIT;
    int64_t kept[STARTS_KEPT];
    starts_read(state, arena, &old);
    starts.crashed_at_ms = kept;
    for (size_t i = 0; i < old.n_crashed_at_ms && starts.n_crashed_at_ms < STARTS_KEPT - 1; i++) {
        int64_t at = old.crashed_at_ms[i];
        if (at <= now_ms && now_ms - at < window_ms)
            kept[starts.n_crashed_at_ms++] = at;
    }
    if (old.running)
        kept[starts.n_crashed_at_ms++] = now_ms;
    *ret_crashes = (unsigned)starts.n_crashed_at_ms;
    return starts_write(state, &starts, true, st);
}

void state_note_link(const struct agent_state *state, bool connected, const char *message)
{
    AUTO_FREE char *path = path_in(state->dir, "link");
    AUTO_BUF struct buf line = {0};
    struct status st;
    if (buf_printf(&line, connected ? "connected\n" : "not connected: %.200s\n", message) &&
        file_write_atomic(path, line.data, line.len, 0600, &st) != CODE_OK)
        log_debug("the link's state cannot be noted", "reason", st.msg, NULL);
}

enum code state_read_link(const struct agent_state *state, struct buf *ret, int64_t *ret_since_ms,
                          struct status *st)
{
    AUTO_FREE char *path = path_in(state->dir, "link");
    struct stat info;
    TRY(file_read(path, 1024, ret, st));
    if (ret->len > 0 && ret->data[ret->len - 1] == '\n')
        ret->data[--ret->len] = '\0';
    *ret_since_ms = stat(path, &info) == 0 ? (int64_t)info.st_mtime * 1000 : clock_wall_ms();
    return CODE_OK;
}

enum code state_note_stop(const struct agent_state *state, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__Agent__RecentStarts starts;
    starts_read(state, arena, &starts);
    return starts_write(state, &starts, false, st);
}
