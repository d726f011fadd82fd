/*
 * The one-shot init. Everything is written into DIR.tmp and becomes DIR by one rename, inside the transaction
 * that records the root's fingerprint: a database that knows a fingerprint has had its directory. No key
 * passes through anything but locked memory and its own 0600 file. Which user owns what is the deployer's to
 * set.
 */
#include "init.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/id.h"
#include "bus/bus.h"
#include "ca.h"
#include "pairs.h"
#include "store.h"

#define PASSWORD_BYTES 32
#define BUS_USERS_MAX  16

/* Where things go, and what signs them. */
struct making {
    const char *dir; /* DIR.tmp */
    const struct init_order *order;
    struct ca_set ca;
};

static void making_end(struct making *making)
{
    ca_set_done(&making->ca);
}

static enum code make_path(char out[PATH_MAX], const char *dir, const char *name, struct status *st)
{
    if ((size_t)snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the path %.100s/%s is too long", dir, name);
    return CODE_OK;
}

static enum code write_file(const char *dir, const char *name, const void *data, size_t len, mode_t mode,
                            struct status *st)
{
    char path[PATH_MAX];
    TRY(make_path(path, dir, name, st));
    return file_write_atomic(path, data, len, mode, st);
}

static enum code write_certs(const char *dir, const char *name, const struct der_list *certs,
                             struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    TRY(certs_to_pem(certs, &pem, st));
    return write_file(dir, name, pem.data, pem.len, 0644, st);
}

/* ---- certificates -----------------------------------------------------------------------------------------
 */

static enum code write_pair(const struct making *making, const struct pair *pair, struct status *st)
{
    char dir[PATH_MAX];

    TRY(make_path(dir, making->dir, pair->directory, st));
    TRY(dir_make(dir, 0755, st));
    TRY(write_file(dir, pair->key, pair->key_pem->data, pair->key_pem->len, 0600, st));
    return write_file(dir, pair->certs, pair->certs_pem.data, pair->certs_pem.len, 0644, st);
}

static enum code make_certificates(struct making *making, struct status *st)
{
    AUTO_PAIRS struct pairs pairs = {0};
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_DER_LIST struct der_list intermediates = {0};

    TRY(pairs_make(&making->ca, &making->order->gateway_names, &making->order->bus_names, &pairs, st));
    for (size_t i = 0; i < pairs.n; i++)
        TRY(write_pair(making, &pairs.item[i], st));
    TRY(der_list_add(&roots, der_bytes(&making->ca.root), st));
    for (size_t ca = 0; ca < ISSUING_CA_COUNT; ca++)
        TRY(der_list_add(&intermediates, der_bytes(&making->ca.certificate[ca]), st));
    TRY(write_certs(making->dir, "roots.pem", &roots, st));
    TRY(write_certs(making->dir, "bus/ca.crt", &roots, st));
    return write_certs(making->dir, "intermediates.pem", &intermediates, st);
}

/* ---- bus credentials --------------------------------------------------------------------------------------
 */

struct passwords {
    struct secret *of[BUS_USERS_MAX];
    size_t n;
};

static void passwords_end(struct passwords *passwords)
{
    for (size_t i = 0; i < passwords->n; i++)
        secret_free(passwords->of[i]);
}

static struct secret *make_password(void)
{
    uint8_t raw[PASSWORD_BYTES];
    struct secret *text = secret_new(2 * sizeof(raw));
    random_bytes(raw, sizeof(raw));
    text->len = base64url_encode(raw, sizeof(raw), (char *)text->data, 2 * sizeof(raw));
    explicit_bzero(raw, sizeof(raw));
    return text;
}

static enum code make_bus(const struct making *making, struct status *st)
{
    CLEANUP(passwords_end) struct passwords passwords = {0};
    AUTO_BUF struct buf conf = {0};

