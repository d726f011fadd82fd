/* Batches, the children that parse them, and the result: see findings.h. */
#include "kinds/findings.h"

#include <string.h>

#include "pki/keystore.h"
#include "wire/wire.h"

#define BATCH_FILES  256
#define BATCH_BYTES  (8 * 1024 * 1024)
#define BATCHES      2            /* one is parsed while the other is filled, and one more on top */
#define ANSWER_BYTES (200 * 1024) /* after which a child stops, to stay below its limit */
#define CERTS_A_FILE 300
#define TRUST_BUNDLE_MIN                                                                                     \
    10 /* a file of more roots than this is a trust store and no server's certificate                        \
        */
#define RESULT_BYTES (3584 * 1024) /* a result has at most 4 MiB, of which steps and checks take some */

struct batch {
    struct finding item[BATCH_FILES];
    size_t n, bytes;
    size_t from; /* first that is parsed by this child */
    struct confined confined;
    bool running;
};

struct findings {
    struct task_run *run;
    size_t max, bytes; /* of the result */
    void (*complete)(struct finding *finding, void *arg);
    void *arg;
    struct batch batch[BATCHES];
    size_t current;
    struct seen_entry *remembered;
    size_t n_remembered, room;
    unsigned unreadable, sealed;
    bool full, legacy_loaded;
};

/* --- the child ---------------------------------------------------------------------------------------- */

/* Many sockets serve, and many files hold, the same certificate: the last ones are kept. */
#define RECENT 16
struct recent {
    struct bytes der[RECENT];
    Clm__CertificateInfo *info[RECENT];
    size_t next;
};

struct parse_one {
    struct arena *arena;
    Clm__Agent__Facts *facts;
    struct recent *recent;
    uint32_t file;
};

static Clm__CertificateInfo *recent_find(const struct recent *recent, struct bytes der)
{
    for (size_t i = 0; i < RECENT; i++) {
        if (recent->info[i] && recent->der[i].len == der.len &&
            memcmp(recent->der[i].data, der.data, der.len) == 0)
            return recent->info[i];
    }
    return NULL;
}

static void on_cert(struct bytes der, void *arg)
{
    struct parse_one *one = arg;
    struct recent *recent = one->recent;
    Clm__CertificateInfo *info = recent_find(recent, der);
    if (info) {
        Clm__Agent__CertFacts *cert = arena_alloc(one->arena, sizeof(*cert));
        clm__agent__cert_facts__init(cert);
        cert->certificate = info;
        cert->has_file = true;
        cert->file = one->file;
        ARENA_PUSH(one->arena, one->facts->certs, one->facts->n_certs, cert);
        return;
    }
    if (confine_list_cert(one->facts, one->arena, der, one->file, NULL) != CODE_OK)
        return;
    size_t at = recent->next++ % RECENT;
    recent->der[at] = (struct bytes){arena_dup(one->arena, der.data, der.len), der.len};
    recent->info[at] = one->facts->certs[one->facts->n_certs - 1]->certificate;
}

static void on_keystore_cert(struct bytes der, const char *alias, bool with_key, void *arg)
{
    struct parse_one *one = arg;
    size_t before = one->facts->n_certs;
    (void)with_key;
    on_cert(der, one);
    if (one->facts->n_certs > before && alias[0])
        one->facts->certs[before]->alias = arena_strdup(one->arena, alias);
}

static bool is_trust_bundle(const Clm__Agent__Facts *facts, size_t first)
{
    for (size_t i = first; i < facts->n_certs; i++) {
        if (!facts->certs[i]->certificate->is_ca || !facts->certs[i]->certificate->self_signed)
            return false;
    }
    return facts->n_certs - first > TRUST_BUNDLE_MIN;
}

static void parse_item(const struct finding *item, struct parse_one *one)
{
    struct bytes content = {item->data, item->len};
    struct keystore_info info = {0};
    if (keystore_sniff(content) == KEYSTORE_NONE) {
        (void)!certs_sniff(content, CERTS_A_FILE, on_cert, one, NULL);
        return;
    }
    enum code code =
        keystore_certs(content, item->password, CERTS_A_FILE, on_keystore_cert, one, &info, NULL);
    if (code != CODE_PERMISSION_DENIED && info.sealed == 0)
        return;
    one->facts->sealed_files[one->facts->n_sealed_files++] = one->file;
}

