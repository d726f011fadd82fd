/*
 * Reads the local policy and answers what it allows. Runs in exec (and in `clm-agent setup`), once at start
 * or when told to read again; read-only afterwards, so a task's child sees the policy it was forked with.
 * What is not written down is forbidden, except looking at this host.
 */
#include "agent/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>

#include "base/config.h"
#include "presets/preset.h"
#include "proto/common.pb-c.h"
#include "scope/scope.h"

#define ARGV_MAX        64
#define VARIABLES_MAX   32
#define RELOADS_MAX     8 /* of one target */
#define LABEL_BYTES_MAX 63
#define SECTIONS_MAX    256
#define ROOT_PATTERN_N  8

#define SERVICE_ACCOUNT  "/var/run/secrets/kubernetes.io/serviceaccount/"
#define LABEL_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
#define ALIAS_CHARACTERS LABEL_CHARACTERS

/* A reload as the file has it: the command lines are split once everything is read. */
struct reload_conf {
    struct policy_reload reload; /* first: policy->reloads[i] points here */
    char *command_text, *test_text, *pre_text, *failure_text, *environment_text;
};

static const char *const operation_names[] = {
    [CLM__TASK__KIND__DEPLOY] = "deploy",
    [CLM__TASK__KIND__RENEW] = "renew",
    [CLM__TASK__KIND__VALIDATE] = "validate",
    [CLM__TASK__KIND__DISCOVER] = "discover",
};

/* Looked at when discovery_roots is not set: where a Debian host keeps certificates. */
static const char *const default_roots[] = {"/etc", "/opt", "/srv", "/usr/local", NULL};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

/* --- reading ------------------------------------------------------------------------------------------ */

static void *on_target(void *conf, const char *label, struct status *st);
static void *on_reload(void *conf, const char *label, struct status *st);

#define KEY(sec, key, kind, field)                                                                           \
    .section = sec, .name = key, .type = kind, .offset = offsetof(struct policy, field)
static const struct config_key policy_keys[] = {
    {KEY("agent", "gateway", CONFIG_STRING, gateway), .optional = true,
     .help = "host:port of the platform; by default the one that the bootstrap token names"},
    {KEY("agent", "state_dir", CONFIG_PATH, state_dir), .fallback = "/var/lib/clm-agent",
     .help = "identity, journal and backups"},
    {KEY("agent", "net_user", CONFIG_STRING, net_user), .fallback = "clm-agent",
     .help = "the unprivileged user that holds the connection"},
    {KEY("agent", "proxy", CONFIG_STRING, proxy), .optional = true,
     .help = "host:port of the HTTP proxy that leads to the gateway (CONNECT)"},
    {KEY("agent", "proxy_user", CONFIG_STRING, proxy_user), .optional = true,
     .help = "name that the proxy asks for (Basic)"},
    {KEY("agent", "proxy_password_file", CONFIG_PATH, proxy_password_file), .optional = true,
     .help = "file with its password, mode 0600"},
    {KEY("agent", "log_level", CONFIG_STRING, log_level), .fallback = "info",
     .help = "debug, info, warn or error"},
    {KEY("policy", "operations", CONFIG_LIST, operations), .optional = true,
     .help = "deploy renew validate discover; unset: validate and discover"},
    {KEY("policy", "dns_names", CONFIG_LIST, dns_names), .optional = true,
     .help = "names that certificates on this host may have: www.example.com *.example.com"},
    {KEY("policy", "discovery_roots", CONFIG_LIST, discovery_roots), .optional = true,
     .help = "directories that may be searched; unset: /etc /opt /srv /usr/local"},
    {KEY("policy", "probe_hosts", CONFIG_LIST, probe_hosts), .optional = true,
     .help = "hosts, addresses or ranges to look at beside this host: db.example.com 10.1.0.0/16"},
    {KEY("policy", "break_glass", CONFIG_BOOL, break_glass), .fallback = "no",
     .help = "yes: in safe mode, one change at a time that an admin of the platform released may be done"},
    {KEY("policy", "probe_rate", CONFIG_INT, probe_rate), .fallback = "200", .min = 1, .max = 100000,
     .help = "how many of them discovery may begin to look at in a second"},
    {KEY("policy", "fetch_hosts", CONFIG_LIST, fetch_hosts), .optional = true,
     .help = "hosts that may be asked whether a certificate was revoked (OCSP, CRL): ocsp.example.com "
             "*.ca.example"},
    {KEY("policy", "watch_interval", CONFIG_DURATION, watch_interval_ms), .fallback = "30s", .min = 0,
     .max = 24 * 3600 * 1000,
     .help = "how often what the targets serve is looked at, beside every change of their files; 0s: never"},
    {KEY("policy", "metrics", CONFIG_BOOL, metrics), .fallback = "off",
     .help = "on: the platform is told this host's processor, memory, load, disk and uptime"},
    {.name = NULL},
};
#undef KEY

