/*
 * A tolerant reader of HAProxy's configuration: see preset.h. Takes `bind … ssl crt …` of frontends and
 * listens, crt-base, crt-lists and certificate directories, and skips the rest. Pure and bounded.
 */
#include <string.h>

#include "presets/preset.h"

#define LINES_MAX 300000

struct parser {
    struct arena *arena;
    const struct conf *conf;
    Clm__Agent__Facts *facts;
    const char *dir, *crt_base;
    bool in_global, in_front;
    unsigned lines;
};

struct bind {
    const char *addresses; /* separated by commas */
    bool ssl;
};

static bool is_one_of(const char *word, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(word, list[i]) == 0)
            return true;
    }
    return false;
}

/* "*:443", ":443", "ipv4@192.0.2.1:443", ":::443", ":8443-8450": the first port; nothing for a local socket.
 */
static void add_addresses(struct parser *parser, Clm__Agent__ServerFacts *server, const char *addresses)
{
    for (const char *at = addresses; *at; at += strspn(at, ",")) {
        size_t len = strcspn(at, ",");
        char *one = arena_strndup(parser->arena, at, len), *host = one;
        at += len;
        if (strncmp(one, "ipv4@", 5) == 0 || strncmp(one, "ipv6@", 5) == 0)
            host += 5;
        char *colon = strrchr(host, ':');
        if (!colon || strchr(host, '@') || host[0] == '/')
            continue;
        *colon = 0;
        conf_add_listen(parser->arena, server,
                        conf_endpoint(parser->arena, host,
                                      arena_strndup(parser->arena, colon + 1, strcspn(colon + 1, "-"))));
    }
}

/* The key is in the same file, or in one beside it that is called the same with ".key". */
static void add_file(struct parser *parser, const struct bind *bind, const char *path, char *const *names,
                     size_t n)
{
    const char *apart = arena_printf(parser->arena, "%s.key", path);
    bool has_key = conf_stat(parser->conf, apart, parser->arena, parser->facts) != NULL;
    Clm__Agent__ServerFacts *server = conf_server(parser->arena, path, has_key ? apart : path);
    server->store = arena_strdup(parser->arena, "haproxy");
    add_addresses(parser, server, bind->addresses);
    for (size_t i = 0; i < n; i++) /* "!x" of a list says which name not to answer for */
        conf_add_name(parser->arena, server, names[i]);
    conf_add_server(parser->arena, parser->facts, server);
}

static bool is_certificate_name(const char *path)
{
    static const char *const others[] = {".key", ".ocsp", ".sctl", ".issuer", ".dhparam"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        size_t len = strlen(path), of_end = strlen(others[i]);
        if (len > of_end && strcmp(path + len - of_end, others[i]) == 0)
            return false;
    }
    return true;
}

static const char *certificate_path(struct parser *parser, const char *word)
{
    const char *base = parser->crt_base ? parser->crt_base : parser->dir;
    return strchr(word, '$') || word[0] == '@' ? NULL : conf_path(parser->arena, base, word);
}

static void add_certificate(struct parser *parser, const struct bind *bind, const char *word)
{
    size_t len = strlen(word);
    if (len > 1 && word[len - 1] == '/')
        word = arena_strndup(parser->arena, word, len - 1);
    const char *path = certificate_path(parser, word);
    const struct conf_file *file = path ? conf_stat(parser->conf, path, parser->arena, parser->facts) : NULL;
    if (!path)
        return;
    if (!file || !file->is_dir) {
        add_file(parser, bind, path, NULL, 0);
        return;
    }
    const char *pattern = arena_printf(parser->arena, "%s/*", path);
    for (size_t i = 0; (file = conf_match(parser->conf, pattern, &i));) {
        if (is_certificate_name(file->path))
            add_file(parser, bind, file->path, NULL, 0);
    }
}

/* One line of a crt-list: the file, options in brackets, and the names that it is for. */
static void on_list_line(struct parser *parser, const struct bind *bind, char *line)
{
    char *word[CONF_WORDS_MAX], *open = strchr(line, '['), *close = open ? strchr(open, ']') : NULL;
    if (close)
        memset(open, ' ', (size_t)(close - open) + 1);
    size_t n = conf_words(line, '#', word, CONF_WORDS_MAX);
    const char *path = n > 0 ? certificate_path(parser, word[0]) : NULL;
    if (path)
        add_file(parser, bind, path, word + 1, n - 1);
}

static void add_list(struct parser *parser, const struct bind *bind, const char *word)
{
    const char *at =
        conf_text(parser->conf, conf_path(parser->arena, parser->dir, word), parser->arena, parser->facts);
    for (char *line; at && parser->lines++ < LINES_MAX && (line = conf_line(&at, 0, parser->arena));)
        on_list_line(parser, bind, line);
}

static void on_bind(struct parser *parser, char **word, size_t n)
{
    struct bind bind = {.addresses = word[1]};
    for (size_t i = 2; i < n; i++)
        bind.ssl |= strcmp(word[i], "ssl") == 0;
    for (size_t i = 2; bind.ssl && i + 1 < n; i++) {
        if (strcmp(word[i], "crt") == 0)
            add_certificate(parser, &bind, word[i + 1]);
        else if (strcmp(word[i], "crt-list") == 0)
            add_list(parser, &bind, word[i + 1]);
    }
}

static void on_line(struct parser *parser, char **word, size_t n)
{
    static const char *const sections[] = {"global",      "defaults", "frontend", "listen",   "backend",
                                           "userlist",    "peers",    "mailers",  "program",  "resolvers",
                                           "http-errors", "cache",    "ring",     "fcgi-app", "crt-store"};
    if (is_one_of(word[0], sections, ARRAY_LEN(sections))) {
        parser->in_global = strcmp(word[0], "global") == 0;
        parser->in_front = strcmp(word[0], "frontend") == 0 || strcmp(word[0], "listen") == 0;
    } else if (parser->in_global && n > 1 && strcmp(word[0], "crt-base") == 0) {
        parser->crt_base = word[1];
    } else if (parser->in_global && n > 1 && strcmp(word[0], "pidfile") == 0) {
        parser->facts->pid_file = word[1][0] == '/' && conf_is_reportable(word[1]) ? word[1] : NULL;
    } else if (parser->in_front && n > 2 && strcmp(word[0], "bind") == 0) {
        on_bind(parser, word, n);
    }
}

void haproxy_read(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct conf *conf = arg;
    struct parser parser = {
        .arena = arena, .conf = conf, .facts = facts, .dir = conf_dir(arena, conf->file[0].path)};
    const char *at = conf->file[0].text;
    char *word[CONF_WORDS_MAX];
    for (char *line; parser.lines++ < LINES_MAX && (line = conf_line(&at, 0, arena));) {
        size_t n = conf_words(line, '#', word, CONF_WORDS_MAX);
        if (n > 0)
            on_line(&parser, word, n);
    }
}