static void parse_batch(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct batch *batch = arg;
    struct recent recent = {0};
    facts->has_files_done = true;
    facts->sealed_files = arena_array(arena, BATCH_FILES, sizeof(uint32_t));
    for (size_t i = 0; batch->from + i < batch->n && clm__agent__facts__get_packed_size(facts) < ANSWER_BYTES;
         i++) {
        const struct finding *item = &batch->item[batch->from + i];
        struct parse_one one = {arena, facts, &recent, (uint32_t)i};
        size_t first = facts->n_certs;
        parse_item(item, &one);
        if (item->source == CLM__FOUND_CERTIFICATE__SOURCE__FILE && is_trust_bundle(facts, first))
            facts->n_certs = first;
        facts->files_done = (uint32_t)i + 1;
    }
}

/* --- the result --------------------------------------------------------------------------------------- */

/* Names of files, and what is in certificates, may be anything: one that the platform would refuse must not
 * make it refuse the others. */
static bool is_sound(Clm__FoundCertificate *found, struct arena *arena)
{
    if (wire_check(&found->base, NULL) == CODE_OK)
        return true;
    found->certificate = arena_dup(arena, found->certificate, sizeof(*found->certificate));
    wire_clean(&found->base, arena);
    return wire_check(&found->base, NULL) == CODE_OK;
}

static void add_found(struct findings *f, struct finding *item, const Clm__Agent__CertFacts *cert)
{
    Clm__TaskResult *result = f->run->result;
    struct arena *arena = f->run->arena;
    if (result->n_certificates >= f->max) {
        f->full = true;
        return;
    }
    if (f->complete)
        f->complete(item, f->arg);
    Clm__FoundCertificate *found = arena_alloc(arena, sizeof(*found));
    clm__found_certificate__init(found);
    found->certificate = cert->certificate;
    found->has_source = true;
    found->source = item->source;
    found->path = arena_strdup(arena, item->path);
    found->endpoint = arena_strdup(arena, item->endpoint);
    found->server_name = arena_strdup(arena, item->server_name);
    found->used_by = arena_strdup(arena, item->used_by);
    found->key_path = arena_strdup(arena, item->key_path);
    found->process = arena_strdup(arena, item->process);
    found->has_pid = item->pid > 0;
    found->pid = (uint32_t)item->pid;
    found->alias = arena_strdup(arena, cert->alias ? cert->alias : item->alias);
    if (!is_sound(found, arena)) {
        f->unreadable++;
        return;
    }
    size_t bytes = clm__found_certificate__get_packed_size(found) + 8;
    if (f->bytes + bytes > RESULT_BYTES) {
        f->full = true;
        return;
    }
    f->bytes += bytes;
    ARENA_PUSH(arena, result->certificates, result->n_certificates, found);
}

static void remember(struct findings *f, const struct finding *item, Clm__Agent__Facts *of_item)
{
    struct seen_entry entry = {.key = item->key};
    /* A password may be known the next time. */
    if (!item->remember || of_item->n_sealed_files > 0)
        return;
    if (of_item->n_certs > 0)
        wire_pack(&of_item->base, f->run->arena, &entry.found.data, &entry.found.len);
    if (f->n_remembered == f->room) {
        struct seen_entry *more = arena_array(f->run->arena, f->room * 2 + 64, sizeof(*more));
        if (f->n_remembered)
            memcpy(more, f->remembered, f->n_remembered * sizeof(*more));
        f->remembered = more;
        f->room = f->room * 2 + 64;
    }
    f->remembered[f->n_remembered++] = entry;
}

/* The rows of one file out of an answer. */
static void take_item(struct findings *f, struct finding *item, uint32_t index,
                      const Clm__Agent__Facts *facts)
{
    Clm__Agent__Facts of_item = CLM__AGENT__FACTS__INIT;
    static uint32_t zero;
    for (size_t i = 0; i < facts->n_certs; i++) {
        Clm__Agent__CertFacts *cert = facts->certs[i];
        if (!cert->certificate || cert->file != index)
            continue;
        add_found(f, item, cert);
        ARENA_PUSH(f->run->arena, of_item.certs, of_item.n_certs, cert);
    }
    for (size_t i = 0; i < facts->n_sealed_files && of_item.n_sealed_files == 0; i++) {
        if (facts->sealed_files[i] != index)
            continue;
        of_item.sealed_files = &zero;
        of_item.n_sealed_files = 1;
        f->sealed++;
    }
    for (size_t i = 0; i < of_item.n_certs; i++)
        of_item.certs[i]->file = 0;
    remember(f, item, &of_item);
}

