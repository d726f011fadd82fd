/* See installed.h. */
#include "kinds/installed.h"

#include <string.h>

#include "base/file.h"
#include "kinds/kinds.h"
#include "stores/store.h"

#define HEX_LEN (SHA256_HEX_SIZE - 1)

/* --- what is in place --------------------------------------------------------------------------------- */

void installed_done(struct installed *installed)
{
    secret_free(installed->own);
    secret_free(installed->apart);
    secret_free(installed->pem);
    secret_free(installed->key);
    *installed = (struct installed){0};
}

/* Of each its length too: no two lists look the same. */
static void add_der(struct sha256_ctx *ctx, struct bytes der)
{
    uint64_t len = der.len;
    sha256_ctx_add(ctx, (struct bytes){(const uint8_t *)&len, sizeof(len)});
    sha256_ctx_add(ctx, der);
}

static void end_digest(struct sha256_ctx *ctx, char ret[SHA256_HEX_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    sha256_ctx_free(ctx, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        (void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

void chain_digest(const struct der_list *chain, char ret[SHA256_HEX_SIZE])
{
    struct sha256_ctx *ctx = sha256_ctx_new();
    for (size_t i = 0; i < chain->n; i++)
        add_der(ctx, der_bytes(&chain->item[i]));
    end_digest(ctx, ret);
}

static void add_facts(struct sha256_ctx *ctx, const Clm__Agent__Facts *facts)
{
    for (size_t i = 0; facts && i < facts->n_certs; i++)
        add_der(ctx, (struct bytes){facts->certs[i]->der.data, facts->certs[i]->der.len});
}

/* A chain's file that cannot be read is no chain: what is judged says so. */
static const Clm__Agent__Facts *read_chain(const struct place_at *at, struct arena *arena,
                                           struct secret **ret)
{
    const Clm__Agent__Facts *facts;
    struct status why;
    if (!at->target->chain || place_of(at->target)->read(at, at->target->chain, ret, NULL, &why) != CODE_OK ||
        !*ret)
        return NULL;
    struct bytes pem = {(*ret)->data, (*ret)->len};
    return confine_run(confine_pem, &pem, arena, &facts, &why) == CODE_OK ? facts : NULL;
}

static void take_chain(const struct place_at *at, struct arena *arena, const struct store_view *view,
                       struct installed *ret)
{
    const Clm__Agent__Facts *more = read_chain(at, arena, &ret->apart);
    size_t len = view->chain_pem.len, more_len = ret->apart ? ret->apart->len : 0;
    struct sha256_ctx *ctx = sha256_ctx_new();
    ret->own = secret_dup(view->chain_pem.data, len);
    ret->pem = secret_new(len + more_len);
    memcpy(ret->pem->data, ret->own->data, len);
    if (more_len)
        memcpy(ret->pem->data + len, ret->apart->data, more_len);
    add_facts(ctx, view->facts);
    add_facts(ctx, more);
    end_digest(ctx, ret->chain);
}

enum code installed_read(const struct place_at *at, struct arena *arena, struct installed *ret,
                         struct status *st)
{
    const struct policy_target *target = at->target;
    AUTO_SECRET struct secret *content = NULL, *password = NULL;
    CLEANUP(store_view_done) struct store_view view = {0};
    memset(ret, 0, sizeof(*ret));
    TRY(place_of(target)->read(at, target->certificate, &content, NULL, st));
    if (content)
        TRY(store_password(target, &password, st));
    TRY(store_view(target, content, password, arena, &view, st));
    if (!view.facts || view.facts->n_certs == 0)
        return status_set(st, CODE_NOT_FOUND, "there is no certificate in %.150s", target->certificate);
    take_chain(at, arena, &view, ret);
    ret->leaf = view.facts->certs[0]->certificate;
    ret->alias = view.facts->alias && view.facts->alias[0] ? view.facts->alias : NULL;
    struct status why;
    if (!target_is_bundle(target))
        (void)!place_of(target)->read(at, target->key, &ret->key, NULL, &why);
    else
        ret->key = TAKE(view.key);
    ret->key_closed = !ret->key && target_is_bundle(target) && store_of(target)->unlock;
    return CODE_OK;
}

/* --- what was meant to be ----------------------------------------------------------------------------- */

static bool is_digest(const char *text)
{
    return strspn(text, "0123456789abcdef") >= HEX_LEN;
}

void intended_put(const struct place_at *at, const char *leaf)
{
    AUTO_ARENA struct arena *arena = arena_new();
    CLEANUP(installed_done) struct installed now = {0};
    char path[4096], text[2 * SHA256_HEX_SIZE] = "";
    struct status why;
    (void)snprintf(path, sizeof(path), "%s/intended", at->state_dir);
    if (dir_make(path, 0700, NULL) != CODE_OK)
        return;
    bool known =
        installed_read(at, arena, &now, &why) == CODE_OK && strcmp(now.leaf->fingerprint_sha256, leaf) == 0;
    (void)snprintf(text, sizeof(text), "%s%s%s", leaf, known ? " " : "", known ? now.chain : "");
    (void)snprintf(path, sizeof(path), "%s/intended/%s", at->state_dir, at->target->name);
    (void)!file_write_atomic(path, text, strlen(text), 0600, NULL);
}

bool intended_get(const char *state_dir, const char *target, struct intended *ret)
{
    char path[4096];
    AUTO_BUF struct buf text = {0};
    memset(ret, 0, sizeof(*ret));
    (void)snprintf(path, sizeof(path), "%s/intended/%s", state_dir, target);
    if (file_read(path, sizeof(*ret), &text, NULL) != CODE_OK || text.len < HEX_LEN ||
        !is_digest(buf_text(&text)))
        return false;
    const char *chain = buf_text(&text) + HEX_LEN;
    if (*chain && (text.len != 2 * HEX_LEN + 1 || *chain != ' ' || !is_digest(chain + 1)))
        return false;
    memcpy(ret->leaf, buf_text(&text), HEX_LEN);
    if (*chain)
        memcpy(ret->chain, chain + 1, HEX_LEN);
    return true;
}
