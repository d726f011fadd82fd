/*
 * Fresh pairs for processes that start without any of their own: a service that runs renews its certificate
 * by itself (lib/service/renewal.c) and passes over what is written here. Needs neither the database nor the
 * bus: it is for a platform whose certificates have ended, too. The CA's keys, the bus's passwords and
 * everything else stay as they are.
 */
#include "certificates.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "ca.h"

#define PEM_MAX       (256 * 1024)
#define CONFLICTS_MAX 5
#define STAGED        ".fresh"

/* ---- what is due ------------------------------------------------------------------------------------------
 */

/* Of this CA, whenever that was: certificates that have ended are what this is for. */
static bool is_ours(const struct ca_set *ca, struct bytes pem, struct cert_info *ret)
{
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_DER_LIST struct der_list roots = {0};
    struct status ignored;

    if (pem_to_certs(pem, &chain, &ignored) != CODE_OK || chain.n == 0 ||
        der_list_add(&roots, der_bytes(&ca->root), &ignored) != CODE_OK ||
        cert_read(der_bytes(&chain.item[0]), ret, &ignored) != CODE_OK)
        return false;
    struct der_list rest = {.n = chain.n - 1}; /* borrows */
    memcpy(rest.item, &chain.item[1], rest.n * sizeof(chain.item[0]));
    return chain_verify(der_bytes(&chain.item[0]), &rest, &roots, PURPOSE_TLS_SERVER, ret->not_before_ms,
                        &ignored) == CODE_OK;
}

static enum code check_roots(const struct ca_set *ca, struct bytes pem, struct status *st)
{
    AUTO_DER_LIST struct der_list roots = {0};

    if (pem_to_certs(pem, &roots, st) != CODE_OK)
        return status_wrap(st, "roots.pem");
    for (size_t i = 0; i < roots.n; i++)
        if (roots.item[i].len == ca->root.len && memcmp(roots.item[i].data, ca->root.data, ca->root.len) == 0)
            return CODE_OK;
    return status_set(st, CODE_FAILED_PRECONDITION,
                      "roots.pem does not hold the root of this CA: they are of different installations");
}

static enum code listed_names(const char *lines, struct pki_names *ret, struct status *st)
{
    for (const char *at = lines; *at; at += strspn(at, "\r\n")) {
        char name[256];
        size_t len = strcspn(at, "\r\n");
        if (len >= sizeof(name))
            return status_set(st, CODE_INVALID_ARGUMENT, "gateway-names: a name is too long");
        memcpy(name, at, len);
        name[len] = '\0';
        if (len > 0 && server_names_add(ret, name, st) != CODE_OK)
            return status_wrap(st, "gateway-names");
        at += len;
    }
    return CODE_OK;
}

enum code certificates_make(struct ca_set *ca, const struct published *present, struct pairs *ret,
                            struct left_alone *ret_left, struct status *st)
{
    AUTO_CERT_INFO struct cert_info tls = {0};
    AUTO_CERT_INFO struct cert_info bus = {0};
    AUTO_PKI_NAMES struct pki_names listed = {0};

    TRY(check_roots(ca, present->roots, st));
    if (ca->gateway_names)
        TRY(listed_names(ca->gateway_names, &listed, st));
    *ret_left = (struct left_alone){.gateway_tls = !is_ours(ca, present->gateway_tls, &tls),
                                    .bus = !is_ours(ca, present->bus, &bus)};
    const struct pki_names *gateway = listed.n_dns + listed.n_ip > 0 ? &listed : &tls.names;
    return pairs_make(ca, ret_left->gateway_tls ? NULL : gateway, ret_left->bus ? NULL : &bus.names, ret, st);
}

static enum code load_ca(const char *dir, struct ca_set *ret, struct status *st)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof(path), "%s/ca", dir) >= sizeof(path))
        return status_set(st, CODE_INVALID_ARGUMENT, "--dir is too long");
    return ca_load(path, ret, st);
}

/* ---- in a Secret ------------------------------------------------------------------------------------------
 */

static enum code renew_once(struct ca_set *ca, const struct publish_to *to, struct left_alone *ret,
                            struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_PAIRS struct pairs pairs = {0};
    struct published present;

    TRY(publish_read(to, arena, &present, st));
    TRY(certificates_make(ca, &present, &pairs, ret, st));
    return publish_pairs(to, present.version, &pairs, st);
}

enum code certificates_renew_secret(const char *dir, const struct publish_to *to, struct left_alone *ret,
                                    struct status *st)
{
    AUTO_CA_SET struct ca_set ca = {0};
    enum code code = CODE_ABORTED;

    TRY(load_ca(dir, &ca, st));
    for (unsigned tries = 0; code == CODE_ABORTED && tries < CONFLICTS_MAX; tries++)
        code = renew_once(&ca, to, ret, st);
    return code;
}

