/* The one-shot commands: arguments, then init.c, lib/bus or the signer. Print for a person; exit 0, 1
 * (failed) or 2 (usage). */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "border.h"
#include "certificates.h"
#include "init.h"
#include "publish.h"
#include "signer.h"
#include "store.h"

#define STATEMENT_TIMEOUT_MS 30000

static int usage(const char *text)
{
    (void)fprintf(stderr, "usage: %s\n", text);
    return 2;
}

static int failed(const char *what, const struct status *st)
{
    (void)fprintf(stderr, "clm-bootstrap %s: %s\n", what, st->msg);
    return 1;
}

/* ---- signer -----------------------------------------------------------------------------------------------
 */

int command_signer(int argc, char **argv, const void *config)
{
    (void)config;
    bool url = argc == 5 && strcmp(argv[3], "--crl-url") == 0;
    if ((argc != 3 && !url) || strcmp(argv[1], "--dir") != 0)
        return usage("clm-bootstrap signer --dir CA_DIR [--crl-url URL]   (started by the service, with its "
                     "socket as descriptor 3)");
    /* Exit handlers expect more of the system than a confined process may still do. */
    _exit(signer_run(SIGNER_FD, argv[2], url ? argv[4] : NULL));
}

/* ---- init -------------------------------------------------------------------------------------------------
 */

#define INIT_USAGE                                                                                            \
    "clm-bootstrap init --config FILE --dir DIR --gateway-name NAME … --bus-name NAME … [--trust-domain " \
    "NAME]\n       [--secret NAME [--existing DIR] [--service-account DIR]]   (in a pod: into a Kubernetes "  \
    "Secret)"

/* Where the Secret may be mounted, and what to make of it. */
struct secret_order {
    struct publish_to to;
    const char *existing;
};

static void order_done(struct init_order *order)
{
    pki_names_done(&order->gateway_names);
    pki_names_done(&order->bus_names);
}

/* Lower-case DNS name: it stands in every SPIFFE id. */
static bool trust_domain_valid(const char *text)
{
    return text[0] != '\0' && strlen(text) <= 200 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-._") == strlen(text);
}

static enum code read_init_options(int argc, char **argv, struct init_order *ret, struct secret_order *secret,
                                   struct status *st)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"trust-domain", required_argument, NULL, 't'},
                                            {"gateway-name", required_argument, NULL, 'g'},
                                            {"bus-name", required_argument, NULL, 'b'},
                                            {"secret", required_argument, NULL, 's'},
                                            {"existing", required_argument, NULL, 'e'},
                                            {"service-account", required_argument, NULL, 'a'},
                                            {0}};
    int option;

    ret->trust_domain = "clm.example";
    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            ret->dir = optarg;
            break;
        case 't':
            ret->trust_domain = optarg;
            break;
        case 'g':
            TRY(server_names_add(&ret->gateway_names, optarg, st));
            break;
        case 'b':
            TRY(server_names_add(&ret->bus_names, optarg, st));
            break;
        case 's':
            secret->to.secret = optarg;
            break;
        case 'e':
            secret->existing = optarg;
            break;
        case 'a':
            secret->to.service_account = optarg;
            break;
        default:
            return status_set(st, CODE_INVALID_ARGUMENT, "unknown option");
        }
    }
    if (optind != argc || !ret->dir || ret->dir[0] == '\0')
        return status_set(st, CODE_INVALID_ARGUMENT, "--dir DIR is needed, and nothing but options");
    if (!trust_domain_valid(ret->trust_domain))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "--trust-domain: lower-case letters, digits, '.', '-' and '_'");
    return CODE_OK;
}

static enum code init_with_database(const struct bootstrap_config *config, const struct init_order *order,
                                    enum init_result *ret, struct status *st)
{
    CLEANUP(cleanup_db) struct db *db = NULL;
    const struct db_config database = {
        .conninfo = config->base.db_conninfo,
        .password_file = config->base.db_password_file,
        .schema = STORE_SCHEMA,
        .application_name = "clm-bootstrap init",
        .statement_timeout_ms = STATEMENT_TIMEOUT_MS,
    };
    TRY(db_open(&database, &db, st));
    TRY(db_migrate(db, STORE_SCHEMA, bootstrap_migrations, st));
    return init_run(db, order, ret, st);
}

/* The Secret is mounted there, so an earlier init made it. */
static bool has_ca(const char *dir)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/ca/root.crt", dir);
    return access(path, R_OK) == 0;
}

int command_init(int argc, char **argv, const void *config)
{
    static const char *const said[] = {
        [INIT_MADE] = "made the CA, the services' certificates and the bus's credentials",
        [INIT_FINISHED_EARLIER] = "an interrupted init had made everything; its CA is recorded now",
        [INIT_ALREADY_DONE] = "already initialised; nothing was changed",
    };
    CLEANUP(order_done) struct init_order order = {0};
    struct secret_order secret = {.to.renewed = true};
    enum init_result result;
    struct status st = {0};

    if (read_init_options(argc, argv, &order, &secret, &st) != CODE_OK) {
        (void)failed("init", &st);
        return usage(INIT_USAGE);
    }
    if (secret.existing && has_ca(secret.existing))
        order.dir = secret.existing;
    else if (secret.to.secret)
        order.publish = &secret.to;
    if (init_with_database(config, &order, &result, &st) != CODE_OK)
        return failed("init", &st);
    printf("%s: %s\n", order.dir, said[result]);
    return 0;
}

/* ---- init-bus ---------------------------------------------------------------------------------------------
 */

