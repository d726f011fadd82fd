/*
 * Reads the INI file through inih and writes values into the caller's struct by table. Runs once at start,
 * before threads. inih cuts long lines and long names without a word, so the line reader here refuses them.
 */
#include "base/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <string.h>

#define NAME_LIMIT 49 /* inih keeps 49 bytes of a section or key */

/* A struct being filled: the schema's own, or one of a named section. */
struct target {
    struct target *next;
    const struct config_group *group; /* NULL: the schema's own keys */
    char *label;
    const struct config_key *keys;
    void *conf;
    bool *seen; /* one a key */
};

struct load {
    const struct config_schema *schema;
    const char *path; /* NULL without a file */
    char *dir;        /* absolute */
    FILE *file;
    int line;
    struct target *targets; /* the first is the schema's own */
    struct target *current; /* NULL outside a named section */
    struct status *st;
    enum code code;
};

static size_t key_count(const struct config_key *keys)
{
    size_t n = 0;
    while (keys[n].name)
        n++;
    return n;
}

/* The first error is the one to mend; it stands. */
static enum code fail(struct load *load, enum code code, const char *fmt, ...) PRINTF(3, 4);
static enum code fail(struct load *load, enum code code, const char *fmt, ...)
{
    if (load->code != CODE_OK)
        return load->code;
    char what[200];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    const char *base = load->path ? strrchr(load->path, '/') : NULL;
    base = base ? base + 1 : load->path;
    if (load->line > 0)
        load->code = status_set(load->st, code, "%s:%d: %s", base, load->line, what);
    else if (base)
        load->code = status_set(load->st, code, "%s: %s", base, what);
    else
        load->code = status_set(load->st, code, "configuration: %s", what);
    return load->code;
}

/* --- values ------------------------------------------------------------------------------------------- */

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}, {NULL, 0},
};
static const struct unit size_units[] = {
    {"", 1}, {"B", 1}, {"K", 1024}, {"M", 1024 * 1024}, {"G", 1024 * 1024 * 1024}, {NULL, 0},
};
static const struct unit int_units[] = {{"", 1}, {NULL, 0}};

static bool parse_number(const char *text, const struct unit *units, int64_t *ret)
{
    if (!isdigit((unsigned char)text[0]) && !(text[0] == '-' && isdigit((unsigned char)text[1])))
        return false;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno)
        return false;
    if (n == 0 && !*end) {
        *ret = 0;
        return true;
    }
    for (const struct unit *unit = units; unit->name; unit++) {
        if (strcmp(end, unit->name) == 0)
            return !__builtin_mul_overflow((int64_t)n, unit->factor, ret);
    }
    return false;
}

static const char *number_form(enum config_type type)
{
    switch (type) {
    case CONFIG_DURATION:
        return "a duration such as 250ms, 30s, 5m, 1h or 30d";
    case CONFIG_SIZE:
        return "a size such as 512, 64K or 4M";
    default:
        return "a whole number";
    }
}

static bool parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"true", "yes", "on"};
    static const char *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static void list_free(char **list)
{
    for (char **item = list; item && *item; item++)
        free(*item);
    free(list);
}

static void list_add(char ***list, const char *value)
{
    size_t n = 0;
    while (*list && (*list)[n])
        n++;
    AUTO_FREE char *copy = must(strdup(value));
    char *rest = NULL;
    for (char *word = strtok_r(copy, " ,\t", &rest); word; word = strtok_r(NULL, " ,\t", &rest)) {
        *list = must(realloc(*list, (n + 2) * sizeof(char *)));
        (*list)[n++] = must(strdup(word));
        (*list)[n] = NULL;
    }
    if (!*list)
        *list = must(calloc(1, sizeof(char *)));
}

static enum code set_number(struct load *load, const struct config_key *key, const char *value, void *field)
{
    const struct unit *units = key->type == CONFIG_DURATION ? duration_units
                               : key->type == CONFIG_SIZE   ? size_units
                                                            : int_units;
    int64_t n;
    if (!parse_number(value, units, &n))
        return fail(load, CODE_INVALID_ARGUMENT, "%s = \"%s\" is not %s", key->name, value,
                    number_form(key->type));
    if ((key->min || key->max) && (n < key->min || n > key->max))
        return fail(load, CODE_INVALID_ARGUMENT, "%s = %s is outside %lld to %lld%s", key->name, value,
                    (long long)key->min, (long long)key->max,
                    key->type == CONFIG_DURATION ? " ms"
                    : key->type == CONFIG_SIZE   ? " bytes"
                                                 : "");
    *(int64_t *)field = n;
    return CODE_OK;
}