    for (const struct bus_user *user = bus_users; user->name; user++) {
        char file[96];
        if (passwords.n == BUS_USERS_MAX)
            return status_set(st, CODE_INTERNAL, "more bus users than init knows to write");
        struct secret *password = passwords.of[passwords.n++] = make_password();
        bool admin = strcmp(user->name, "admin") == 0;
        (void)snprintf(file, sizeof(file), "%s/%s.pass", admin ? "bus" : user->name, admin ? "admin" : "bus");
        TRY(write_file(making->dir, file, password->data, password->len, 0600, st));
    }
    TRY(bus_users_conf((const struct secret *const *)passwords.of, &conf, st));
    enum code code = write_file(making->dir, "bus/users.conf", conf.data, conf.len, 0600, st);
    explicit_bzero(conf.data, conf.len);
    return code;
}

/* ---- the directory ----------------------------------------------------------------------------------------
 */

static int on_remove(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static enum code remove_tree(const char *dir, struct status *st)
{
    struct stat info;
    if (lstat(dir, &info) != 0 && errno == ENOENT)
        return CODE_OK;
    if (nftw(dir, on_remove, 16, FTW_DEPTH | FTW_PHYS) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot remove %s, left over from an interrupted init",
                            dir);
    return CODE_OK;
}

static enum code make_directories(const char *dir, struct status *st)
{
    char path[PATH_MAX];
    TRY(dir_make(dir, 0755, st));
    TRY(make_path(path, dir, "ca", st));
    TRY(dir_make(path, 0700, st));
    TRY(make_path(path, dir, "bus", st));
    return dir_make(path, 0755, st);
}

static enum code fill_directory(struct making *making, struct status *st)
{
    char ca_dir[PATH_MAX];

    TRY(remove_tree(making->dir, st));
    TRY(make_directories(making->dir, st));
    TRY(make_path(ca_dir, making->dir, "ca", st));
    TRY(ca_make(ca_dir, making->order->trust_domain, st));
    TRY(ca_write_gateway_names(ca_dir, &making->order->gateway_names, st));
    TRY(ca_load(ca_dir, &making->ca, st)); /* what was written is what the signer will read */
    TRY(make_certificates(making, st));
    TRY(make_bus(making, st));
    return dir_fsync(making->dir, st);
}

static enum code parent_fsync(const char *dir, struct status *st)
{
    char parent[PATH_MAX];
    TRY(make_path(parent, dir, "..", st));
    return dir_fsync(parent, st);
}

/* The rename is inside the transaction: a crash between it and the commit is what INIT_FINISHED_EARLIER
 * finds. */
static enum code record_and_rename(struct db *db, const char *tmp, const struct init_order *order,
                                   struct bytes root, struct status *st)
{
    char fingerprint[SHA256_HEX_SIZE];
    const struct ca_row row = {.root_sha256 = fingerprint, .trust_domain = order->trust_domain};

    sha256_hex(root, fingerprint);
    TRY(db_begin(db, st));
    CLEANUP(db_scope_end) struct db *tx = db;
    TRY(store_ca_write(tx, &row, st));
    if (tmp) {
        if (rename(tmp, order->dir) != 0)
            return status_errno(st, CODE_INTERNAL, errno, "cannot rename %s to %s", tmp, order->dir);
        TRY(parent_fsync(order->dir, st));
    }
    return db_commit(tx, st);
}

static enum code make_everything(struct db *db, const struct init_order *order, struct status *st)
{
    char tmp[PATH_MAX];
    CLEANUP(making_end) struct making making = {.dir = tmp, .order = order};

    if ((size_t)snprintf(tmp, sizeof(tmp), "%s.tmp", order->dir) >= sizeof(tmp))
        return status_set(st, CODE_INVALID_ARGUMENT, "--dir is too long");
    if (order->gateway_names.n_dns + order->gateway_names.n_ip == 0 ||
        order->bus_names.n_dns + order->bus_names.n_ip == 0)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "at least one --gateway-name and one --bus-name is needed");
    TRY(fill_directory(&making, st));
    if (order->publish)
        TRY(publish_directory(order->publish, tmp, st));
    return record_and_rename(db, tmp, order, der_bytes(&making.ca.root), st);
}

/* Database and directory both there: do they agree? */
static enum code check_same(const struct ca_row *recorded, const struct ca_set *ca, const char *dir,
                            struct status *st)
{
    char fingerprint[SHA256_HEX_SIZE];
    sha256_hex(der_bytes(&ca->root), fingerprint);
    if (strcmp(fingerprint, recorded->root_sha256) != 0)
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "%s holds the CA with root %.16s…, but the database belongs to %.16s…: one of the two is "
            "another installation's",
            dir, fingerprint, recorded->root_sha256);
    return CODE_OK;
}

static enum code decide(struct db *db, const struct init_order *order, enum init_result *ret,
                        struct status *st)
{
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_CA_SET struct ca_set ca = {0};
    struct ca_row recorded;
    struct stat info;
    char ca_dir[PATH_MAX], root_file[PATH_MAX];

    TRY(make_path(ca_dir, order->dir, "ca", st));
    TRY(make_path(root_file, ca_dir, "root.crt", st));
    bool files = stat(root_file, &info) == 0;
    enum code code = store_ca_read(db, arena, &recorded, st);
    if (code != CODE_OK && code != CODE_NOT_FOUND)
        return code;
    bool known = code == CODE_OK;

    if (!files && known)
        return status_set(
            st, CODE_FAILED_PRECONDITION,
            "the database belongs to the CA with root %.16s…, but %s does not hold it: bring that "
            "directory back, or use an empty database",
            recorded.root_sha256, order->dir);
    if (!files) {
        *ret = INIT_MADE;
        return make_everything(db, order, st);
    }
    TRY(ca_load(ca_dir, &ca, st));
    if (known) {
        *ret = INIT_ALREADY_DONE;
        return check_same(&recorded, &ca, order->dir, st);
    }
    *ret = INIT_FINISHED_EARLIER;
    struct init_order found = *order;
    found.trust_domain = ca.trust_domain;
    return record_and_rename(db, NULL, &found, der_bytes(&ca.root), st);
}

enum code init_run(struct db *db, const struct init_order *order, enum init_result *ret, struct status *st)
{
    bool held = false;
    TRY(store_init_lock(db, &held, st));
    if (!held)
        return status_set(st, CODE_UNAVAILABLE, "another clm-bootstrap init is running on this database");
    /* The session's end releases the lock; until then nobody else may look at a half-made state. */
    return decide(db, order, ret, st);
}
