/*
 * What a service is told: its arguments and its configuration file. Ends in service_serve, or in a one-shot
 * command of the descriptor.
 */
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "service/internal.h"
#include "version.h"

static const struct config_key common_keys[] = {
    {.section = "service",
     .name = "log_level",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, log_level),
     .fallback = "info",
     .help = "debug, info, warn or error"},
    {.section = "service",
     .name = "log_format",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, log_format),
     .fallback = "text",
     .help = "text or json"},
    {.section = "service",
     .name = "admin_listen",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, admin_listen),
     .fallback = "127.0.0.1:0",
     .help = "address:port of /healthz, /readyz and /metrics; port 0: any free one"},
    {.section = "service",
     .name = "workers",
     .type = CONFIG_INT,
     .offset = offsetof(struct service_config, workers),
     .fallback = "4",
     .min = 1,
     .max = 256,
     .help = "worker threads, each with a database session of its own"},
    {.section = "service",
     .name = "queue_size",
     .type = CONFIG_INT,
     .offset = offsetof(struct service_config, queue_size),
     .fallback = "1024",
     .min = 1,
     .max = 65536,
     .help = "requests that may wait for a worker; beyond it they are refused"},
    {.section = "service",
     .name = "state_dir",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, state_dir),
     .optional = true,
     .help = "directory for what the service keeps on disk"},
    {.section = "identity",
     .name = "key",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, identity_key),
     .help = "private key of the service, PEM, readable by its owner only"},
    {.section = "identity",
     .name = "certificate",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, identity_certificate),
     .help = "certificate of the service and its chain, PEM"},
    {.section = "identity",
     .name = "roots",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, roots),
     .help = "the platform's root certificates, PEM"},
    {.section = "bus",
     .name = "url",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, bus_url),
     .help = "tls://host:port of the NATS servers, separated by commas"},
    {.section = "bus",
     .name = "ca",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, bus_ca),
     .optional = true,
     .help = "certificates that the NATS server's must chain to, PEM; needed for tls://"},
    {.section = "bus",
     .name = "password_file",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, bus_password_file),
     .help = "file with the password of this service's bus user"},
    {.section = "database",
     .name = "conninfo",
     .type = CONFIG_STRING,
     .offset = offsetof(struct service_config, db_conninfo),
     .help = "libpq connection string, without a password"},
    {.section = "database",
     .name = "password_file",
     .type = CONFIG_PATH,
     .offset = offsetof(struct service_config, db_password_file),
     .optional = true,
     .help = "file with the password of the database role"},
    {.name = NULL},
};

/* The shared keys and the service's own as one table; a service without database has no [database]. */
static struct config_key *join_keys(const struct service_descriptor *d)
{
    size_t n = ARRAY_LEN(common_keys);
    for (const struct config_key *k = d->config_keys; k && k->name; k++)
        n++;
    struct config_key *keys = calloc(n, sizeof(*keys));
    if (!keys)
        abort();
    size_t i = 0;
    for (const struct config_key *k = common_keys; k->name; k++)
        if (d->migrations || strcmp(k->section, "database") != 0)
            keys[i++] = *k;
    for (const struct config_key *k = d->config_keys; k && k->name; k++)
        keys[i++] = *k;
    return keys;
}

static void print_usage(const struct service_descriptor *d)
{
    printf("clm-%s: %s\n\n", d->name, d->description);
    printf("  clm-%s --config FILE       serve\n", d->name);
    for (const struct service_command *c = d->commands; c && c->name; c++)
        printf("  clm-%s %s%s …   %s\n", d->name, c->name, c->needs_config ? " --config FILE" : "", c->help);
    printf("  clm-%s --help-config       print a configuration file with every key explained\n", d->name);
    printf("  clm-%s --version\n\n", d->name);
    printf("Every key can be set in the environment, too: CLM_<SECTION>_<KEY>.\n");
}

/* Takes `--config FILE` out of argv; false if FILE is missing. */
static bool take_config(int *argc, char **argv, const char **ret_path)
{
    for (int i = 1; i < *argc; i++) {
        int used = 0;
        if (strcmp(argv[i], "--config") == 0) {
            if (i + 1 == *argc)
                return false;
            *ret_path = argv[i + 1];
            used = 2;
        } else if (strncmp(argv[i], "--config=", 9) == 0) {
            *ret_path = argv[i] + 9;
            used = 1;
        }
        if (used) {
            memmove(&argv[i], &argv[i + used], (size_t)(*argc - i - used + 1) * sizeof(*argv));
            *argc -= used;
            i--;
        }
    }
    return true;
}

static int run(const struct service_descriptor *d, struct service *service, int argc, char **argv)
{
    const struct config_schema schema = {.keys = service->keys};
    const struct service_command *command = NULL;
    for (const struct service_command *c = d->commands; argc > 1 && c && c->name; c++)
        if (strcmp(c->name, argv[1]) == 0)
            command = c;
    if (!command) {
        for (int i = 1; i < argc; i++) {
            if (strcmp(argv[i], "--help") == 0) {
                print_usage(d);
                return 0;
            }
            if (strcmp(argv[i], "--version") == 0) {
                printf("clm-%s %s (commit %s, built %s)\n", d->name, CLM_VERSION, CLM_GIT_COMMIT,
                       CLM_BUILD_DATE);
                return 0;
            }
            if (strcmp(argv[i], "--help-config") == 0) {
                config_print_help(&schema);
                return 0;
            }
        }
    }
    const char *path = NULL;
    if (!take_config(&argc, argv, &path) || (!command && argc > 1)) {
        (void)fprintf(stderr, "clm-%s: unknown argument \"%s\"; see clm-%s --help\n", d->name, argv[argc - 1],
                      d->name);
        return 2;
    }
    struct status st = {0};
    if (!command || command->needs_config) {
        if (!path) {
            (void)fprintf(stderr, "clm-%s: --config FILE is missing; see clm-%s --help\n", d->name, d->name);
            return 2;
        }
        if (config_load(&schema, path, service->config, &st) != CODE_OK) {
            (void)fprintf(stderr, "clm-%s: %s\n", d->name, st.msg);
            return 2;
        }
    }
    const struct service_config *config = service->config;
    int level = config->log_level ? log_level_parse(config->log_level) : LOG_LEVEL_INFO;
    if (level < 0) {
        (void)fprintf(stderr, "clm-%s: log_level: \"%s\" is none of debug, info, warn, error\n", d->name,
                      config->log_level);
        return 2;
    }
    bool json = config->log_format && strcmp(config->log_format, "json") == 0;
    log_init(d->name, (enum log_level)level, json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
#ifndef __SANITIZE_ADDRESS__ /* its leak check attaches to the process */
    secret_harden_process();
#endif
    if (command)
        return command->run(argc - 1, argv + 1, service->config);
    return service_serve(service);
}

int service_main(const struct service_descriptor *descriptor, int argc, char **argv)
{
    struct service service = {.descriptor = descriptor};
    service.config =
        calloc(1, descriptor->config_size > sizeof(struct service_config) ? descriptor->config_size
                                                                          : sizeof(struct service_config));
    if (!service.config)
        abort();
    service.keys = join_keys(descriptor);
    int code = run(descriptor, &service, argc, argv);
    config_done(service.keys, service.config);
    free(service.config);
    free(service.keys);
    return code;
}
