/* One pass over the export, a line at a time: memory does not grow with the log. */
#include "cli/audit_verify.h"

#include <stdlib.h>
#include <string.h>

#include "audit/cosign.h"
#include "base/arena.h"
#include "proto/audit.pb-c.h"
#include "wire/wire.h"

struct verifier {
    const struct der_list *roots;
    struct merkle_frontier frontier;
    uint32_t tree;               /* number of the one that the records are of */
    struct head first;           /* of the tree's id; size 0: none yet */
    uint64_t covered, uncovered; /* uncovered: of trees before */
    uint64_t differs;            /* size of the witness's first head that is not met; 0: all are */
    struct head *seen;           /* by the witness, in order of size */
    size_t n_seen, next_seen;
    struct audit_verdict *verdict;
};

/* Calls each line in turn; the error names it. */
static enum code each_line(FILE *in, const char *name, const ProtobufCMessageDescriptor *desc,
                           enum code (*on_message)(struct verifier *v, const ProtobufCMessage *message,
                                                   struct status *st),
                           struct verifier *v, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    enum code code = CODE_OK;
    for (unsigned long n = 1; code == CODE_OK && (len = getline(&line, &cap, in)) >= 0; n++) {
        ProtobufCMessage *message = NULL;
        arena_reset(arena);
        if (len > 0 && line[len - 1] == '\n')
            len--;
        if (len > AUDIT_LINE_MAX)
            code = status_set(st, CODE_INVALID_ARGUMENT, "the line is too long");
        else
            code = json_read(desc, line, (size_t)len, arena, &message, st);
        if (code == CODE_OK)
            code = on_message(v, message, st);
        if (code != CODE_OK)
            code = status_wrap(st, "%s line %lu", name, n);
    }
    free(line);
    if (code == CODE_OK && ferror(in))
        return status_set(st, CODE_INTERNAL, "%s cannot be read", name);
    return code;
}

static enum code same_tree(struct verifier *v, const struct head *head, struct status *st)
{
    if (v->first.size == 0)
        v->first = *head;
    if (strcmp(v->first.tree_id, head->tree_id) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "this head is of another tree than the ones before");
    return CODE_OK;
}

static enum code on_witness(struct verifier *v, const ProtobufCMessage *message, struct status *st)
{
    struct head head;
    TRY(head_open((const Clm__SignedAuditHead *)message, v->roots, &head, st));
    bool other_tree = v->n_seen > 0 && strcmp(v->seen[v->n_seen - 1].tree_id, head.tree_id) != 0;
    if (v->n_seen > 0 && !other_tree && v->seen[v->n_seen - 1].size == head.size) {
        if (!merkle_hash_equal(&v->seen[v->n_seen - 1].root, &head.root))
            return status_set(st, CODE_UNAUTHENTICATED,
                              "two heads of one size with different roots were signed");
        return CODE_OK;
    }
    if (v->n_seen > 0 && !other_tree && v->seen[v->n_seen - 1].size > head.size)
        return status_set(st, CODE_UNAUTHENTICATED, "a head is older than the one before it");
    if ((v->n_seen & (v->n_seen - 1)) == 0) {
        v->seen = reallocarray(v->seen, v->n_seen ? 2 * v->n_seen : 1, sizeof(*v->seen));
        if (!v->seen)
            abort();
    }
    v->seen[v->n_seen++] = head;
    return CODE_OK;
}

static enum code meet(const struct verifier *v, const struct head *head, struct status *st)
{
    struct merkle_hash root;
    merkle_root(&v->frontier, &root);
    if (!merkle_hash_equal(&root, &head->root))
        return status_set(st, CODE_UNAUTHENTICATED,
                          "the first %llu records are not those that were signed: the log was altered",
                          (unsigned long long)head->size);
    return CODE_OK;
}

/* Whether the witness has further heads of the tree that the records are of. */
static bool witness_waits(const struct verifier *v)
{
    return v->next_seen < v->n_seen &&
           (v->first.size == 0 || strcmp(v->seen[v->next_seen].tree_id, v->first.tree_id) == 0);
}

/* Nothing was signed of a history that the witness knows otherwise. */
static enum code witness_agrees(const struct verifier *v, struct status *st)
{
    if (v->differs == 0)
        return CODE_OK;
    return status_set(st, CODE_UNAUTHENTICATED,
                      "witness: the first %llu records are not those that were signed: the log was altered",
                      (unsigned long long)v->differs);
}

/* The tree before ends here: what the witness saw beyond its end, the restore must have named as lost. */
static enum code end_tree(struct verifier *v, const struct head *named, struct status *st)
{
    if (v->first.size == 0)
        return status_set(st, CODE_UNAUTHENTICATED, "a tree ends without a signed head");
    if (strcmp(v->first.tree_id, named->tree_id) != 0)
        return status_set(st, CODE_UNAUTHENTICATED, "the restore names another tree than the one before it");
    if (named->size < v->covered)
        return status_set(st, CODE_UNAUTHENTICATED, "the restore names fewer records than were signed");
    for (; witness_waits(v); v->next_seen++) {
        const struct head *seen = &v->seen[v->next_seen];
        if (seen->size > named->size ||
            (seen->size == named->size && !merkle_hash_equal(&seen->root, &named->root)))
            return status_set(st, CODE_UNAUTHENTICATED,
                              "the witness saw a head of %llu records that the restore does not name",
                              (unsigned long long)seen->size);
    }
    if (v->differs > named->size)
        return witness_agrees(v, st);
    v->verdict->lost += named->size - v->covered;
    v->uncovered += v->frontier.size - v->covered;
    return CODE_OK;
}

