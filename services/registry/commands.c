/* One-shot commands of clm-registry. They run in the main thread, before and without the service. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/secret.h"
#include "border.h"

extern const struct embed registry_migrations[];

struct options {
    const char *name, *role, *out, *selector, *days, *url;
};

static const struct {
    const char *name;
    unsigned role;
} roles[] = {{"viewer", 1}, {"operator", 2}, {"admin", 3}, {"auditor", 4}};

static int usage(const char *why)
{
    (void)fprintf(stderr,
                  "clm-registry create-api-key: %s\n"
                  "  --config FILE --name NAME --role viewer|operator|admin|auditor --out FILE\n"
                  "  [--labels name=value,…] [--days N]\n"
                  "The key is written to FILE (0600) and shown nowhere.\n",
                  why);
    return 2;
}

static bool read_options(int argc, char **argv, struct options *o)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {{"--name", &o->name},       {"--role", &o->role}, {"--out", &o->out},
                 {"--labels", &o->selector}, {"--days", &o->days}, {"--url", &o->url}};
    for (int i = 1; i + 1 < argc + 1; i += 2) {
        size_t k = 0;
        while (k < ARRAY_LEN(known) && strcmp(known[k].name, argv[i]) != 0)
            k++;
        if (k == ARRAY_LEN(known) || i + 1 >= argc)
            return false;
        *known[k].value = argv[i + 1];
    }
    return true;
}

static enum code open_database(const struct registry_config *config, const char *application, struct db **ret,
                               struct status *st)
{
    const struct db_config db_config = {
        .conninfo = config->base.db_conninfo,
        .password_file = config->base.db_password_file,
        .schema = "registry",
        .application_name = application,
        .statement_timeout_ms = 30000,
    };
    TRY(db_open(&db_config, ret, st));
    return db_migrate(*ret, "registry", registry_migrations, st);
}

/* The file is made first: a secret that exists only in the database is of no use to anybody. */
static enum code open_out(const char *path, int *ret_fd, struct status *st)
{
    *ret_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*ret_fd < 0)
        return status_errno(st, CODE_FAILED_PRECONDITION, errno, "cannot make %s", path);
    return CODE_OK;
}

static enum code write_out(int fd, const char *path, const char *const *parts, size_t n, struct status *st)
{
    for (size_t i = 0; i < n; i++)
        TRY(fd_write_all(fd, parts[i], strlen(parts[i]), st));
    if (fsync(fd) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "%s", path);
    return CODE_OK;
}

static enum code create(const struct options *o, unsigned role, int64_t expires_at_ms,
                        const struct registry_config *config, struct status *st)
{
    CLEANUP(cleanup_db) struct db *db = NULL;
    AUTO_CLOSE int fd = -1;
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_SECRET struct secret *text = secret_new(API_KEY_TEXT_MAX);
    char *key = (char *)text->data;
    TRY(open_database(config, "clm-registry create-api-key", &db, st));
    TRY(open_out(o->out, &fd, st));
    enum code code =
        api_key_create(db, o->name, 1u << role, o->selector, expires_at_ms, clock_wall_ms(), key, arena, st);
    if (code == CODE_OK)
        code = write_out(fd, o->out, (const char *const[]){key, "\n"}, 2, st);
    if (code != CODE_OK)
        (void)unlink(o->out);
    return code;
}

int command_create_api_key(int argc, char **argv, const void *config)
{
    struct options o = {.selector = ""};
    if (!read_options(argc, argv, &o))
        return usage("unknown or incomplete option");
    if (!o.name || !*o.name || strlen(o.name) > 64 || !o.role || !o.out)
        return usage("--name, --role and --out are needed");
    unsigned role = 0;
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strcmp(roles[i].name, o.role) == 0)
            role = roles[i].role;
    if (role == 0)
        return usage("no such role");
    int64_t expires_at_ms = -1;
    if (o.days) {
        char *end;
        long days = strtol(o.days, &end, 10);
        if (*end || days < 1 || days > 3650)
            return usage("--days: between 1 and 3650");
        expires_at_ms = clock_wall_ms() + days * 24LL * 3600 * 1000;
    }
    struct status st = {0};
    if (create(&o, role, expires_at_ms, config, &st) != CODE_OK) {
        (void)fprintf(stderr, "clm-registry create-api-key: %s\n", st.msg);
        return 1;
    }
    printf("API key \"%s\" (%s) is in %s\n", o.name, o.role, o.out);
    return 0;
}

/* ---- create-admin-link ---- */

static enum code create_link(const struct options *o, const struct registry_config *config, struct status *st)
{
    CLEANUP(cleanup_db) struct db *db = NULL;
    AUTO_CLOSE int fd = -1;
    AUTO_ARENA struct arena *arena = arena_new();
    AUTO_SECRET struct secret *text = secret_new(OPERATOR_SECRET_MAX);
    char *link = (char *)text->data;
    TRY(open_database(config, "clm-registry create-admin-link", &db, st));
    TRY(open_out(o->out, &fd, st));
    enum code code = operator_link_create(db, 1u << 3, clock_wall_ms(), link, arena, st);
    /* After '#': browsers do not send it, so no log on the way has it. */
    if (code == CODE_OK)
        code = write_out(fd, o->out, (const char *const[]){o->url, "/first-admin#", link, "\n"}, 4, st);
    if (code != CODE_OK)
        (void)unlink(o->out);
    return code;
}

int command_create_admin_link(int argc, char **argv, const void *config)
{
    struct options o = {0};
    size_t url_len = 0;
    if (read_options(argc, argv, &o) && o.url)
        url_len = strlen(o.url);
    if (!o.out || url_len < 9 || url_len > 256 || strncmp(o.url, "https://", 8) != 0 ||
        o.url[url_len - 1] == '/' || strpbrk(o.url, " #?\"\n")) {
        (void)fprintf(stderr, "clm-registry create-admin-link: --url and --out are needed\n"
                              "  --config FILE --url https://HOST[:PORT] --out FILE\n"
                              "The link is written to FILE (0600), works once and for an hour.\n");
        return 2;
    }
    struct status st = {0};
    if (create_link(&o, config, &st) != CODE_OK) {
        (void)fprintf(stderr, "clm-registry create-admin-link: %s\n", st.msg);
        return 1;
    }
    printf("open the link in %s within an hour\n", o.out);
    return 0;
}
