/* The configuration file of clmctl and its environment. */
#include "cli/context.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/file.h"

#define CONTEXTS_MAX 32
#define API_KEY_MAX  4096
#define FILE_MAX     (256 * 1024)

struct named_context {
    char *name, *url, *ca, *api_key_file;
};

struct file {
    char *current;
    struct named_context contexts[CONTEXTS_MAX];
    size_t n_contexts;
};

static const struct config_key file_keys[] = {
    {.section = "clmctl",
     .name = "context",
     .type = CONFIG_STRING,
     .offset = offsetof(struct file, current),
     .optional = true,
     .help = "the context to use"},
    {.name = NULL},
};

static const struct config_key context_keys[] = {
    {.name = "url",
     .type = CONFIG_STRING,
     .offset = offsetof(struct named_context, url),
     .optional = true,
     .help = "https://host:port of the platform"},
    {.name = "ca",
     .type = CONFIG_PATH,
     .offset = offsetof(struct named_context, ca),
     .optional = true,
     .help = "PEM file of the root that signed the platform's certificate"},
    {.name = "api_key_file",
     .type = CONFIG_PATH,
     .offset = offsetof(struct named_context, api_key_file),
     .optional = true,
     .help = "file with the API key, 0600"},
    {.name = NULL},
};

static void *on_context(void *conf, const char *label, struct status *st)
{
    struct file *file = conf;
    if (file->n_contexts == CONTEXTS_MAX) {
        (void)status_set(st, CODE_INVALID_ARGUMENT, "more than %d contexts", CONTEXTS_MAX);
        return NULL;
    }
    struct named_context *context = &file->contexts[file->n_contexts++];
    context->name = strdup(label);
    return context;
}

static const struct config_group file_groups[] = {
    {.section = "context", .keys = context_keys, .on_section = on_context},
    {.section = NULL},
};

static void file_done(struct file *file)
{
    for (size_t i = 0; i < file->n_contexts; i++) {
        config_done(context_keys, &file->contexts[i]);
        free(file->contexts[i].name);
    }
    config_done(file_keys, file);
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* The path of the configuration file; NULL when there is no home to look in. malloc'd. */
static char *file_path(void)
{
    const char *path = environment("CLMCTL_CONFIG"), *base = environment("XDG_CONFIG_HOME");
    const char *home = environment("HOME");
    char *ret = NULL;
    int n = path   ? asprintf(&ret, "%s", path)
            : base ? asprintf(&ret, "%s/clmctl/config", base)
            : home ? asprintf(&ret, "%s/.config/clmctl/config", home)
                   : -1;
    return n < 0 ? NULL : ret;
}

static enum code choose(const struct file *file, const char *path, const char *name,
                        struct named_context *ret, struct status *st)
{
    *ret = (struct named_context){0};
    if (!name)
        name = environment("CLMCTL_CONTEXT");
    if (!name)
        name = file->current;
    if (!name && file->n_contexts == 1)
        name = file->contexts[0].name;
    if (!name)
        return CODE_OK;
    for (size_t i = 0; i < file->n_contexts; i++) {
        if (strcmp(file->contexts[i].name, name) == 0) {
            *ret = file->contexts[i];
            return CODE_OK;
        }
    }
    return status_set(st, CODE_FAILED_PRECONDITION,
                      "no context \"%.64s\": write a section [context %.64s] into %s", name, name,
                      path ? path : "the configuration file");
}

static enum code find_api_key(const struct named_context *chosen, struct secret **ret, struct status *st)
{
    const char *direct = environment("CLMCTL_API_KEY"), *path = environment("CLMCTL_API_KEY_FILE");
    if (direct) {
        *ret = secret_dup(direct, strlen(direct));
        return CODE_OK;
    }
    if (!path)
        path = chosen->api_key_file;
    if (path)
        TRY(secret_read_file(path, API_KEY_MAX, true, ret, st));
    return CODE_OK;
}

static enum code fill(const struct named_context *chosen, const char *path, struct context *ret,
                      struct status *st)
{
    const char *url = environment("CLMCTL_URL"), *ca = environment("CLMCTL_CA");
    if (!url)
        url = chosen->url;
    if (!ca)
        ca = chosen->ca;
    if (!url)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "no platform to talk to: set url in a [context …] of %s, or $CLMCTL_URL",
                          path ? path : "~/.config/clmctl/config");
    if (strncmp(url, "https://", 8) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "%.128s: the url must begin with https://", url);
    size_t len = strlen(url);
    while (len > 8 && url[len - 1] == '/')
        len--;
    ret->url = strndup(url, len);
    ret->ca = ca ? strdup(ca) : NULL;
    return find_api_key(chosen, &ret->api_key, st);
}