/* The first record of a tree that is not the first: that of a restore. */
static enum code begin_tree(struct verifier *v, const Clm__AuditEntry *entry, struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    ProtobufCMessage *message = NULL;
    struct head named = {0};
    TRY(wire_unpack(&clm__audit_record__descriptor, entry->leaf.data, entry->leaf.len, arena, &message, st));
    const Clm__AuditRecord *record = (const Clm__AuditRecord *)message;
    if (strcmp(record->action, "platform.restored") != 0 || record->n_former == 0)
        return status_set(st, CODE_UNAUTHENTICATED, "another tree begins without a restore");
    const Clm__FormerTree *former = record->former[record->n_former - 1];
    named.size = former->tree_size;
    (void)snprintf(named.tree_id, sizeof(named.tree_id), "%s", former->tree_id);
    memcpy(named.root.byte, former->root_sha256.data, SHA256_SIZE);
    TRY(end_tree(v, &named, st));
    v->frontier = (struct merkle_frontier){0};
    v->first = (struct head){0};
    v->covered = v->differs = 0;
    return CODE_OK;
}

static enum code on_entry(struct verifier *v, const Clm__AuditEntry *entry, struct status *st)
{
    struct merkle_hash leaf;
    uint32_t tree = entry->has_tree ? entry->tree : 1;
    if (v->verdict->trees > 0 && tree != v->tree)
        TRY(begin_tree(v, entry, st));
    if (v->verdict->trees == 0 || tree != v->tree)
        v->verdict->trees++;
    v->tree = tree;
    if (!entry->has_index || entry->index != v->frontier.size)
        return status_set(st, CODE_UNAUTHENTICATED, "record %llu is missing or out of its place",
                          (unsigned long long)v->frontier.size);
    merkle_leaf((struct bytes){entry->leaf.data, entry->leaf.len}, &leaf);
    TRY(merkle_append(&v->frontier, &leaf, NULL, NULL, st));
    v->verdict->records++;
    while (witness_waits(v) && v->seen[v->next_seen].size == v->frontier.size) {
        /* A restore may explain it, if this tree ends with one before another head is signed over it. */
        struct status why;
        if (meet(v, &v->seen[v->next_seen], &why) == CODE_OK)
            v->verdict->witnessed++;
        else if (v->differs == 0)
            v->differs = v->frontier.size;
        v->next_seen++;
    }
    return CODE_OK;
}

static enum code on_head(struct verifier *v, const Clm__SignedAuditHead *message, struct status *st)
{
    struct head head;
    TRY(head_open(message, v->roots, &head, st));
    TRY(same_tree(v, &head, st));
    if (head.size != v->frontier.size)
        return status_set(st, CODE_UNAUTHENTICATED, "a head of %llu records stands after %llu",
                          (unsigned long long)head.size, (unsigned long long)v->frontier.size);
    TRY(meet(v, &head, st));
    TRY(witness_agrees(v, st));
    v->covered = head.size;
    v->verdict->heads++;
    return CODE_OK;
}

/* The agent says that it has verified the very head that stands before. */
static enum code on_cosignature(struct verifier *v, const Clm__SignedCosignature *message, struct status *st)
{
    struct cosignature said;
    TRY(cosignature_open(message, v->roots, &said, st));
    TRY(same_tree(v, &said.head, st));
    if (said.head.size != v->frontier.size)
        return status_set(st, CODE_UNAUTHENTICATED, "a co-signature of %llu records stands after %llu",
                          (unsigned long long)said.head.size, (unsigned long long)v->frontier.size);
    if (meet(v, &said.head, st) != CODE_OK)
        return status_wrap(st, "co-signature of agent %s", said.agent_id);
    v->verdict->cosignatures++;
    return CODE_OK;
}

static enum code on_line(struct verifier *v, const ProtobufCMessage *message, struct status *st)
{
    const Clm__AuditExportLine *line = (const Clm__AuditExportLine *)message;
    if (!!line->entry + !!line->head + !!line->cosignature != 1)
        return status_set(st, CODE_INVALID_ARGUMENT, "neither a record nor a head nor a co-signature");
    if (line->cosignature)
        return on_cosignature(v, line->cosignature, st);
    return line->entry ? on_entry(v, line->entry, st) : on_head(v, line->head, st);
}

enum code audit_verify(FILE *in, FILE *witness, const struct der_list *roots, struct audit_verdict *ret,
                       struct status *st)
{
    *ret = (struct audit_verdict){0};
    struct verifier v = {.roots = roots, .verdict = ret};
    enum code code = CODE_OK;
    if (witness)
        code = each_line(witness, "witness", &clm__signed_audit_head__descriptor, on_witness, &v, st);
    if (code == CODE_OK)
        code = each_line(in, "export", &clm__audit_export_line__descriptor, on_line, &v, st);
    ret->uncovered = v.uncovered + v.frontier.size - v.covered;
    if (code == CODE_OK)
        code = witness_agrees(&v, st);
    if (code == CODE_OK && v.next_seen < v.n_seen)
        code = status_set(st, CODE_UNAUTHENTICATED,
                          "the witness saw %llu records, the export has %llu: its end is missing",
                          (unsigned long long)v.seen[v.n_seen - 1].size, (unsigned long long)v.frontier.size);
    if (code == CODE_OK && ret->heads == 0)
        code = status_set(st, CODE_UNAUTHENTICATED, "there is no signed head in it: nothing is proved");
    free(v.seen);
    return code;
}
