/*
 * A reader of postgresql.conf: see preset.h. Includes are followed, the later setting counts, and what ALTER
 * SYSTEM wrote (postgresql.auto.conf) counts last. Pure and bounded. PostgreSQL before 18 asks for no name:
 * one pair a server.
 */
#include <string.h>
#include <strings.h>

#include "presets/preset.h"

#define DEPTH_MAX 10
#define LINES_MAX 100000

struct parser {
    struct arena *arena;
    const struct conf *conf;
    Clm__Agent__Facts *facts;
    const char *data, *ssl, *certificate, *key, *listen, *port;
    unsigned lines;
};

static void read_file(struct parser *parser, const char *path, unsigned depth);

static void include_dir(struct parser *parser, const char *path, unsigned depth)
{
    const struct conf_file *file;
    const char *pattern = arena_printf(parser->arena, "%s/*.conf", path);
    conf_want(pattern, parser->arena, parser->facts);
    for (size_t i = 1; (file = conf_match(parser->conf, pattern, &i));)
        read_file(parser, file->path, depth + 1);
}

static void on_setting(struct parser *parser, const char *dir, const char *name, const char *value,
                       unsigned depth)
{
    const struct {
        const char *name, **to;
    } known[] = {
        {"ssl", &parser->ssl},          {"ssl_cert_file", &parser->certificate},
        {"ssl_key_file", &parser->key}, {"listen_addresses", &parser->listen},
        {"port", &parser->port},        {"data_directory", &parser->data},
    };
    if (strcasecmp(name, "include") == 0 || strcasecmp(name, "include_if_exists") == 0)
        read_file(parser, conf_path(parser->arena, dir, value), depth + 1);
    else if (strcasecmp(name, "include_dir") == 0)
        include_dir(parser, conf_path(parser->arena, dir, value), depth + 1);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcasecmp(name, known[i].name) == 0)
            *known[i].to = value;
    }
}

/* 'it''s' and 'it\'s'; a value without quotes ends at a blank or comment. */
static const char *read_value(struct arena *arena, const char *at)
{
    if (*at != '\'')
        return arena_strndup(arena, at, strcspn(at, " \t\r#"));
    char *value = arena_strdup(arena, at + 1), *to = value;
    for (const char *from = value; *from; from++) {
        if (*from == '\'' && from[1] != '\'')
            break;
        if ((*from == '\'' || *from == '\\') && from[1])
            from++;
        *to++ = *from;
    }
    *to = 0;
    return value;
}

static void read_file(struct parser *parser, const char *path, unsigned depth)
{
    const char *at = depth > DEPTH_MAX ? NULL : conf_text(parser->conf, path, parser->arena, parser->facts);
    const char *dir = conf_dir(parser->arena, path);
    for (char *line; at && parser->lines++ < LINES_MAX && (line = conf_line(&at, 0, parser->arena));) {
        size_t len = strcspn(line, " \t=");
        char *value = line + len + strspn(line + len, " \t");
        if (*value == '=')
            value += 1 + strspn(value + 1, " \t");
        line[len] = 0;
        on_setting(parser, dir, line, read_value(parser->arena, value), depth);
    }
}

static bool is_on(const char *value)
{
    static const char *const yes[] = {"on", "true", "yes", "1", "t", "y"};
    for (size_t i = 0; value && i < ARRAY_LEN(yes); i++) {
        if (strcasecmp(value, yes[i]) == 0)
            return true;
    }
    return false;
}

void postgresql_read(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct conf *conf = arg;
    struct parser parser = {.arena = arena,
                            .conf = conf,
                            .facts = facts,
                            .certificate = "server.crt",
                            .key = "server.key",
                            .listen = "localhost",
                            .port = "5432"};
    const char *dir = conf_dir(arena, conf->file[0].path);
    read_file(&parser, conf->file[0].path, 0);
    parser.data = conf_path(arena, dir, parser.data ? parser.data : "");
    if (strcmp(parser.data, arena_printf(arena, "%s/", dir)) == 0)
        parser.data = dir;
    read_file(&parser, arena_printf(arena, "%s/postgresql.auto.conf", parser.data), 1);
    if (!is_on(parser.ssl) || !parser.certificate[0] || !parser.key[0])
        return;
    Clm__Agent__ServerFacts *server = conf_server(arena, conf_path(arena, parser.data, parser.certificate),
                                                  conf_path(arena, parser.data, parser.key));
    server->starttls = arena_strdup(arena, "postgresql");
    for (const char *at = parser.listen + strspn(parser.listen, ", "); *at; at += strspn(at, ", ")) {
        size_t len = strcspn(at, ", ");
        conf_add_listen(arena, server, conf_endpoint(arena, arena_strndup(arena, at, len), parser.port));
        at += len;
    }
    conf_add_server(arena, facts, server);
}
