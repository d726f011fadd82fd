/* The table of stores, and the way in and out of the confined child: see store.h. */
#include "stores/store.h"

#include <string.h>

#include "stores/box.h"
#include "stores/place.h"

#define PASSWORD_MAX KEYSTORE_PASSWORD_MAX

static const struct store *const stores[] = {
    [STORE_PEM] = &pem_store, [STORE_HAPROXY] = &haproxy_store,       [STORE_PKCS12] = &pkcs12_store,
    [STORE_JKS] = &jks_store, [STORE_KUBERNETES] = &kubernetes_store,
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
    return box_put(opening->box, pem->data, pem->len, st);
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

static enum code open_confined(const struct store *store, const struct store_in *in, struct arena *arena,
                               const Clm__Agent__Facts **ret, struct secret **ret_key, struct status *st)
{
    AUTO_BOX struct box *box = box_new();
    struct opening opening = {store, in, box};
    if (store->password)
        pkcs12_load_legacy();
    TRY(confine_run(open_in_child, &opening, arena, ret, st));
    *ret_key = box_take(box);
    return CODE_OK;
}

enum code store_view(const struct policy_target *target, const struct secret *content,
                     const struct secret *password, struct arena *arena, struct store_view *ret,
                     struct status *st)
{
    memset(ret, 0, sizeof(*ret));
    if (!content || content->len == 0)
        return CODE_OK;
    struct store_in in = {{content->data, content->len}, password, target->alias};
    CLEANUP(store_view_done) struct store_view view = {0};
    if (open_confined(store_of(target), &in, arena, &view.facts, &view.key, st) != CODE_OK)
        return status_wrap(st, "%.120s", target->certificate);
    AUTO_DER_LIST struct der_list chain = {0};
    for (size_t i = 0; i < view.facts->n_certs; i++)
        TRY(der_list_add(&chain,
                         (struct bytes){view.facts->certs[i]->der.data, view.facts->certs[i]->der.len}, st));
    TRY(certs_to_pem(&chain, &view.chain_pem, st));
    *ret = view;
    view = (struct store_view){0};
    return CODE_OK;
}

enum code store_view_unlock(const struct store_tool *tool, const struct secret *content, struct arena *arena,
                            struct store_view *view, struct status *st)
{
    const struct store *store = store_of(tool->target);
    AUTO_SECRET struct secret *pkcs12 = NULL;
    const Clm__Agent__Facts *facts;
    if (view->key || !view->facts || !content || !store->unlock)
        return CODE_OK;
    TRY(store->unlock(tool, content, view->facts->alias, &pkcs12, st));
    struct store_in in = {{pkcs12->data, pkcs12->len}, tool->password, NULL};
    return open_confined(&pkcs12_store, &in, arena, &facts, &view->key, st);
}

enum code store_view_now(const struct policy_target *target, struct arena *arena, struct store_view *ret,
                         struct status *st)
{
    AUTO_SECRET struct secret *content = NULL, *password = NULL;
    memset(ret, 0, sizeof(*ret));
    struct place_at at = {.target = target};
    TRY(place_of(target)->read(&at, target->certificate, &content, NULL, st));
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
        code = box_put(making->box, made->data, made->len, &st);
    if (code != CODE_OK)
        confine_fail(facts, arena, code, "%s", st.msg);
}

enum code store_make(const struct store_tool *tool, const struct store_parts *parts, struct arena *arena,
                     struct secret **ret, struct status *st)
{
    AUTO_BOX struct box *box = box_new();
    const struct store *store = store_of(tool->target);
    struct making making = {store, parts, box};
    const Clm__Agent__Facts *facts;
    if (store->password)
        pkcs12_load_legacy();
    TRY(confine_run(make_in_child, &making, arena, &facts, st));
    AUTO_SECRET struct secret *made = box_take(box);
    if (!made)
        return status_set(st, CODE_INTERNAL, "nothing to write into %.150s came about",
                          tool->target->certificate);
    if (store->finish)
        TRY(store->finish(tool, parts, &made, st));
    *ret = TAKE(made);
    return CODE_OK;
}