#define KEY(key, kind, field) .name = key, .type = kind, .offset = offsetof(struct policy_target, field)
static const struct config_key target_keys[] = {
    {KEY("certificate", CONFIG_PATH, certificate), .optional = true,
     .help = "file with the certificate and its intermediates; without \"key\" it holds the key too"},
    {KEY("key", CONFIG_PATH, key), .optional = true, .help = "file with the private key"},
    {KEY("chain", CONFIG_PATH, chain), .optional = true, .help = "file with the intermediates, if apart"},
    {KEY("store", CONFIG_STRING, store), .optional = true,
     .help = "what the file is: pem (unset), haproxy, pkcs12, jks, kubernetes"},
    {KEY("password_file", CONFIG_PATH, password_file), .optional = true,
     .help = "file with the keystore's password"},
    {KEY("alias", CONFIG_STRING, alias), .optional = true,
     .help = "the keystore's entry; unset: the one that it has"},
    {KEY("encryption", CONFIG_STRING, encryption), .optional = true,
     .help = "of the keystore: modern (unset), or legacy for what cannot read that"},
    {KEY("keytool", CONFIG_PATH, keytool), .optional = true,
     .help = "program that reads and writes JKS: /usr/bin/keytool; unset: PKCS#12 is written"},
    {KEY("secret", CONFIG_STRING, secret), .optional = true, .help = "namespace/name of a Kubernetes secret"},
    {KEY("api_server", CONFIG_STRING, api_server), .fallback = "kubernetes.default.svc:443",
     .help = "host:port of Kubernetes' API server"},
    {KEY("token_file", CONFIG_PATH, token_file), .fallback = SERVICE_ACCOUNT "token",
     .help = "the service account's token"},
    {KEY("ca_file", CONFIG_PATH, ca_file), .fallback = SERVICE_ACCOUNT "ca.crt",
     .help = "PEM that the API server's certificate must build to"},
    {KEY("swap", CONFIG_STRING, swap), .optional = true,
     .help = "files (unset): each by itself; directory: all at once, in a directory of their own"},
    {KEY("reload", CONFIG_STRING, reload), .optional = true, .help = "name of a [reload NAME], or several"},
    {KEY("endpoint", CONFIG_STRING, endpoint), .optional = true,
     .help = "host:port that serves the certificate"},
    {KEY("starttls", CONFIG_STRING, starttls), .optional = true,
     .help = "none, smtp, imap, pop3, ldap or postgresql: spoken before TLS; unset: by the endpoint's port"},
    {KEY("server_name", CONFIG_STRING, server_name), .optional = true, .help = "name to ask for (SNI)"},
    {KEY("dns_names", CONFIG_LIST, dns_names), .optional = true,
     .help = "names that may be installed here; unset: those of [policy]"},
    {KEY("preset", CONFIG_STRING, preset), .optional = true,
     .help = "the server that uses it: nginx, apache, haproxy, tomcat, postgresql, postfix or dovecot"},
    {KEY("configuration", CONFIG_PATH, configuration), .optional = true,
     .help = "that server's main file, where it is not the distribution's"},
    {.name = NULL},
};
#undef KEY

#define KEY(key, field)                                                                                      \
    .name = key, .type = CONFIG_STRING, .offset = offsetof(struct reload_conf, field), .optional = true
