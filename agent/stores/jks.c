/*
 * JKS. Its certificates are read in the confined child by our own reader; its private keys only the host's
 * keytool opens and writes, on files in a directory of the agent's own that lives as long as the call.
 * Without a keytool in the local policy what is written is PKCS#12, which Java opens under either name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kinds/command.h"
#include "stores/store.h"

#define KEYTOOL_MS 120000

/* --- reading ---------------------------------------------------------------------------------------------
 */

struct entries {
    const char *alias; /* wanted; NULL: the only one */
    char found[KEYSTORE_ALIAS_SIZE];
    unsigned n_found;
    struct der_list chain;
};

static void on_cert(struct bytes der, const char *alias, bool with_key, void *arg)
{
    struct entries *entries = arg;
    if (with_key && (!entries->alias || strcasecmp(entries->alias, alias) == 0)) {
        entries->n_found++;
        memcpy(entries->found, alias, KEYSTORE_ALIAS_SIZE);
    }
    if (entries->n_found == 1 && strcmp(entries->found, alias) == 0)
        (void)!der_list_add(&entries->chain, der, NULL);
}

static enum code open_jks(const struct store_in *in, struct store_found *ret, struct status *st)
{
    if (keystore_sniff(in->content) == KEYSTORE_PKCS12)
        return pkcs12_store.open(in, ret, st);
    struct entries entries = {0};
    struct keystore_info info = {0};
    enum code code = jks_certs(in->content, in->password, KEYSTORE_MAX_ENTRIES, on_cert, &entries, &info, st);
    if (code == CODE_OK && in->alias && info.keys > 1) {
        der_list_done(&entries.chain);
        entries = (struct entries){.alias = in->alias};
        code = jks_certs(in->content, in->password, KEYSTORE_MAX_ENTRIES, on_cert, &entries, &info, st);
    }
    if (code == CODE_OK && entries.n_found != 1)
        code =
            status_set(st, entries.n_found ? CODE_FAILED_PRECONDITION : CODE_NOT_FOUND,
                       entries.n_found ? "the JKS file holds several private keys: give the target an alias"
                                       : "the JKS file holds no private key of that name");
    if (code != CODE_OK) {
        der_list_done(&entries.chain);
        return code;
    }
    ret->chain = entries.chain;
    ret->others = info.keys - 1 + info.trusted;
    memcpy(ret->alias, entries.found, sizeof(ret->alias));
    return CODE_OK;
}

/* --- keytool ---------------------------------------------------------------------------------------------
 */

void store_scratch_remove(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        (void)closedir(dir);
    (void)rmdir(path);
}

static void cleanup_scratch(const struct store_tool *const *tool)
{
    store_scratch_remove((*tool)->scratch);
}

static char *in_scratch(const struct store_tool *tool, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", tool->scratch, name) < 0)
        abort();
    return path;
}

static enum code put(const struct store_tool *tool, const char *name, const struct secret *content,
                     struct status *st)
{
    AUTO_FREE char *path = in_scratch(tool, name);
    return file_write_atomic(path, content->data, content->len, 0600, st);
}

/* Passwords go by file: an argument is for everybody to see. */
static enum code import(const struct store_tool *tool, const char *from, const char *from_type,
                        const char *to, const char *to_type, const char *alias, struct status *st)
{
    AUTO_FREE char *src = in_scratch(tool, from), *dest = in_scratch(tool, to),
                   *password = in_scratch(tool, "password");
    const char *argv[] = {tool->target->keytool,
                          "-J-Xmx128m",
                          "-importkeystore",
                          "-noprompt",
                          "-srckeystore",
                          src,
                          "-srcstoretype",
                          from_type,
                          "-srcstorepass:file",
                          password,
                          "-destkeystore",
                          dest,
                          "-deststoretype",
                          to_type,
                          "-deststorepass:file",
                          password,
                          "-srcalias",
                          alias,
                          "-destalias",
                          alias,
                          NULL};
    struct command command = {.argv = (char *const *)(uintptr_t)argv, .timeout_ms = KEYTOOL_MS};
    if (command_run(&command, NULL, st) != CODE_OK)
        return status_wrap(st, "keytool");
    return CODE_OK;
}

static enum code begin(const struct store_tool *tool, struct status *st)
{
    store_scratch_remove(tool->scratch); /* of a run that was cut off */
    TRY(dir_make(tool->scratch, 0700, st));
    return put(tool, "password", tool->password, st);
}

static enum code unlock_jks(const struct store_tool *tool, const struct secret *content, const char *alias,
                            struct secret **ret, struct status *st)
{
    CLEANUP(cleanup_scratch) const struct store_tool *scratch = tool;
    if (!tool->target->keytool)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "the key of a JKS keystore can be used again only with keytool in [target %.60s]",
                          tool->target->name);
    TRY(begin(scratch, st));
    TRY(put(tool, "in.jks", content, st));
    TRY(import(tool, "in.jks", "JKS", "out.p12", "PKCS12", alias, st));
    AUTO_FREE char *path = in_scratch(tool, "out.p12");
    if (chmod(path, 0600) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot chmod what keytool wrote");
    return secret_read_file(path, STORE_FILE_MAX, false, ret, st);
}

static enum code finish_jks(const struct store_tool *tool, const struct store_parts *parts,
                            struct secret **content, struct status *st)
{
    CLEANUP(cleanup_scratch) const struct store_tool *scratch = tool;
    if (!tool->target->keytool)
        return CODE_OK;
    TRY(begin(scratch, st));
    TRY(put(tool, "in.p12", *content, st));
    /* The other entries stay as they are: ours is put among them. */
    if (keystore_sniff(parts->old.content) == KEYSTORE_JKS) {
        AUTO_SECRET struct secret *old = secret_dup(parts->old.content.data, parts->old.content.len);
        TRY(put(tool, "out.jks", old, st));
    }
    TRY(import(tool, "in.p12", "PKCS12", "out.jks", "JKS", parts->alias, st));
    AUTO_FREE char *path = in_scratch(tool, "out.jks");
    if (chmod(path, 0600) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot chmod what keytool wrote");
    AUTO_SECRET struct secret *made = NULL;
    TRY(secret_read_file(path, STORE_FILE_MAX, false, &made, st));
    secret_free(*content);
    *content = TAKE(made);
    return CODE_OK;
}

static enum code make_jks(const struct store_parts *parts, struct secret **ret, struct status *st)
{
    return pkcs12_store.make(parts, ret, st);
}

static bool keeps_others(const struct policy_target *target, struct bytes content)
{
    return target->keytool && keystore_sniff(content) == KEYSTORE_JKS;
}

const struct store jks_store = {
    .name = "jks",
    .password = true,
    .open = open_jks,
    .make = make_jks,
    .unlock = unlock_jks,
    .finish = finish_jks,
    .keeps_others = keeps_others,
};
