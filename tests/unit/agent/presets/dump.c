/* See dump.h. */
#include "dump.h"

#include <string.h>

#define HEADER "# configuration file "

static void add(struct conf *conf, const char *path, const char *text)
{
    size_t len = strlen(path);
    bool is_dir = len > 1 && path[len - 1] == '/';
    bool has_text = conf->n == 0 || text[0];
    if (conf->n < CONF_FILES_MAX)
        conf->file[conf->n++] = (struct conf_file){path, has_text ? text : NULL, is_dir};
}

struct conf *dump_conf(const char *path, const char *text, size_t len, struct arena *arena)
{
    struct conf *conf = arena_alloc(arena, sizeof(*conf));
    char *at = arena_strndup(arena, text, len); /* up to a NUL: files with one are not loaded */
    while (at) {
        char *path_end = strncmp(at, HEADER, strlen(HEADER)) == 0 ? strchr(at, '\n') : NULL;
        char *next = strstr(path_end ? path_end : at, "\n" HEADER);
        bool is_named = path_end && path_end > at + strlen(HEADER) && path_end[-1] == ':';
        char *content = is_named ? path_end + 1 : at;
        char *name = is_named ? at + strlen(HEADER) : NULL;
        if (next)
            *next++ = 0;
        if (is_named)
            path_end[-1] = 0;
        add(conf, is_named ? name : path, is_named && path_end + 1 == next ? "" : content);
        if (is_named && conf->file[conf->n - 1].is_dir)
            name[strlen(name) - 1] = 0;
        at = next;
    }
    return conf;
}