static const struct config_key reload_keys[] = {
    {.name = "command",
     .type = CONFIG_STRING,
     .offset = offsetof(struct reload_conf, command_text),
     .help = "absolute program and arguments; no shell"},
    {KEY("test", test_text), .help = "run before the reload; the reload is not done when it fails"},
    {KEY("pre", pre_text), .help = "run before anything is changed; nothing is changed when it fails"},
    {KEY("failure", failure_text), .help = "run when a change that pre let pass did not succeed"},
    {KEY("environment", environment_text), .help = "NAME=value for these commands, beside PATH and LANG"},
    {.name = "timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct reload_conf, reload.timeout_ms),
     .fallback = "30s",
     .min = 1000,
     .max = 600000,
     .help = "for each command, and for looking at the endpoint"},
    {.name = NULL},
};
#undef KEY

static const struct config_group groups[] = {
    {"target", target_keys, on_target},
    {"reload", reload_keys, on_reload},
    {.section = NULL},
};
static const struct config_schema schema = {policy_keys, groups};

static bool label_valid(const char *label, struct status *st)
{
    size_t len = strspn(label, LABEL_CHARACTERS);
    if (len > 0 && !label[len])
        return true;
    status_set(st, CODE_INVALID_ARGUMENT, "a name has letters, digits, '.', '_' and '-' only");
    return false;
}

/* Adds item to a NULL-ended array; false when it is full. */
static bool array_add(void ***array, void *item, struct status *st)
{
    size_t n = 0;
    while (*array && (*array)[n])
        n++;
    if (n >= SECTIONS_MAX) {
        status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %d sections of this kind", SECTIONS_MAX);
        return false;
    }
    *array = must(reallocarray(*array, n + 2, sizeof(void *)));
    (*array)[n] = item;
    (*array)[n + 1] = NULL;
    return true;
}

static void *on_target(void *conf, const char *label, struct status *st)
{
    struct policy *policy = conf;
    if (!label_valid(label, st))
        return NULL;
    struct policy_target *target = must(calloc(1, sizeof(*target)));
    target->name = must(strdup(label));
    void **array = (void **)(void *)policy->targets;
    if (!array_add(&array, target, st)) {
        free(target->name);
        free(target);
        return NULL;
    }
    policy->targets = (struct policy_target **)(void *)array;
    return target;
}

static void *on_reload(void *conf, const char *label, struct status *st)
{
    struct policy *policy = conf;
    if (!label_valid(label, st))
        return NULL;
    struct reload_conf *reload = must(calloc(1, sizeof(*reload)));
    reload->reload.name = must(strdup(label));
    void **array = (void **)(void *)policy->reloads;
    if (!array_add(&array, reload, st)) {
        free(reload->reload.name);
        free(reload);
        return NULL;
    }
    policy->reloads = (struct policy_reload **)(void *)array;
    return reload;
}

static void argv_free(char **argv)
{
    for (char **arg = argv; arg && *arg; arg++)
        free(*arg);
    free(argv);
}

/* One word off *at into a new string: blanks separate, '…' and "…" keep them. NULL on an open quote. */
static char *next_word(const char **at)
{
    char *word = must(malloc(strlen(*at) + 1)), *out = word;
    const char *p = *at;
    while (*p && *p != ' ' && *p != '\t') {
        if (*p != '\'' && *p != '"') {
            *out++ = *p++;
            continue;
        }
        const char *end = strchr(p + 1, *p);
        if (!end) {
            free(word);
            return NULL;
        }
        memcpy(out, p + 1, (size_t)(end - p - 1));
        out += end - p - 1;
        p = end + 1;
    }
    *out = 0;
    *at = p + strspn(p, " \t");
    return word;
}

static enum code split_words(const char *reload, const char *key, const char *text, char ***ret,
                             struct status *st)
{
    char **argv = must(calloc(ARGV_MAX + 1, sizeof(char *)));
    const char *at = text + strspn(text, " \t");
    for (size_t n = 0; *at; n++) {
        char *word = n < ARGV_MAX ? next_word(&at) : NULL;
        if (!word) {
            argv_free(argv);
            return status_set(st, CODE_INVALID_ARGUMENT, "[reload %s] %s: %s", reload, key,
                              n < ARGV_MAX ? "a quote is not closed" : "too many arguments");
        }
        argv[n] = word;
    }
    *ret = argv;
    return CODE_OK;
}

static enum code split_command(const char *reload, const char *key, const char *text, char ***ret,
                               struct status *st)
{
    if (!text)
        return CODE_OK;
    TRY(split_words(reload, key, text, ret, st));
    if (!(*ret)[0] || (*ret)[0][0] != '/')
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[reload %s] %s: starts with \"%.60s\"; write the program's absolute path", reload,
                          key, text);
    return CODE_OK;
}

