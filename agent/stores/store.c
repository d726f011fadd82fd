/* The table of stores, and the way in and out of the confined child: see store.h. */
#include "stores/store.h"

#include <string.h>
#include <sys/mman.h>

#define PASSWORD_MAX KEYSTORE_PASSWORD_MAX

static const struct store *const stores[] = {
    [STORE_PEM] = &pem_store,
    [STORE_HAPROXY] = &haproxy_store,
    [STORE_PKCS12] = &pkcs12_store,
};
_Static_assert(ARRAY_LEN(stores) == STORE_FORMATS, "a row for each format of the local policy");

const struct store *store_of(const struct policy_target *target)
{
    return stores[target->format];
}

enum code store_password(const struct policy_target *target, struct secret **ret, struct status *st)
{
    *ret = NULL;
    if (!store_of(target)->password)
        return CODE_OK;
    if (secret_read_file(target->password_file, PASSWORD_MAX, true, ret, st) != CODE_OK)
        return status_wrap(st, "[target %.60s] password_file", target->name);
    return CODE_OK;
}

/* --- a box for keys --------------------------------------------------------------------------------------
 */

/* Shared with the confined child, which may lie about the length. */
struct box {
    size_t len;
    uint8_t data[STORE_FILE_MAX];
};

static struct box *box_new(void)
{
    struct box *box =
        mmap(NULL, sizeof(*box), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (box == MAP_FAILED)
        abort();
    (void)mlock(box, sizeof(*box));
    (void)madvise(box, sizeof(*box), MADV_DONTDUMP);
    return box;
}

static void box_free(struct box *box)
{
    if (!box)
        return;
    explicit_bzero(box->data, box->len < sizeof(box->data) ? box->len : sizeof(box->data));
    (void)munmap(box, sizeof(*box));
}
DEFINE_CLEANUP(box, struct box *, box_free)

static enum code box_put(struct box *box, const struct secret *secret, struct status *st)
{
    if (secret->len > sizeof(box->data))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%zu bytes to write: at most %d", secret->len,
                          STORE_FILE_MAX);
    memcpy(box->data, secret->data, secret->len);
    box->len = secret->len;
    return CODE_OK;
}

static struct secret *box_take(const struct box *box)
{
    size_t len = *(const volatile size_t *)&box->len;
    return len > 0 && len <= sizeof(box->data) ? secret_dup(box->data, len) : NULL;
}

/* --- opening ---------------------------------------------------------------------------------------------
 */

struct opening {
    const struct store *store;
    const struct store_in *in;
    struct box *box;
};

static void found_done(struct store_found *found)
{
    der_list_done(&found->chain);
    key_free(found->key);
}

static enum code open_it(const struct opening *opening, struct arena *arena, Clm__Agent__Facts *facts,
                         struct status *st)
{
    CLEANUP(found_done) struct store_found found = {0};
    AUTO_SECRET struct secret *pem = NULL;
    TRY(opening->store->open(opening->in, &found, st));
    for (size_t i = 0; i < found.chain.n; i++)
        TRY(confine_add_cert(facts, arena, der_bytes(&found.chain.item[i]), 0, true, st));
    facts->alias = arena_strdup(arena, found.alias);
    facts->has_others = true;
    facts->others = found.others;
    if (!found.key)
        return CODE_OK;
    TRY(key_to_pem(found.key, NULL, &pem, st));
    return box_put(opening->box, pem, st);
}

static void open_in_child(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    struct status st;
    enum code code = open_it(arg, arena, facts, &st);
    if (code != CODE_OK)
        confine_fail(facts, arena, code, "%s", st.msg);
}

void store_view_done(struct store_view *view)
{
    secret_free(view->key);
    buf_done(&view->chain_pem);
    *view = (struct store_view){0};
}

struct bytes store_view_leaf(const struct store_view *view)
{
    if (!view->facts || view->facts->n_certs == 0)
        return (struct bytes){0};
    return (struct bytes){view->facts->certs[0]->der.data, view->facts->certs[0]->der.len};
}

enum code store_view(const struct policy_target *target, const struct secret *content,
                     const struct secret *password, struct arena *arena, struct store_view *ret,
                     struct status *st)
{
    memset(ret, 0, sizeof(*ret));
    if (!content || content->len == 0)
        return CODE_OK;
    CLEANUP(cleanup_box) struct box *box = box_new();
    struct store_in in = {{content->data, content->len}, password, target->alias};
    struct opening opening = {store_of(target), &in, box};
    const Clm__Agent__Facts *facts;
    if (store_of(target)->password)
        pkcs12_load_legacy();
    if (confine_run(open_in_child, &opening, arena, &facts, st) != CODE_OK)
        return status_wrap(st, "%.120s", target->certificate);
    AUTO_DER_LIST struct der_list chain = {0};
    for (size_t i = 0; i < facts->n_certs; i++)
        TRY(der_list_add(&chain, (struct bytes){facts->certs[i]->der.data, facts->certs[i]->der.len}, st));
    TRY(certs_to_pem(&chain, &ret->chain_pem, st));
    ret->facts = facts;
    ret->key = box_take(box);
    return CODE_OK;
}

enum code store_view_now(const struct policy_target *target, struct arena *arena, struct store_view *ret,
                         struct status *st)
{
    AUTO_SECRET struct secret *content = NULL, *password = NULL;
    memset(ret, 0, sizeof(*ret));
    TRY(store_read(target->certificate, &content, NULL, st));
    if (content)
        TRY(store_password(target, &password, st));
    return store_view(target, content, password, arena, ret, st);
}

/* --- making ----------------------------------------------------------------------------------------------
 */

struct making {
    const struct store *store;
    const struct store_parts *parts;
    struct box *box;
};

static void make_in_child(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct making *making = arg;
    AUTO_SECRET struct secret *made = NULL;
    struct status st;
    enum code code = making->store->make(making->parts, &made, &st);
    if (code == CODE_OK)
        code = box_put(making->box, made, &st);
    if (code != CODE_OK)
        confine_fail(facts, arena, code, "%s", st.msg);
}

enum code store_make(const struct policy_target *target, const struct store_parts *parts, struct arena *arena,
                     struct secret **ret, struct status *st)
{
    CLEANUP(cleanup_box) struct box *box = box_new();
    struct making making = {store_of(target), parts, box};
    const Clm__Agent__Facts *facts;
    if (store_of(target)->password)
        pkcs12_load_legacy();
    TRY(confine_run(make_in_child, &making, arena, &facts, st));
    *ret = box_take(box);
    if (!*ret)
        return status_set(st, CODE_INTERNAL, "nothing to write into %.150s came about", target->certificate);
    return CODE_OK;
}
