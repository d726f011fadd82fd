/* exec's thread; the command in a process of its own, beside a running agent. */
#include "agent/exec/heads.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/exec/receipt.h"
#include "agent/policy/policy.h"
#include "audit/cosign.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "proto/audit.pb-c.h"
#include "sandbox/sandbox.h"
#include "wire/wire.h"

#define FILE_MAX         (128 * 1024)
#define CHECK_TIMEOUT_MS 5000
#define UNPROVED_MAX     16

static char *path_in(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

static char *path_of(const char *dir)
{
    return path_in(dir, "audit-head");
}

/* ---- in the confined child ---- */

struct check {
    const Clm__SignedAuditHead *in;
    const struct der_list *roots;
};

struct answer {
    enum code code;
    struct head head;
    char why[200];
};

static int parse_head(void *arg, const void *in, size_t in_len, int out_fd)
{
    (void)in;
    (void)in_len;
    const struct check *check = arg;
    struct answer answer;
    struct status st = {0}, out_st;
    memset(&answer, 0, sizeof(answer));
    answer.code = head_open(check->in, check->roots, &answer.head, &st);
    (void)snprintf(answer.why, sizeof(answer.why), "%.190s", st.msg);
    return fd_write_all(out_fd, &answer, sizeof(answer), &out_st) == CODE_OK ? 0 : 1;
}

/* ---- in exec ---- */

static enum code open_confined(const Clm__SignedAuditHead *in, const struct der_list *roots, uid_t parser_uid,
                               struct head *ret, struct status *st)
{
    AUTO_BUF struct buf out = {0};
    struct check check = {in, roots};
    struct answer answer;
    TRY(sandbox_parse(parse_head, &check, "", 0, sizeof(answer), CHECK_TIMEOUT_MS, parser_uid, &out, st));
    if (out.len != sizeof(answer))
        return status_set(st, CODE_INTERNAL, "the parser's answer is malformed");
    memcpy(&answer, out.data, sizeof(answer));
    answer.why[sizeof(answer.why) - 1] = '\0';
    answer.head.tree_id[sizeof(answer.head.tree_id) - 1] = '\0';
    if (answer.code != CODE_OK)
        return status_set(st, answer.code, "%s", answer.why);
    *ret = answer.head;
    return CODE_OK;
}

/* Gateways learn of heads a minute apart: an older one than ours is no problem. Nor is one that is proved
 * from another than ours, since a check-in may have left before the last answer was read; but not for ever.
 */
static enum code fits(struct agent_heads *heads, const struct head *head, const Clm__SignedAuditHead *message,
                      bool *ret_newer, struct status *st)
{
    const struct head *known = &heads->known;
    bool other_tree = known->size > 0 && strcmp(head->tree_id, known->tree_id) != 0;
    *ret_newer = known->size == 0 || other_tree || head->size > known->size;
    if (known->size == 0)
        return CODE_OK;
    if (other_tree)
        return head_restored(known, head, message, st);
    if (*ret_newer && message->previous_size != known->size) {
        *ret_newer = false;
        return ++heads->unproved < UNPROVED_MAX
                   ? CODE_OK
                   : status_set(st, CODE_UNAUTHENTICATED,
                                "the platform does not prove that its audit log holds the %llu records that "
                                "this host knows",
                                (unsigned long long)known->size);
    }
    if (*ret_newer)
        return head_extends(known, head, message, st);
    if (head->size == known->size)
        return merkle_hash_equal(&head->root, &known->root)
                   ? CODE_OK
                   : status_set(st, CODE_UNAUTHENTICATED, "two histories of the same length");
    if (head->made_at_ms > known->made_at_ms)
        return status_set(st, CODE_UNAUTHENTICATED,
                          "the audit log is shorter than it was: %llu records, it had %llu",
                          (unsigned long long)head->size, (unsigned long long)known->size);
    return CODE_OK;
}

static enum code store(const struct agent_state *state, const Clm__SignedAuditHead *head, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_FREE char *path = path_of(state->dir);
    const uint8_t *data;
    size_t len;
    wire_pack(&head->base, arena, &data, &len);
    return file_write_atomic(path, data, len, 0600, st);
}

static bool problem(struct agent_heads *heads, const struct status *why)
{
    char text[sizeof(heads->problem)];
    (void)snprintf(text, sizeof(text), "%.240s", why->msg);
    if (strcmp(text, heads->problem) == 0)
        return false;
    memcpy(heads->problem, text, sizeof(text));
    log_error("a head of the platform's audit log does not hold", "reason", text, NULL);
    return true;
}

/* What was wrong with the tree before is answered by the restore, unless that is what is wrong. */
static void met_restore(struct agent_heads *heads, enum code code)
{
    heads->restored = true;
    if (code == CODE_OK)
        heads->problem[0] = '\0';
    der_done(&heads->cosignature); /* of the tree before */
    log_warn("the platform was restored from a backup; its audit log goes on in another tree", "tree",
             heads->known.tree_id, NULL);
}

bool heads_restored(struct agent_heads *heads)
{
    bool restored = heads->restored;
    heads->restored = false;
    return restored;
}

bool heads_take(struct agent_heads *heads, const struct agent_state *state,
                struct Clm__SignedAuditHead *const *in, size_t n, uid_t parser_uid)
{
    bool changed = false;
    for (size_t i = 0; i < n; i++) {
        struct status st = {0};
        struct head head;
        bool newer;
        if (open_confined(in[i], &state->roots, parser_uid, &head, &st) != CODE_OK)
            return problem(heads, &st) || changed;
        enum code code = fits(heads, &head, in[i], &newer, &st);
        bool other_tree = heads->known.size > 0 && strcmp(heads->known.tree_id, head.tree_id) != 0;
        /* A restore that did not know as much as we is told, and followed: nobody else can go on. */
        if (code == CODE_FAILED_PRECONDITION && other_tree)
            changed |= problem(heads, &st);
        else if (code != CODE_OK)
            return problem(heads, &st) || changed;
        if (!newer)
            continue;
        if (store(state, in[i], &st) != CODE_OK) {
            log_warn("a head of the audit log cannot be stored", "reason", st.msg, NULL);
            return changed;
        }
        heads->known = head;
        heads->unproved = 0;
        heads->wanted = false;
        if (other_tree)
            met_restore(heads, code);
        changed = true;
    }
    return changed;
}

/* ---- co-signatures ---- */

/* Lost, it costs one signature more than one a day. */
static void store_cosigned(const struct agent_heads *heads, const struct agent_state *state)
{
    AUTO_FREE char *path = path_in(state->dir, "audit-cosigned");
    char text[32];
    struct status st;
    int n = snprintf(text, sizeof(text), "%" PRId64, heads->cosigned_at_ms);
    if (file_write_atomic(path, text, (size_t)n, 0600, &st) != CODE_OK)
        log_warn("the time of the co-signature cannot be stored", "reason", st.msg, NULL);
}

static int64_t load_cosigned(const char *dir)
{
    AUTO_FREE char *path = path_in(dir, "audit-cosigned");
    AUTO_BUF struct buf file = {0};
    struct status st;
    buf_init(&file, 32);
    if (file_read(path, 31, &file, &st) != CODE_OK)
        return 0;
    const char *text = buf_text(&file);
    size_t n = strspn(text, "0123456789");
    return n > 0 && n < 16 && text[n] == '\0' ? strtoll(text, NULL, 10) : 0;
}

bool heads_cosign(struct agent_heads *heads, const struct agent_state *state, int64_t now_ms)
{
    int64_t day = cosign_day(state->agent_id, now_ms);
    struct status st;
    if (heads->known.size == 0 ||
        (heads->cosigned_at_ms > 0 && cosign_day(state->agent_id, heads->cosigned_at_ms) == day) ||
        (heads->cosignature.len > 0 && cosign_day(state->agent_id, heads->cosignature_of.made_at_ms) == day))
        return false;
    der_done(&heads->cosignature);
    if (cosignature_sign(state, &heads->known, now_ms, &heads->cosignature, &st) != CODE_OK) {
        log_warn("the head of the audit log cannot be co-signed", "reason", st.msg, NULL);
        return false;
    }
    heads->cosignature_of = heads->known;
    heads->cosignature_of.made_at_ms = now_ms;
    return true;
}

bool heads_cosigned(struct agent_heads *heads, const struct agent_state *state, int64_t made_at_ms)
{
    if (heads->cosignature.len == 0 || heads->cosignature_of.made_at_ms != made_at_ms)
        return false;
    der_done(&heads->cosignature);
    heads->cosigned_at_ms = made_at_ms;
    store_cosigned(heads, state);
    return true;
}

void heads_done(struct agent_heads *heads)
{
    der_done(&heads->cosignature);
}

/* ---- what is stored ---- */

static enum code load_message(const char *dir, struct arena *arena, Clm__SignedAuditHead **ret,
                              struct status *st)
{
    AUTO_FREE char *path = path_of(dir);
    AUTO_BUF struct buf file = {0};
    ProtobufCMessage *message = NULL;
    buf_init(&file, FILE_MAX);
    TRY(file_read(path, FILE_MAX, &file, st));
    TRY(wire_unpack(&clm__signed_audit_head__descriptor, file.data, file.len, arena, &message, st));
    *ret = (Clm__SignedAuditHead *)message;
    return CODE_OK;
}

static enum code load(const char *dir, const struct der_list *roots, struct head *ret, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__SignedAuditHead *message = NULL;
    TRY(load_message(dir, arena, &message, st));
    return head_open(message, roots, ret, st);
}

struct Clm__SignedAuditHead *heads_held(const struct agent_heads *heads, const struct agent_state *state,
                                        struct arena *arena)
{
    Clm__SignedAuditHead *message = NULL;
    struct status st;
    if (heads->known.size == 0 || (!*heads->problem && !heads->wanted) ||
        load_message(state->dir, arena, &message, &st) != CODE_OK)
        return NULL;
    message->tree_id = arena_strdup(arena, heads->known.tree_id);
    message->n_consistency = message->n_origin_inclusion = 0;
    message->has_origin = 0;
    message->origin = (ProtobufCBinaryData){0};
    return message;
}

void heads_load(struct agent_heads *heads, const struct agent_state *state)
{
    struct status st;
    enum code code = load(state->dir, &state->roots, &heads->known, &st);
    if (code != CODE_OK)
        heads->known = (struct head){0};
    heads->cosigned_at_ms = load_cosigned(state->dir);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        log_warn("the stored head of the audit log is not used", "reason", st.msg, NULL);
}

int heads_print_main(const char *config_path, const char *state_dir)
{
    struct policy *policy = NULL;
    struct agent_state *state = NULL;
    struct head head;
    struct status st;
    char made[CLOCK_RFC3339_SIZE], root[SHA256_HEX_SIZE];
    if (!state_dir) {
        (void)policy_load_or_none(config_path, &policy, &st);
        state_dir = policy->state_dir;
    }
    enum code code = state_peek(state_dir ? state_dir : AGENT_STATE_DIR, &state, &st);
    if (code == CODE_OK)
        code = load(state->dir, &state->roots, &head, &st);
    if (code == CODE_OK) {
        clock_format_rfc3339(head.made_at_ms, made);
        hex_encode(head.root.byte, SHA256_SIZE, root);
        (void)printf("%-8s %s\n%-8s %llu\n%-8s %s\n%-8s %s\n", "tree", head.tree_id, "records",
                     (unsigned long long)head.size, "root", root, "made", made);
    } else {
        (void)fprintf(stderr, "clm-agent audit-head: %s\n",
                      code == CODE_NOT_FOUND ? "this host has seen no head yet" : st.msg);
    }
    state_free(state);
    policy_free(policy);
    return code == CODE_OK ? 0 : 1;
}