enum code context_load(const char *name, struct context *ret, struct status *st)
{
    *ret = (struct context){0};
    AUTO_FREE char *path = file_path();
    CLEANUP(file_done) struct file file = {0};
    const struct config_schema schema = {.keys = file_keys, .groups = file_groups};
    if (path && access(path, F_OK) == 0)
        TRY(config_load(&schema, path, &file, st));
    struct named_context chosen;
    TRY(choose(&file, path, name, &chosen, st));
    enum code code = fill(&chosen, path, ret, st);
    if (code != CODE_OK)
        context_done(ret);
    return code;
}

void context_done(struct context *context)
{
    free(context->url);
    free(context->ca);
    secret_free(context->api_key);
    *context = (struct context){0};
}

/* ---- the file's contexts ---- */

static enum code load_file(char **ret_path, struct file *ret, struct status *st)
{
    const struct config_schema schema = {.keys = file_keys, .groups = file_groups};
    *ret_path = file_path();
    if (!*ret_path || access(*ret_path, F_OK) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, "%s is not there; see clmctl help",
                          *ret_path ? *ret_path : "~/.config/clmctl/config");
    return config_load(&schema, *ret_path, ret, st);
}

enum code contexts_each(void (*each)(const char *name, const char *url, bool current, void *arg), void *arg,
                        struct status *st)
{
    AUTO_FREE char *path = NULL;
    CLEANUP(file_done) struct file file = {0};
    TRY(load_file(&path, &file, st));
    const char *current = environment("CLMCTL_CONTEXT");
    if (!current)
        current = file.current;
    for (size_t i = 0; i < file.n_contexts; i++) {
        const struct named_context *context = &file.contexts[i];
        bool is_current = current ? strcmp(current, context->name) == 0 : file.n_contexts == 1;
        each(context->name, context->url ? context->url : "", is_current, arg);
    }
    return CODE_OK;
}

/* The line `context = …` of [clmctl], or the section itself, replaced or put in front. */
static bool rewrite(const char *text, const char *name, struct buf *out)
{
    bool in_section = false, done = false, ok = true;
    for (const char *line = text; *line && ok;) {
        size_t len = strcspn(line, "\n"), at = strspn(line, " \t");
        if (line[at] == '[') {
            in_section = strncmp(line + at, "[clmctl]", 8) == 0;
            ok = buf_append(out, line, len) && buf_puts(out, "\n");
            if (ok && in_section && !done)
                ok = done = buf_printf(out, "context = %s\n", name);
        } else if (!(in_section && strncmp(line + at, "context", 7) == 0 &&
                     line[at + 7 + strspn(line + at + 7, " \t")] == '=')) {
            ok = buf_append(out, line, len) && buf_puts(out, "\n");
        }
        line += len + (line[len] == '\n');
    }
    return ok && (done || buf_printf(out, "\n[clmctl]\ncontext = %s\n", name));
}

enum code context_use(const char *name, struct status *st)
{
    AUTO_FREE char *path = NULL;
    AUTO_BUF struct buf text = {0}, out = {0};
    CLEANUP(file_done) struct file file = {0};
    bool found = false;
    TRY(load_file(&path, &file, st));
    for (size_t i = 0; i < file.n_contexts; i++)
        found |= strcmp(file.contexts[i].name, name) == 0;
    if (!found)
        return status_set(st, CODE_NOT_FOUND, "no context \"%.64s\" in %s", name, path);
    TRY(file_read(path, FILE_MAX, &text, st));
    if (!rewrite(buf_text(&text), name, &out))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s is too large", path);
    return file_write_atomic(path, out.data, out.len, 0600, st);
}