static enum code set_path(struct load *load, const struct config_key *key, const char *value, char **field)
{
    if (!*value)
        return fail(load, CODE_INVALID_ARGUMENT, "%s is an empty path", key->name);
    char *path = NULL;
    if (value[0] == '/')
        path = must(strdup(value));
    else if (asprintf(&path, "%s/%s", load->dir, value) < 0)
        abort();
    free(*field);
    *field = path;
    return CODE_OK;
}

static enum code set_value(struct load *load, const struct config_key *key, void *conf, const char *value)
{
    void *field = (char *)conf + key->offset;
    switch (key->type) {
    case CONFIG_STRING:
        free(*(char **)field);
        *(char **)field = must(strdup(value));
        return CODE_OK;
    case CONFIG_PATH:
        return set_path(load, key, value, field);
    case CONFIG_BOOL:
        if (!parse_bool(value, field))
            return fail(load, CODE_INVALID_ARGUMENT, "%s = \"%s\" is neither yes nor no", key->name, value);
        return CODE_OK;
    case CONFIG_INT:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
        return set_number(load, key, value, field);
    case CONFIG_LIST:
        list_add(field, value);
        return CODE_OK;
    }
    return CODE_INTERNAL;
}

/* --- did you mean ------------------------------------------------------------------------------------- */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance of names no longer than NAME_LIMIT. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_LIMIT + 2];
    size_t la = strlen(a), lb = strnlen(b, NAME_LIMIT);
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[lb];
}

struct guess {
    const char *name;
    size_t distance;
};

static void guess_consider(struct guess *guess, const char *typed, const char *known)
{
    size_t distance = edit_distance(typed, known);
    if (distance < guess->distance) {
        guess->distance = distance;
        guess->name = known;
    }
}

static struct guess guess_start(const char *typed)
{
    /* More than a third of it mistyped is another word. */
    return (struct guess){NULL, 2 + strlen(typed) / 3};
}

static enum code fail_unknown(struct load *load, const char *what, const char *typed, const char *where,
                              struct guess guess)
{
    char hint[96] = "";
    if (guess.name)
        (void)snprintf(hint, sizeof(hint), "; did you mean \"%s\"?", guess.name);
    return fail(load, CODE_INVALID_ARGUMENT, "unknown %s \"%s\"%s%s", what, typed, where, hint);
}

static enum code fail_unknown_key(struct load *load, const struct target *target, const char *section,
                                  const char *name)
{
    struct guess guess = guess_start(name);
    for (const struct config_key *key = target->keys; key->name; key++) {
        if (target->group || strcmp(key->section, section) == 0)
            guess_consider(&guess, name, key->name);
    }
    char where[64];
    (void)snprintf(where, sizeof(where), " in [%s]", section);
    return fail_unknown(load, "key", name, where, guess);
}

/* --- sections ----------------------------------------------------------------------------------------- */

static struct target *target_new(const struct config_group *group, const char *label,
                                 const struct config_key *keys, void *conf)
{
    struct target *target = must(calloc(1, sizeof(*target)));
    target->group = group;
    target->label = label ? must(strdup(label)) : NULL;
    target->keys = keys;
    target->conf = conf;
    target->seen = must(calloc(key_count(keys) + 1, sizeof(bool)));
    return target;
}

static void target_add(struct load *load, struct target *target)
{
    struct target **end = &load->targets;
    while (*end)
        end = &(*end)->next;
    *end = target;
}

static void targets_free(struct target *target)
{
    while (target) {
        struct target *next = target->next;
        free(target->label);
        free(target->seen);
        free(target);
        target = next;
    }
}

static enum code enter_group(struct load *load, const struct config_group *group, const char *label)
{
    for (struct target *t = load->targets; t; t = t->next) {
        if (t->group == group && strcmp(t->label, label) == 0)
            return fail(load, CODE_INVALID_ARGUMENT, "section [%s %s] stands here a second time",
                        group->section, label);
    }
    struct status why = {.code = CODE_INVALID_ARGUMENT};
    void *conf = group->on_section(load->targets->conf, label, &why);
    if (!conf)
        return fail(load, why.code ? why.code : CODE_INVALID_ARGUMENT, "section [%s %s]: %s", group->section,
                    label, why.msg[0] ? why.msg : "refused");
    load->current = target_new(group, label, group->keys, conf);
    target_add(load, load->current);
    return CODE_OK;
}