/* CLM_… is what the agent says itself. */
static bool variable_valid(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && text[len] == '=' && !strchr("0123456789", text[0]) && strncmp(text, "CLM_", 4) != 0;
}

static enum code split_environment(const char *reload, const char *text, char ***ret, struct status *st)
{
    if (!text)
        return CODE_OK;
    TRY(split_words(reload, "environment", text, ret, st));
    size_t n = 0;
    for (char **one = *ret; *one; one++, n++) {
        if (!variable_valid(*one) || n >= VARIABLES_MAX)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[reload %s] environment: \"%.60s\" is not NAME=value, or one too many", reload,
                              *one);
    }
    return CODE_OK;
}

static enum code check_operations(const struct policy *policy, struct status *st)
{
    for (char **op = policy->operations; op && *op; op++) {
        bool known = false;
        for (size_t i = 1; i < ARRAY_LEN(operation_names); i++)
            known |= strcmp(*op, operation_names[i]) == 0;
        if (!known)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[policy] operations: \"%.40s\" is none of deploy, renew, validate, discover",
                              *op);
    }
    return CODE_OK;
}

static enum code check_names(const char *section, char *const *names, struct status *st)
{
    for (char *const *name = names; name && *name; name++) {
        if (!dns_pattern_valid(*name))
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[%s] dns_names: \"%.80s\" is neither a name nor *.name nor an address",
                              section, *name);
    }
    return CODE_OK;
}

enum code endpoint_split(const char *endpoint, char host[256], char port[6], struct status *st)
{
    const char *colon = strrchr(endpoint, ':');
    const char *start = endpoint, *end = colon;
    if (colon && endpoint[0] == '[' && colon > endpoint && colon[-1] == ']') {
        start++;
        end--;
    } else if (colon && memchr(endpoint, ':', (size_t)(colon - endpoint))) {
        colon = NULL; /* an IPv6 address without its brackets */
    }
    size_t len = colon ? (size_t)(end - start) : 0;
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    long number = digits > 0 && digits <= 5 && !colon[1 + digits] ? strtol(colon + 1, NULL, 10) : 0;
    if (len == 0 || len > 255 || number < 1 || number > 65535)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.80s\" is not host:port (IPv6 as [address]:port)",
                          endpoint);
    memcpy(host, start, len);
    host[len] = 0;
    (void)snprintf(port, 6, "%ld", number);
    return CODE_OK;
}

static enum code check_proxy(const struct policy *policy, struct status *st)
{
    char host[256], port[6];
    if (policy->proxy && endpoint_split(policy->proxy, host, port, st) != CODE_OK)
        return status_wrap(st, "[agent] proxy");
    if (policy->proxy_user && (!policy->proxy || strpbrk(policy->proxy_user, ":\r\n")))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[agent] proxy_user: needs \"proxy\", and has no ':' in it (RFC 7617)");
    if (policy->proxy_password_file && !policy->proxy_user)
        return status_set(st, CODE_INVALID_ARGUMENT, "[agent] proxy_password_file: needs \"proxy_user\"");
    return CODE_OK;
}

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
    char host[256], port[6];
    const char *slash = target->secret ? strchr(target->secret, '/') : NULL;
    if (target->certificate)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "[%s] certificate: a store of the kind kubernetes has none", section);
    if (!slash || !kubernetes_name(target->secret, (size_t)(slash - target->secret)) ||
        !kubernetes_name(slash + 1, strlen(slash + 1)))
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] secret: \"%.60s\" is not namespace/name", section,
                          target->secret ? target->secret : "");
    if (endpoint_split(target->api_server, host, port, st) != CODE_OK)
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

static enum code check_target(const struct policy *policy, struct policy_target *target, struct status *st)
{
    char section[96], host[256], port[6];
    (void)snprintf(section, sizeof(section), "target %s", target->name);
    TRY(check_names(section, target->dns_names, st));
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
    if (target->endpoint && endpoint_split(target->endpoint, host, port, st) != CODE_OK)
        return status_wrap(st, "[%s] endpoint", section);
    enum starttls starttls;
    if (target->starttls && !starttls_find(target->starttls, &starttls))
        return status_set(st, CODE_INVALID_ARGUMENT, "[%s] starttls: \"%.40s\" is none of " STARTTLS_NAMES,
                          section, target->starttls);
    return CODE_OK;
}