struct bus_order {
    const char *url, *ca, *password_file;
    int64_t max_bytes;
    unsigned replicas;
};

static bool read_number(const char *text, int64_t max, int64_t *ret)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    *ret = n;
    return *text != '\0' && *end == '\0' && n > 0 && n <= max;
}

static bool read_bus_options(int argc, char **argv, struct bus_order *ret)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},           {"ca", required_argument, NULL, 'c'},
        {"password-file", required_argument, NULL, 'p'}, {"max-bytes", required_argument, NULL, 'm'},
        {"replicas", required_argument, NULL, 'r'},      {0}};
    int option;
    int64_t n = 1;

    *ret = (struct bus_order){0}; /* what is there stays as it is */
    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        bool ok = true;
        switch (option) {
        case 'u':
            ret->url = optarg;
            break;
        case 'c':
            ret->ca = optarg;
            break;
        case 'p':
            ret->password_file = optarg;
            break;
        case 'm':
            ok = read_number(optarg, INT64_MAX, &ret->max_bytes);
            break;
        case 'r':
            ok = read_number(optarg, 5, &n);
            ret->replicas = (unsigned)n;
            break;
        default:
            ok = false;
        }
        if (!ok)
            return false;
    }
    return optind == argc && ret->url && ret->ca && ret->password_file;
}

int command_init_bus(int argc, char **argv, const void *config)
{
    struct bus_order order;
    struct status st = {0};

    (void)config;
    if (!read_bus_options(argc, argv, &order))
        return usage(
            "clm-bootstrap init-bus --url tls://HOST:PORT --ca FILE --password-file FILE [--max-bytes N] "
            "[--replicas 1-5]");
    if (bus_setup(order.url, order.ca, order.password_file, order.max_bytes, order.replicas, &st) != CODE_OK)
        return failed("init-bus", &st);
    printf("stream %s and its consumers are there\n", BUS_STREAM);
    return 0;
}

/* ---- renew-certificates -----------------------------------------------------------------------------------
 */

#define RENEW_USAGE                                                                                          \
    "clm-bootstrap renew-certificates --dir DIR [--secret NAME [--service-account DIR]]   (DIR as init "     \
    "made "                                                                                                  \
    "it; in a pod: the Secret that init made, of which DIR/ca is mounted)"

static bool read_renew_options(int argc, char **argv, const char **ret_dir, struct publish_to *ret)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"secret", required_argument, NULL, 's'},
                                            {"service-account", required_argument, NULL, 'a'},
                                            {0}};
    int option;

    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'd')
            *ret_dir = optarg;
        else if (option == 's')
            ret->secret = optarg;
        else if (option == 'a')
            ret->service_account = optarg;
        else
            return false;
    }
    return optind == argc && *ret_dir && **ret_dir && (ret->secret || !ret->service_account);
}

int command_renew_certificates(int argc, char **argv, const void *config)
{
    struct publish_to to = {.renewed = true};
    struct left_alone left = {0};
    const char *dir = NULL;
    struct status st = {0};

    (void)config;
    if (!read_renew_options(argc, argv, &dir, &to))
        return usage(RENEW_USAGE);
    if ((to.secret ? certificates_renew_secret(dir, &to, &left, &st)
                   : certificates_renew_directory(dir, &left, &st)) != CODE_OK)
        return failed("renew-certificates", &st);
    printf("%s: fresh certificates for the services%s%s\n", to.secret ? to.secret : dir,
           left.gateway_tls ? "" : ", the gateway's TLS", left.bus ? "" : ", the bus");
    if (left.gateway_tls)
        printf("gateway/tls.crt is not of this platform's CA: left alone\n");
    if (left.bus)
        printf("bus/server.crt is not of this platform's CA: left alone\n");
    return 0;
}

/* ---- publish-secret ---------------------------------------------------------------------------------------
 */

#define PASSWORDS_MAX 16

struct publish_order {
    struct publish_to to;
    const char *dir, *password[PASSWORDS_MAX + 1];
    size_t n_passwords;
};

static bool read_publish_options(int argc, char **argv, struct publish_order *ret)
{
    static const struct option options[] = {{"name", required_argument, NULL, 'n'},
                                            {"dir", required_argument, NULL, 'd'},
                                            {"password", required_argument, NULL, 'p'},
                                            {"service-account", required_argument, NULL, 'a'},
                                            {0}};
    int option;

    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'n')
            ret->to.secret = optarg;
        else if (option == 'd')
            ret->dir = optarg;
        else if (option == 'a')
            ret->to.service_account = optarg;
        else if (option == 'p' && ret->n_passwords < PASSWORDS_MAX)
            ret->password[ret->n_passwords++] = optarg;
        else
            return false;
    }
    return optind == argc && ret->to.secret && !ret->dir == (ret->n_passwords > 0);
}

int command_publish_secret(int argc, char **argv, const void *config)
{
    struct publish_order order = {0};
    struct status st = {0};

    (void)config;
    if (!read_publish_options(argc, argv, &order))
        return usage("clm-bootstrap publish-secret --name NAME {--dir DIR | --password KEY …} "
                     "[--service-account DIR]");
    enum code code = order.dir ? publish_directory(&order.to, order.dir, &st)
                               : publish_passwords(&order.to, order.password, &st);
    if (code == CODE_ALREADY_EXISTS) {
        printf("%s; nothing was changed\n", st.msg);
        return 0;
    }
    if (code != CODE_OK)
        return failed("publish-secret", &st);
    printf("made the Secret %s\n", order.to.secret);
    return 0;
}
