/* A configuration file: every type of key, and a section of each label. What is read must keep its row's
 * bounds. */
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "temp_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct site {
    char *name;
    int64_t weight;
};

struct conf {
    char *text, *path;
    bool flag;
    int64_t number, wait_ms, size_bytes;
    char **list;
    struct site sites[4];
    size_t n_sites;
};

#define KEY(sec, key, kind, field)                                                                           \
    .section = sec, .name = key, .type = kind, .offset = offsetof(struct conf, field)
static const struct config_key keys[] = {
    {KEY("main", "text", CONFIG_STRING, text), .fallback = "none"},
    {KEY("main", "path", CONFIG_PATH, path), .optional = true},
    {KEY("main", "flag", CONFIG_BOOL, flag), .fallback = "no"},
    {KEY("main", "number", CONFIG_INT, number), .fallback = "3", .min = 1, .max = 100},
    {KEY("main", "wait", CONFIG_DURATION, wait_ms), .fallback = "5s", .min = 1, .max = 3600000},
    {KEY("main", "size", CONFIG_SIZE, size_bytes), .fallback = "1K", .min = 1, .max = 1 << 30},
    {KEY("more", "list", CONFIG_LIST, list), .optional = true},
    {.name = NULL},
};
static const struct config_key site_keys[] = {
    {.name = "name", .type = CONFIG_STRING, .offset = offsetof(struct site, name)},
    {.name = "weight",
     .type = CONFIG_INT,
     .offset = offsetof(struct site, weight),
     .fallback = "1",
     .min = 1,
     .max = 10},
    {.name = NULL},
};

static void *on_site(void *arg, const char *label, struct status *st)
{
    struct conf *conf = arg;
    if (conf->n_sites == sizeof(conf->sites) / sizeof(conf->sites[0])) {
        (void)status_set(st, CODE_RESOURCE_EXHAUSTED, "[site %s]: too many", label);
        return NULL;
    }
    return &conf->sites[conf->n_sites++];
}

static bool within(int64_t value, int64_t min, int64_t max)
{
    return value >= min && value <= max;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct config_group groups[] = {{"site", site_keys, on_site}, {.section = NULL}};
    const struct config_schema schema = {keys, groups};
    struct status st = {0};
    struct conf conf = {0};
    if (config_load(&schema, temp_file("test.conf", data, size), &conf, &st) == CODE_OK) {
        if (!conf.text || (conf.path && conf.path[0] != '/') || !within(conf.number, 1, 100) ||
            !within(conf.wait_ms, 1, 3600000) || !within(conf.size_bytes, 1, 1 << 30))
            abort();
        for (size_t i = 0; i < conf.n_sites; i++)
            if (!conf.sites[i].name || !within(conf.sites[i].weight, 1, 10))
                abort();
    } else if (!st.msg[0]) {
        abort();
    }
    config_done(keys, &conf);
    for (size_t i = 0; i < conf.n_sites; i++)
        config_done(site_keys, &conf.sites[i]);
    return 0;
}