static enum code finish(struct policy *policy, struct status *st)
{
    for (struct policy_reload **r = policy->reloads; r && *r; r++) {
        struct reload_conf *conf = (struct reload_conf *)(void *)*r;
        TRY(split_command((*r)->name, "command", conf->command_text, &(*r)->command, st));
        TRY(split_command((*r)->name, "test", conf->test_text, &(*r)->test, st));
        TRY(split_command((*r)->name, "pre", conf->pre_text, &(*r)->pre, st));
        TRY(split_command((*r)->name, "failure", conf->failure_text, &(*r)->failure, st));
        TRY(split_environment((*r)->name, conf->environment_text, &(*r)->environment, st));
    }
    TRY(check_proxy(policy, st));
    TRY(check_operations(policy, st));
    TRY(check_names("policy", policy->dns_names, st));
    for (char **root = policy->discovery_roots; root && *root; root++) {
        if ((*root)[0] != '/')
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "[policy] discovery_roots: \"%.80s\" is not absolute", *root);
    }
    for (struct policy_target **t = policy->targets; t && *t; t++)
        TRY(check_target(policy, *t, st));
    return CODE_OK;
}

/* Whoever may write the file, or replace it in its directory, may run commands as this process. */
static enum code check_owner(const char *path, const char *shown, bool is_dir, struct status *st)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return status_errno(st, errno == ENOENT ? CODE_NOT_FOUND : CODE_PERMISSION_DENIED, errno,
                            "cannot read the local policy %s", shown);
    if (is_dir ? !S_ISDIR(info.st_mode) : !S_ISREG(info.st_mode))
        return status_set(st, CODE_PERMISSION_DENIED, "%s is not a %s: give the local policy's real path",
                          path, is_dir ? "directory" : "regular file");
    if (info.st_uid != 0 && info.st_uid != geteuid())
        return status_set(st, CODE_PERMISSION_DENIED, "%s belongs to user %u and not to root: chown root %s",
                          path, (unsigned)info.st_uid, path);
    bool sticky = is_dir && (info.st_mode & S_ISVTX);
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) && !sticky)
        return status_set(st, CODE_PERMISSION_DENIED, "%s may be written by others: chmod go-w %s", path,
                          path);
    return CODE_OK;
}

/* *ret: its real directory, and its own name. */
static enum code find_file(const char *path, char **ret, struct status *st)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *given = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    AUTO_FREE char *dir = realpath(must(given), NULL);
    if (!dir)
        return status_errno(st, errno == ENOENT ? CODE_NOT_FOUND : CODE_PERMISSION_DENIED, errno,
                            "cannot read the local policy %s", path);
    AUTO_FREE char *real = NULL;
    if (asprintf(&real, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, slash ? slash + 1 : path) < 0)
        abort();
    TRY(check_owner(dir, path, true, st));
    TRY(check_owner(real, path, false, st));
    *ret = TAKE(real);
    return CODE_OK;
}

enum code policy_load(const char *path, struct policy **ret, struct status *st)
{
    AUTO_FREE char *real = NULL;
    TRY(find_file(path, &real, st));
    struct policy *policy = must(calloc(1, sizeof(*policy)));
    policy->path = TAKE(real);
    enum code code = config_load(&schema, policy->path, policy, st);
    if (code == CODE_OK) {
        code = finish(policy, st);
        if (code != CODE_OK)
            status_wrap(st, "%s", strrchr(policy->path, '/') + 1);
    }
    if (code != CODE_OK) {
        policy_free(policy);
        return code;
    }
    *ret = policy;
    return CODE_OK;
}

static struct policy *policy_none(const char *path)
{
    struct status ignored;
    AUTO_FREE char *real = NULL;
    struct policy *policy = must(calloc(1, sizeof(*policy)));
    policy->targets = must(calloc(1, sizeof(*policy->targets)));
    policy->reloads = must(calloc(1, sizeof(*policy->reloads)));
    policy->path = must(strdup(path));
    config_salvage(policy_keys, "agent", find_file(path, &real, &ignored) == CODE_OK ? real : NULL, policy);
    if (check_proxy(policy, &ignored) != CODE_OK) {
        free(TAKE(policy->proxy));
        free(TAKE(policy->proxy_user));
        free(TAKE(policy->proxy_password_file));
    }
    return policy;
}