/* --- batches ------------------------------------------------------------------------------------------ */

static bool start(struct findings *f, struct batch *batch)
{
    for (size_t i = batch->from; i < batch->n && !f->legacy_loaded; i++) {
        if (keystore_sniff((struct bytes){batch->item[i].data, batch->item[i].len}) == KEYSTORE_PKCS12) {
            pkcs12_load_legacy();
            f->legacy_loaded = true;
        }
    }
    batch->running = confine_start(parse_batch, batch, &batch->confined, NULL) == CODE_OK;
    return batch->running;
}

/* How many of the batch's files the child answered for; 0: it died. */
static size_t end(struct findings *f, struct batch *batch)
{
    const Clm__Agent__Facts *facts;
    size_t n = batch->n - batch->from;
    batch->running = false;
    if (confine_end(&batch->confined, f->run->arena, &facts, NULL) != CODE_OK)
        return 0;
    size_t done = facts->files_done < n ? facts->files_done : n;
    for (size_t i = 0; i < done; i++)
        take_item(f, &batch->item[batch->from + i], (uint32_t)i, facts);
    return done;
}

/* Waits for the batch's child and sees to what it left undone: a file that ends its parser is lost, the
 * others of its batch are not. */
static void settle(struct findings *f, struct batch *batch)
{
    size_t n = batch->n, step = n;
    while (batch->from < n) {
        size_t done = batch->running || start(f, batch) ? end(f, batch) : 0;
        if (done == 0 && batch->n - batch->from <= 1) {
            f->unreadable++;
            done = 1;
        } else if (done == 0) {
            step = (batch->n - batch->from) / 2;
        } else {
            step *= 2;
        }
        batch->from += done;
        batch->n = batch->from + step < n ? batch->from + step : n;
    }
    for (size_t i = 0; i < n; i++)
        free(batch->item[i].data);
    batch->n = batch->bytes = batch->from = 0;
}

/* The current batch goes to its child, and the other one is the current. */
static void send_batch(struct findings *f)
{
    struct batch *batch = &f->batch[f->current];
    if (batch->n > 0)
        (void)start(f, batch);
    f->current = (f->current + 1) % BATCHES;
    settle(f, &f->batch[f->current]);
}

struct findings *findings_new(struct task_run *run, size_t max,
                              void (*complete)(struct finding *finding, void *arg), void *arg)
{
    struct findings *f = arena_alloc(run->arena, sizeof(*f));
    f->run = run;
    f->max = max;
    f->complete = complete;
    f->arg = arg;
    return f;
}

void findings_add(struct findings *f, struct finding finding)
{
    struct batch *batch = &f->batch[f->current];
    if (batch->n == BATCH_FILES || batch->bytes + finding.len > BATCH_BYTES) {
        send_batch(f);
        batch = &f->batch[f->current];
    }
    batch->item[batch->n++] = finding;
    batch->bytes += finding.len;
}

void findings_add_known(struct findings *f, struct finding finding)
{
    ProtobufCMessage *msg = NULL;
    if (wire_unpack(&clm__agent__facts__descriptor, finding.data, finding.len, f->run->arena, &msg, NULL) ==
        CODE_OK)
        take_item(f, &finding, 0, (const Clm__Agent__Facts *)(const void *)msg);
    free(finding.data);
}

void findings_flush(struct findings *f)
{
    for (size_t i = 0; i < BATCHES; i++)
        send_batch(f);
}

bool findings_full(const struct findings *f)
{
    return f->full;
}

unsigned findings_unreadable(const struct findings *f)
{
    return f->unreadable;
}

unsigned findings_sealed(const struct findings *f)
{
    return f->sealed;
}

const struct seen_entry *findings_remembered(const struct findings *f, size_t *ret_n)
{
    *ret_n = f->n_remembered;
    return f->remembered;
}