static enum code enter_section(struct load *load, const char *section)
{
    load->current = NULL;
    struct guess guess = guess_start(section);
    for (const struct config_group *g = load->schema->groups; g && g->section; g++) {
        size_t n = strlen(g->section);
        if (strncmp(section, g->section, n) == 0 && section[n] == ' ') {
            const char *label = section + n + strspn(section + n, " \t");
            if (*label)
                return enter_group(load, g, label);
        }
        if (strcmp(section, g->section) == 0 || strncmp(section, g->section, n + 1) == 0)
            return fail(load, CODE_INVALID_ARGUMENT, "section [%s] needs a name: [%s NAME]", g->section,
                        g->section);
        guess_consider(&guess, section, g->section);
    }
    for (const struct config_key *key = load->schema->keys; key->name; key++) {
        if (strcmp(key->section, section) == 0)
            return CODE_OK;
        guess_consider(&guess, section, key->section);
    }
    return fail_unknown(load, "section", section, "", guess);
}

/* --- the file ----------------------------------------------------------------------------------------- */

static enum code note_section(struct load *load, const char *line)
{
    const char *at = line + strspn(line, " \t");
    if (*at != '[')
        return CODE_OK;
    const char *end = strchr(at, ']');
    if (!end)
        return fail(load, CODE_INVALID_ARGUMENT, "section without its closing bracket");
    size_t len = (size_t)(end - at - 1);
    if (len > NAME_LIMIT)
        return fail(load, CODE_INVALID_ARGUMENT, "section name longer than %d bytes", NAME_LIMIT);
    char section[NAME_LIMIT + 1];
    memcpy(section, at + 1, len);
    section[len] = 0;
    return enter_section(load, section);
}

/* inih's fgets: counts lines, because this build of inih does not tell them. */
static char *read_line(char *into, int size, void *arg)
{
    struct load *load = arg;
    if (load->code != CODE_OK || !fgets(into, size, load->file))
        return NULL;
    load->line++;
    size_t len = strlen(into);
    if (len == (size_t)size - 1 && into[len - 1] != '\n' && !feof(load->file))
        fail(load, CODE_INVALID_ARGUMENT, "line longer than %d bytes", size - 2);
    else
        (void)note_section(load, into);
    return load->code == CODE_OK ? into : NULL;
}

static int on_value(void *arg, const char *section, const char *name, const char *value)
{
    struct load *load = arg;
    if (load->code != CODE_OK)
        return 1;
    struct target *target = load->current ? load->current : load->targets;
    if (strlen(name) >= NAME_LIMIT) {
        fail(load, CODE_INVALID_ARGUMENT, "key longer than %d bytes", NAME_LIMIT - 1);
        return 1;
    }
    for (size_t i = 0; target->keys[i].name; i++) {
        const struct config_key *key = &target->keys[i];
        if (strcmp(key->name, name) != 0 || (!target->group && strcmp(key->section, section) != 0))
            continue;
        if (target->seen[i] && key->type != CONFIG_LIST)
            fail(load, CODE_INVALID_ARGUMENT, "%s in [%s] is set a second time", name, section);
        else
            (void)set_value(load, key, target->conf, value);
        target->seen[i] = true;
        return 1;
    }
    fail_unknown_key(load, target, section, name);
    return 1;
}

static enum code read_file(struct load *load)
{
    load->file = fopen(load->path, "re");
    if (!load->file) {
        enum code code = errno == ENOENT ? CODE_NOT_FOUND : CODE_PERMISSION_DENIED;
        return load->code =
                   status_errno(load->st, code, errno, "cannot open configuration file %s", load->path);
    }
    int bad_line = ini_parse_stream(read_line, load, on_value, load);
    if (load->code == CODE_OK && bad_line != 0) {
        load->line = bad_line > 0 ? bad_line : load->line;
        fail(load, CODE_INVALID_ARGUMENT, "neither a [section] nor key = value");
    }
    if (load->code == CODE_OK && ferror(load->file))
        fail(load, CODE_INTERNAL, "cannot read");
    (void)fclose(load->file);
    load->line = 0;
    return load->code;
}

/* --- environment and fallbacks ------------------------------------------------------------------------ */

static void env_name(const struct config_key *key, char *out, size_t size)
{
    (void)snprintf(out, size, "CLM_%s%s%s", key->section, key->section[0] ? "_" : "", key->name);
    for (char *c = out; *c; c++)
        *c = isalnum((unsigned char)*c) ? (char)toupper((unsigned char)*c) : '_';
}

static enum code apply_environment(struct load *load, struct target *target)
{
    for (size_t i = 0; target->keys[i].name; i++) {
        const struct config_key *key = &target->keys[i];
        char name[128];
        env_name(key, name, sizeof(name));
        const char *value = getenv(name);
        if (!value)
            continue;
        if (key->type == CONFIG_LIST) {
            char ***list = (char ***)(void *)((char *)target->conf + key->offset);
            list_free(TAKE(*list));
        }
        if (set_value(load, key, target->conf, value) != CODE_OK)
            return status_wrap(load->st, "environment %s", name);
        target->seen[i] = true;
    }
    return CODE_OK;
}