enum code policy_load_or_none(const char *path, struct policy **ret, struct status *st)
{
    enum code code = policy_load(path, ret, st);
    if (code != CODE_OK)
        *ret = policy_none(path);
    return code;
}

void policy_free(struct policy *policy)
{
    if (!policy)
        return;
    for (struct policy_target **t = policy->targets; t && *t; t++) {
        config_done(target_keys, *t);
        free((*t)->reloads);
        free((*t)->name);
        free(*t);
    }
    for (struct policy_reload **r = policy->reloads; r && *r; r++) {
        config_done(reload_keys, *r);
        argv_free((*r)->command);
        argv_free((*r)->test);
        argv_free((*r)->pre);
        argv_free((*r)->failure);
        argv_free((*r)->environment);
        free((*r)->name);
        free(*r);
    }
    free(policy->targets);
    free(policy->reloads);
    config_done(policy_keys, policy);
    free(policy->path);
    free(policy);
}

enum starttls policy_target_starttls(const struct policy_target *target)
{
    char host[256], port[6];
    enum starttls starttls;
    if (target->starttls && starttls_find(target->starttls, &starttls))
        return starttls;
    if (!target->endpoint || endpoint_split(target->endpoint, host, port, NULL) != CODE_OK)
        return STARTTLS_NONE;
    return starttls_of_port((unsigned)strtoul(port, NULL, 10));
}

/* --- answering ---------------------------------------------------------------------------------------- */

enum code policy_allows_operation(const struct policy *policy, int task_kind, struct status *st)
{
    if (task_kind < 1 || (size_t)task_kind >= ARRAY_LEN(operation_names))
        return status_set(st, CODE_UNIMPLEMENTED, "this agent does not know task kind %d", task_kind);
    const char *name = operation_names[task_kind];
    for (char **op = policy->operations; op && *op; op++) {
        if (strcmp(*op, name) == 0)
            return CODE_OK;
    }
    if (!policy->operations &&
        (task_kind == CLM__TASK__KIND__VALIDATE || task_kind == CLM__TASK__KIND__DISCOVER))
        return CODE_OK;
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids %s: add \"%s\" to operations in [policy] of %s", name, name,
                      policy->path);
}

enum code policy_find_target(const struct policy *policy, const char *name, const struct policy_target **ret,
                             struct status *st)
{
    for (struct policy_target **t = policy->targets; name && t && *t; t++) {
        if (strcmp((*t)->name, name) == 0) {
            *ret = *t;
            return CODE_OK;
        }
    }
    return status_set(
        st, CODE_PERMISSION_DENIED,
        "local policy has no target \"%.60s\": add [target %.60s] to %s, or run clm-agent setup",
        name ? name : "", name && *name ? name : "NAME", policy->path);
}

const struct policy_reload *policy_find_reload(const struct policy *policy, const char *name)
{
    for (struct policy_reload **r = policy->reloads; r && *r; r++) {
        if (strcmp((*r)->name, name) == 0)
            return *r;
    }
    return NULL;
}

enum code policy_allows_names(const struct policy *policy, const struct policy_target *target,
                              char *const *names, size_t n, struct status *st)
{
    bool own = target && target->dns_names;
    char *const *patterns = own ? target->dns_names : policy->dns_names;
    for (size_t i = 0; i < n; i++) {
        bool allowed = false;
        for (char *const *p = patterns; p && *p && !allowed; p++)
            allowed = dns_name_matches(*p, names[i]);
        if (!allowed)
            return status_set(st, CODE_PERMISSION_DENIED,
                              "local policy forbids the name %.80s: add it to dns_names in [%s%s] of %s",
                              names[i], own ? "target " : "policy", own ? target->name : "", policy->path);
    }
    return CODE_OK;
}

struct address {
    int family;
    uint8_t bytes[16];
    size_t len;
};

static bool address_parse(const char *text, struct address *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->family = strchr(text, ':') ? AF_INET6 : AF_INET;
    ret->len = ret->family == AF_INET6 ? 16 : 4;
    return inet_pton(ret->family, text, ret->bytes) == 1;
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8)) == 0;
}

