/*
 * Which keys agent.conf has: [agent] and [policy], a [target NAME] and a [reload NAME] each any number of
 * times; one row a key.
 */
#include "policy/parts.h"

#include <string.h>

#define SECTIONS_MAX    256
#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount/"

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
const struct config_schema policy_schema = {policy_keys, groups};

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

void policy_conf_done(struct policy *policy)
{
    for (struct policy_target **t = policy->targets; t && *t; t++) {
        config_done(target_keys, *t);
        free((*t)->reloads);
        free((*t)->name);
        free(*t);
    }
    for (struct policy_reload **r = policy->reloads; r && *r; r++) {
        config_done(reload_keys, *r);
        reload_argv_free(*r);
        free((*r)->name);
        free(*r);
    }
    free(policy->targets);
    free(policy->reloads);
    config_done(policy_keys, policy);
}