static enum code apply_fallbacks(struct load *load, struct target *target)
{
    for (size_t i = 0; target->keys[i].name; i++) {
        const struct config_key *key = &target->keys[i];
        if (target->seen[i])
            continue;
        if (key->fallback) {
            TRY(set_value(load, key, target->conf, key->fallback));
        } else if (!key->optional && target->group) {
            return fail(load, CODE_INVALID_ARGUMENT, "[%s %s] lacks \"%s\": %s", target->group->section,
                        target->label, key->name, key->help ? key->help : "required");
        } else if (!key->optional) {
            char name[128];
            env_name(key, name, sizeof(name));
            return fail(load, CODE_INVALID_ARGUMENT, "[%s] lacks \"%s\" (or set %s): %s", key->section,
                        key->name, name, key->help ? key->help : "required");
        }
    }
    return CODE_OK;
}

static char *dir_of(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    AUTO_FREE char *dir =
        must(!slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path)));
    char *absolute = realpath(dir, NULL);
    return absolute ? absolute : must(strdup(dir));
}

enum code config_load(const struct config_schema *schema, const char *path, void *conf, struct status *st)
{
    struct status local;
    struct load load = {.schema = schema, .path = path, .dir = dir_of(path), .st = st ? st : &local};
    load.targets = target_new(NULL, NULL, schema->keys, conf);
    enum code code = path ? read_file(&load) : CODE_OK;
    if (code == CODE_OK)
        code = apply_environment(&load, load.targets);
    for (struct target *t = load.targets; t && code == CODE_OK; t = t->next)
        code = apply_fallbacks(&load, t);
    targets_free(load.targets);
    free(load.dir);
    return code;
}

static int on_salvaged(void *arg, const char *section, const char *name, const char *value)
{
    struct load *load = arg;
    const struct config_key *keys = load->targets->keys;
    for (size_t i = 0; keys[i].name; i++) {
        if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0)
            continue;
        load->targets->seen[i] |= set_value(load, &keys[i], load->targets->conf, value) == CODE_OK;
        load->code = CODE_OK;
    }
    return 1;
}

static char *read_any_line(char *into, int size, void *arg)
{
    return fgets(into, size, arg);
}

void config_salvage(const struct config_key *keys, const char *section, const char *path, void *conf)
{
    struct status ignored;
    size_t n = 0;
    AUTO_FREE struct config_key *own = must(calloc(key_count(keys) + 1, sizeof(*own)));
    for (const struct config_key *key = keys; key->name; key++)
        if (strcmp(key->section, section) == 0)
            own[n++] = *key;
    struct load load = {.path = path, .dir = dir_of(path), .st = &ignored};
    load.targets = target_new(NULL, NULL, own, conf);
    load.file = path ? fopen(path, "re") : NULL;
    if (load.file) {
        (void)ini_parse_stream(read_any_line, load.file, on_salvaged, &load);
        (void)fclose(load.file);
    }
    (void)apply_environment(&load, load.targets);
    load.code = CODE_OK;
    (void)apply_fallbacks(&load, load.targets);
    targets_free(load.targets);
    free(load.dir);
}

void config_done(const struct config_key *keys, void *conf)
{
    for (const struct config_key *key = keys; key->name; key++) {
        void *field = (char *)conf + key->offset;
        if (key->type == CONFIG_STRING || key->type == CONFIG_PATH)
            free(TAKE(*(char **)field));
        else if (key->type == CONFIG_LIST)
            list_free(TAKE(*(char ***)field));
    }
}

static void print_keys(const struct config_key *keys, bool grouped)
{
    const char *section = "";
    for (const struct config_key *key = keys; key->name; key++) {
        if (!grouped && strcmp(section, key->section) != 0) {
            section = key->section;
            printf("\n[%s]\n", section);
        }
        if (key->help)
            printf("# %s\n", key->help);
        if (key->fallback)
            printf("#%s = %s\n", key->name, key->fallback);
        else
            printf(key->optional ? "#%s =\n" : "%s =\n", key->name);
    }
}

void config_print_help(const struct config_schema *schema)
{
    print_keys(schema->keys, false);
    for (const struct config_group *g = schema->groups; g && g->section; g++) {
        printf("\n[%s NAME]\n", g->section);
        print_keys(g->keys, true);
    }
}
