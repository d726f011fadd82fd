/* What a [target NAME] must hold together: its store, its files, its reloads. See parts.h. */
#include "policy/parts.h"

#include <string.h>

#include "base/endpoint.h"
#include "presets/preset.h"

#define RELOADS_MAX      8 /* of one target */
#define ALIAS_CHARACTERS LABEL_CHARACTERS

/* Keys that a store needs, or has no use for. */
static const struct store_rule {
    const char *name;
    bool key_apart, keystore;
} store_rules[] = {
    [STORE_PEM] = {"pem", true, false},
    [STORE_HAPROXY] = {"haproxy", false, false},
    [STORE_PKCS12] = {"pkcs12", false, true},
    [STORE_JKS] = {"jks", false, true},
    [STORE_KUBERNETES] = {"kubernetes", false, false},
};
_Static_assert(ARRAY_LEN(store_rules) == STORE_FORMATS, "a row for each format");

bool store_format_find(const char *name, enum store_format *ret)
{
    for (size_t i = 0; i < STORE_FORMATS; i++) {
        if (strcmp(name, store_rules[i].name) == 0) {
            *ret = (enum store_format)i;
            return true;
        }
    }
    return false;
}

/* RFC 1123 label or subdomain, as Kubernetes has its names; what ends up in a URL. */
static bool kubernetes_name(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool inner = i > 0 && i + 1 < len && (name[i] == '-' || name[i] == '.');
        if (!inner && !(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9'))
            return false;
    }
    return len > 0 && len <= 253;
}

static enum code check_kubernetes(struct policy_target *target, const char *section, struct status *st)
{
    struct endpoint at;
    const char *slash = target->secret ? strchr(target->secret, '/') : NULL;
    if (target->certificate)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[%s] certificate: a store of the kind kubernetes has none", section);
    if (!slash || !kubernetes_name(target->secret, (size_t)(slash - target->secret)) ||
        !kubernetes_name(slash + 1, strlen(slash + 1)))
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] secret: \"%.60s\" is not namespace/name", section,
                          target->secret ? target->secret : "");
    if (endpoint_split(target->api_server, &at, st) != CODE_OK)
        return status_wrap(st, "[%s] api_server", section);
    if (asprintf(&target->certificate, "/kubernetes/%s", target->secret) < 0)
        abort();
    return CODE_OK;
}

static enum code check_store(struct policy_target *target, const char *section, struct status *st)
{
    if (target->store && !store_format_find(target->store, &target->format))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[%s] store: \"%.40s\" is none of pem, haproxy, pkcs12, jks, kubernetes", section,
                          target->store);
    const struct store_rule *rule = &store_rules[target->format];
    if (target->format == STORE_KUBERNETES)
        TRY(check_kubernetes(target, section, st));
    if (!target->certificate)
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] certificate: is missing", section);
    const char *idle = !rule->key_apart && target->key                        ? "key"
                       : !rule->key_apart && target->chain                    ? "chain"
                       : target->keytool && target->format != STORE_JKS       ? "keytool"
                       : target->secret && target->format != STORE_KUBERNETES ? "secret"
                       : target->swap && target->format == STORE_KUBERNETES   ? "swap"
                       : rule->keystore                                       ? NULL
                       : target->password_file                                ? "password_file"
                       : target->alias                                        ? "alias"
                       : target->encryption                                   ? "encryption"
                                                                              : NULL;
    if (idle)
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] %s: a store of the kind %s has none", section,
                          idle, rule->name);
    if (rule->keystore && !target->password_file)
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] password_file: a store of the kind %s needs one",
                          section, rule->name);
    if (target->alias && strspn(target->alias, ALIAS_CHARACTERS) != strlen(target->alias))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[%s] alias: has other characters than letters, digits, '.', '_' and '-'", section);
    if (target->encryption && strcmp(target->encryption, "modern") != 0 &&
        strcmp(target->encryption, "legacy") != 0)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[%s] encryption: \"%.40s\" is neither modern nor legacy", section,
                          target->encryption);
    return CODE_OK;
}

/* "nginx postfix": both use the file, and both are told. */
static enum code resolve_reloads(const struct policy *policy, struct policy_target *target,
                                 const char *section, struct status *st)
{
    size_t n = 0;
    target->reloads = must(calloc(RELOADS_MAX + 1, sizeof(*target->reloads)));
    for (const char *at = target->reload ? target->reload : ""; *at; at += strspn(at, ", \t")) {
        char name[LABEL_BYTES_MAX + 1] = "";
        size_t len = strcspn(at, ", \t");
        if (len <= LABEL_BYTES_MAX)
            memcpy(name, at, len);
        const struct policy_reload *reload = policy_find_reload(policy, name);
        if (!reload || n >= RELOADS_MAX)
            return status_set(st, CODE_INVALID_ARGUMENT, "[%s] reload: there is no [reload %.*s]%s", section,
                              (int)len, at, reload ? " that would not be one too many" : "");
        target->reloads[n++] = (struct policy_reload *)(uintptr_t)reload;
        at += len;
    }
    return CODE_OK;
}

static size_t directory_len(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

/* A directory can be exchanged as a whole if all files are in it, and it is not the root's own. */
static enum code check_swap(struct policy_target *target, const char *section, struct status *st)
{
    const char *others[] = {target->key, target->chain};
    if (!target->swap || strcmp(target->swap, "files") == 0)
        return CODE_OK;
    if (strcmp(target->swap, "directory") != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] swap: \"%.40s\" is neither files nor directory",
                          section, target->swap);
    size_t len = directory_len(target->certificate);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (others[i] &&
            (directory_len(others[i]) != len || strncmp(others[i], target->certificate, len) != 0))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[%s] swap: certificate, key and chain must lie in one directory", section);
    }
    if (len == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] swap: %.80s is not in a directory of its own",
                          section, target->certificate);
    target->swap_directory = true;
    return CODE_OK;
}

enum code target_check(const struct policy *policy, struct policy_target *target, struct status *st)
{
    char section[96];
    struct endpoint at;
    (void)snprintf(section, sizeof(section), "target %s", target->name);
    TRY(policy_check_names(section, target->dns_names, st));
    TRY(check_store(target, section, st));
    TRY(check_swap(target, section, st));
    TRY(resolve_reloads(policy, target, section, st));
    if (target->preset && !preset_find(target->preset))
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] preset: no server is called \"%.40s\"", section,
                          target->preset);
    if (target->chain && (strcmp(target->chain, target->certificate) == 0 ||
                          (target->key && strcmp(target->chain, target->key) == 0)))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[%s] chain: is the same file as another one of this target", section);
    if (target->endpoint && endpoint_split(target->endpoint, &at, st) != CODE_OK)
        return status_wrap(st, "[%s] endpoint", section);
    enum starttls starttls;
    if (target->starttls && !starttls_find(target->starttls, &starttls))
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] starttls: \"%.40s\" is none of " STARTTLS_NAMES,
                          section, target->starttls);
    return CODE_OK;
}