/* ---- in a directory ---------------------------------------------------------------------------------------
 */

static enum code path_of(char out[PATH_MAX], const char *dir, const char *name, const char *suffix,
                         struct status *st)
{
    if ((size_t)snprintf(out, PATH_MAX, "%s/%s%s", dir, name, suffix) >= PATH_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the path %.100s/%.60s is too long", dir, name);
    return CODE_OK;
}

static enum code read_present(const char *dir, const char *name, struct buf *ret, struct status *st)
{
    char path[PATH_MAX];
    TRY(path_of(path, dir, name, "", st));
    enum code code = file_read(path, PEM_MAX, ret, st);
    return code == CODE_NOT_FOUND ? CODE_OK : code;
}

/* Beside the file, with its owner and mode. */
static enum code stage_file(const char *dir, const char *name, const void *data, size_t len, mode_t mode,
                            struct status *st)
{
    char path[PATH_MAX], staged[PATH_MAX];
    struct stat like, made;

    TRY(path_of(path, dir, name, "", st));
    TRY(path_of(staged, dir, name, STAGED, st));
    bool there = stat(path, &like) == 0;
    if (!there && stat(dir, &like) != 0)
        return status_errno(st, CODE_NOT_FOUND, errno, "cannot look at %s", dir);
    TRY(file_write_atomic(staged, data, len, there ? like.st_mode & 0777 : mode, st));
    if (stat(staged, &made) != 0 || ((made.st_uid != like.st_uid || made.st_gid != like.st_gid) &&
                                     chown(staged, like.st_uid, like.st_gid) != 0))
        return status_errno(st, CODE_PERMISSION_DENIED, errno,
                            "cannot give %s the owner of %s: run this as root", staged, path);
    return CODE_OK;
}

static enum code stage_pair(const char *dir, const struct pair *pair, struct status *st)
{
    char in[PATH_MAX];
    TRY(path_of(in, dir, pair->directory, "", st));
    TRY(stage_file(in, pair->key, pair->key_pem->data, pair->key_pem->len, 0600, st));
    return stage_file(in, pair->certs, pair->certs_pem.data, pair->certs_pem.len, 0644, st);
}

static enum code put_file(const char *dir, const char *name, struct status *st)
{
    char path[PATH_MAX], staged[PATH_MAX];
    TRY(path_of(path, dir, name, "", st));
    TRY(path_of(staged, dir, name, STAGED, st));
    if (rename(staged, path) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot rename %s to %s", staged, path);
    return CODE_OK;
}

/* Who reads between the two looks again (renewal.c); after a power cut between them this command mends it. */
static enum code put_pair(const char *dir, const struct pair *pair, struct status *st)
{
    char in[PATH_MAX];
    TRY(path_of(in, dir, pair->directory, "", st));
    TRY(put_file(in, pair->key, st));
    TRY(put_file(in, pair->certs, st));
    return dir_fsync(in, st);
}

static void unstage(const char *dir, const struct pairs *pairs)
{
    for (size_t i = 0; i < pairs->n; i++) {
        const char *const names[] = {pairs->item[i].key, pairs->item[i].certs};
        for (size_t n = 0; n < ARRAY_LEN(names); n++) {
            char in[PATH_MAX], staged[PATH_MAX];
            struct status ignored;
            if (path_of(in, dir, pairs->item[i].directory, "", &ignored) == CODE_OK &&
                path_of(staged, in, names[n], STAGED, &ignored) == CODE_OK)
                (void)unlink(staged);
        }
    }
}

static enum code replace(const char *dir, const struct pairs *pairs, struct status *st)
{
    for (size_t i = 0; i < pairs->n; i++)
        TRY(stage_pair(dir, &pairs->item[i], st));
    for (size_t i = 0; i < pairs->n; i++)
        TRY(put_pair(dir, &pairs->item[i], st));
    return CODE_OK;
}

enum code certificates_renew_directory(const char *dir, struct left_alone *ret, struct status *st)
{
    AUTO_CA_SET struct ca_set ca = {0};
    AUTO_PAIRS struct pairs pairs = {0};
    AUTO_BUF struct buf roots = {0};
    AUTO_BUF struct buf tls = {0};
    AUTO_BUF struct buf bus = {0};

    TRY(load_ca(dir, &ca, st));
    TRY(read_present(dir, "roots.pem", &roots, st));
    TRY(read_present(dir, "gateway/tls.crt", &tls, st));
    TRY(read_present(dir, "bus/server.crt", &bus, st));
    const struct published present = {
        .roots = {roots.data, roots.len}, .gateway_tls = {tls.data, tls.len}, .bus = {bus.data, bus.len}};
    TRY(certificates_make(&ca, &present, &pairs, ret, st));
    enum code code = replace(dir, &pairs, st);
    if (code != CODE_OK)
        unstage(dir, &pairs);
    return code;
}