/* "10.1.0.0/16" against an address. */
static bool range_holds(const char *range, const struct address *address)
{
    const char *slash = strchr(range, '/');
    char text[INET6_ADDRSTRLEN];
    struct address net;
    if (!slash || (size_t)(slash - range) >= sizeof(text) || !slash[1] || strlen(slash + 1) > 3 ||
        slash[1 + strspn(slash + 1, "0123456789")])
        return false;
    memcpy(text, range, (size_t)(slash - range));
    text[slash - range] = 0;
    unsigned bits = (unsigned)strtoul(slash + 1, NULL, 10);
    return address_parse(text, &net) && net.family == address->family && bits <= net.len * 8 &&
           bits_equal(net.bytes, address->bytes, bits);
}

static bool address_is_local(const struct address *address)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    if (address->family == AF_INET && address->bytes[0] == 127)
        return true;
    if (address->family == AF_INET6 && memcmp(address->bytes, loopback6, 16) == 0)
        return true;
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        return false;
    bool found = false;
    for (struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != address->family)
            continue;
        const void *bytes = address->family == AF_INET
                                ? (const void *)&((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr
                                : (const void *)&((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;
        found = memcmp(bytes, address->bytes, address->len) == 0;
    }
    freeifaddrs(list);
    return found;
}

static bool host_is_this(const char *host)
{
    struct address address;
    if (address_parse(host, &address))
        return address_is_local(&address);
    char own[256] = "";
    (void)gethostname(own, sizeof(own) - 1);
    return strcasecmp(host, "localhost") == 0 || (own[0] && strcasecmp(host, own) == 0);
}

static bool probe_listed(const struct policy *policy, const char *host)
{
    struct address address;
    bool is_address = address_parse(host, &address);
    for (char **p = policy->probe_hosts; p && *p; p++) {
        if (strcasecmp(*p, host) == 0 || dns_name_matches(*p, host) ||
            (is_address && range_holds(*p, &address)))
            return true;
    }
    /* Writing an endpoint into a target is allowing to look at it. */
    for (struct policy_target **t = policy->targets; t && *t; t++) {
        char of_target[256], port[6];
        if ((*t)->endpoint && endpoint_split((*t)->endpoint, of_target, port, NULL) == CODE_OK &&
            strcasecmp(of_target, host) == 0)
            return true;
    }
    return false;
}

enum code policy_allows_probe(const struct policy *policy, const char *host, struct status *st)
{
    if (probe_listed(policy, host) || host_is_this(host))
        return CODE_OK;
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids connecting to %.100s: add it to probe_hosts in [policy] of %s",
                      host, policy->path);
}

enum code policy_allows_fetch(const struct policy *policy, const char *host, struct status *st)
{
    for (char **p = policy->fetch_hosts; p && *p; p++) {
        if (strcasecmp(*p, host) == 0 || dns_name_matches(*p, host))
            return CODE_OK;
    }
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids asking %.100s: add it to fetch_hosts in [policy] of %s", host,
                      policy->path);
}

const char *const *policy_discovery_roots(const struct policy *policy)
{
    return policy->discovery_roots ? (const char *const *)policy->discovery_roots : default_roots;
}

static bool path_is_plain(const char *path)
{
    if (path[0] != '/')
        return false;
    for (const char *at = path; *at; at++) {
        if (at[0] != '/')
            continue;
        size_t n = strcspn(at + 1, "/");
        if ((n == 1 && at[1] == '.') || (n == 2 && at[1] == '.' && at[2] == '.'))
            return false;
    }
    return true;
}

enum code policy_allows_discovery(const struct policy *policy, const char *root, struct status *st)
{
    if (!path_is_plain(root))
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.100s\" is not an absolute path without . and ..",
                          root);
    for (const char *const *allowed = policy_discovery_roots(policy); *allowed; allowed++) {
        size_t n = strlen(*allowed);
        while (n > 1 && (*allowed)[n - 1] == '/')
            n--;
        if (strcmp(*allowed, "/") == 0 || (strncmp(root, *allowed, n) == 0 && (!root[n] || root[n] == '/')))
            return CODE_OK;
    }
    return status_set(st, CODE_PERMISSION_DENIED,
                      "local policy forbids searching %.80s: add it to discovery_roots in [policy] of %s",
                      root, policy->path);
}
