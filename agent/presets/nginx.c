/*
 * A tolerant reader of nginx's configuration: see preset.h. It understands blocks, quotes, comments and
 * includes, takes the few directives that it knows and skips the rest; it never fails on what it does not
 * know. Pure, and bounded in depth, files and directives.
 */
#include <string.h>

#include "presets/preset.h"

#define DEPTH_MAX      16
#define WORDS_MAX      32
#define STATEMENTS_MAX 500000
#define PAIRS_MAX      8
#define LISTENS_MAX    32
#define NAMES_MAX      100

/* A block's settings; what it does not set comes from the block around it. */
struct level {
    const struct level *outer;
    bool is_server, ssl_on;
    const char *certificate[PAIRS_MAX], *key[PAIRS_MAX];
    size_t n_certificate, n_key;
    const char *listen[LISTENS_MAX];
    bool listen_ssl[LISTENS_MAX];
    size_t n_listen;
    const char *name[NAMES_MAX];
    size_t n_name;
};

struct parser {
    struct arena *arena;
    const struct conf *conf;
    Clm__Agent__Facts *facts;
    const char *dir; /* of the main file: what relative paths are relative to */
    struct level *server[CONF_SERVERS_MAX];
    size_t n_server;
    unsigned statements;
};

/* --- words -------------------------------------------------------------------------------------------- */

static const char *skip_blank(const char *at)
{
    for (;;) {
        at += strspn(at, " \t\r\n");
        if (*at != '#')
            return at;
        at += strcspn(at, "\n");
    }
}

/* One word with its quotes and escapes resolved. */
static const char *read_word(const char *at, struct arena *arena, char **ret)
{
    size_t size = 64, len = 0;
    char *word = malloc(size), quote = *at == '"' || *at == '\'' ? *at++ : 0;
    if (!word)
        abort();
    for (bool in_variable = false; *at; at++) {
        if (quote ? *at == quote
                  : !in_variable && strchr(" \t\r\n;{}", *at) && !(*at == '{' && len && word[len - 1] == '$'))
            break;
        in_variable = (in_variable || (*at == '{' && len && word[len - 1] == '$')) && *at != '}';
        if (*at == '\\' && at[1])
            at++;
        if (len + 1 >= size && !(word = realloc(word, size *= 2)))
            abort();
        word[len++] = *at;
    }
    *ret = arena_strndup(arena, word, len);
    free(word);
    return quote && *at ? at + 1 : at;
}

/* --- directives --------------------------------------------------------------------------------------- */

/* "443", "127.0.0.1:443", "[::]:443", "localhost"; NULL for what is no TCP socket. */
static const char *listen_endpoint(struct parser *parser, const char *word)
{
    if (strncmp(word, "unix:", 5) == 0)
        return NULL;
    if (conf_is_number(word))
        return conf_endpoint(parser->arena, "*", word);
    const char *bracket = strrchr(word, ']');
    const char *colon = strrchr(bracket ? bracket : word, ':');
    size_t len = colon ? (size_t)(colon - word) : strlen(word);
    return conf_endpoint(parser->arena, arena_strndup(parser->arena, word, len), colon ? colon + 1 : "80");
}

static void on_listen(struct parser *parser, struct level *level, char **word, size_t n)
{
    const char *endpoint = listen_endpoint(parser, word[1]);
    if (!endpoint || level->n_listen >= LISTENS_MAX)
        return;
    level->listen[level->n_listen] = endpoint;
    for (size_t i = 2; i < n; i++)
        level->listen_ssl[level->n_listen] |= strcmp(word[i], "ssl") == 0;
    level->n_listen++;
}

static void add_name(struct level *level, const char *name)
{
    if (level->n_name < NAMES_MAX && conf_name_is_plain(name))
        level->name[level->n_name++] = name;
}

static void on_names(struct parser *parser, struct level *level, char **word, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (word[i][0] == '.') { /* ".example.com" is the name and everything below it */
            add_name(level, word[i] + 1);
            add_name(level, arena_printf(parser->arena, "*%s", word[i]));
        } else {
            add_name(level, word[i]);
        }
    }
}

/* A file of its own: no variable, no engine, no inline data. */
static bool is_file(const char *word)
{
    return !strchr(word, '$') && strncmp(word, "data:", 5) != 0 && strncmp(word, "engine:", 7) != 0 &&
           word[0];
}

static void include(struct parser *parser, struct level *level, const char *pattern, unsigned depth);

static void on_directive(struct parser *parser, struct level *level, char **word, size_t n, unsigned depth)
{
    const char *name = n > 0 ? word[0] : "";
    if (n < 2)
        return;
    if (strcmp(name, "include") == 0) {
        include(parser, level, word[1], depth + 1);
    } else if (!level) {
        return;
    } else if (strcmp(name, "listen") == 0) {
        on_listen(parser, level, word, n);
    } else if (strcmp(name, "server_name") == 0) {
        on_names(parser, level, word, n);
    } else if (strcmp(name, "ssl") == 0) {
        level->ssl_on = strcmp(word[1], "on") == 0;
    } else if (strcmp(name, "ssl_certificate") == 0 && level->n_certificate < PAIRS_MAX && is_file(word[1])) {
        level->certificate[level->n_certificate++] = conf_path(parser->arena, parser->dir, word[1]);
    } else if (strcmp(name, "ssl_certificate_key") == 0 && level->n_key < PAIRS_MAX && is_file(word[1])) {
        level->key[level->n_key++] = conf_path(parser->arena, parser->dir, word[1]);
    }
}

/* The level for what stands between a block's braces; NULL: skipped. */
static struct level *enter(struct parser *parser, struct level *outer, const char *name)
{
    bool is_server = strcmp(name, "server") == 0;
    bool known =
        is_server || strcmp(name, "http") == 0 || strcmp(name, "stream") == 0 || strcmp(name, "mail") == 0;
    if (!known || !outer || outer->is_server || (is_server && parser->n_server >= CONF_SERVERS_MAX))
        return NULL;
    struct level *level = arena_alloc(parser->arena, sizeof(*level));
    level->outer = outer;
    level->is_server = is_server;
    if (is_server)
        parser->server[parser->n_server++] = level;
    return level;
}

/* Up to the closing brace of the block, or the end of the text. */
static const char *parse_block(struct parser *parser, struct level *level, const char *at, unsigned depth)
{
    char *word[WORDS_MAX];
    size_t n = 0;
    if (depth > DEPTH_MAX)
        return at + strlen(at);
    for (at = skip_blank(at); *at; at = skip_blank(at)) {
        char c = *at;
        if (c == '}')
            return at + 1;
        if (c == ';' || c == '{') {
            if (++parser->statements > STATEMENTS_MAX)
                return at + strlen(at);
            at++;
            if (c == ';')
                on_directive(parser, level, word, n, depth);
            else
                at = parse_block(parser, enter(parser, level, n > 0 ? word[0] : ""), at, depth + 1);
            n = 0;
            continue;
        }
        char *next;
        const char *before = at;
        at = read_word(at, parser->arena, &next);
        if (at == before)
            at++;
        if (n < WORDS_MAX)
            word[n++] = next;
    }
    return at;
}

static void include(struct parser *parser, struct level *level, const char *pattern, unsigned depth)
{
    const struct conf_file *file;
    const char *full = conf_path(parser->arena, parser->dir, pattern);
    conf_want(full, parser->arena, parser->facts);
    for (size_t at = 1; depth <= DEPTH_MAX && (file = conf_match(parser->conf, full, &at));) {
        if (file->text)
            (void)parse_block(parser, level, file->text, depth + 1);
    }
}

/* --- results ------------------------------------------------------------------------------------------ */

/* A socket speaks TLS for all servers on it as soon as one of them says so. */
static bool socket_is_ssl(const struct parser *parser, const char *endpoint)
{
    for (size_t s = 0; s < parser->n_server; s++) {
        const struct level *server = parser->server[s];
        for (size_t i = 0; i < server->n_listen; i++) {
            if (strcmp(server->listen[i], endpoint) == 0 && (server->listen_ssl[i] || server->ssl_on))
                return true;
        }
    }
    return false;
}

static bool ssl_on(const struct level *level)
{
    for (; level; level = level->outer) {
        if (level->ssl_on)
            return true;
    }
    return false;
}

static void add_server(struct parser *parser, const struct level *server)
{
    const struct level *holder = server;
    while (holder && holder->n_certificate == 0)
        holder = holder->outer;
    for (size_t p = 0; holder && p < holder->n_certificate && p < holder->n_key; p++) {
        Clm__Agent__ServerFacts *row = conf_server(parser->arena, holder->certificate[p], holder->key[p]);
        for (size_t i = 0; i < server->n_listen; i++) {
            if (ssl_on(server) || socket_is_ssl(parser, server->listen[i]))
                conf_add_listen(parser->arena, row, server->listen[i]);
        }
        for (size_t i = 0; i < server->n_name; i++)
            conf_add_name(parser->arena, row, server->name[i]);
        conf_add_server(parser->arena, parser->facts, row);
    }
}

void nginx_read(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct conf *conf = arg;
    struct parser *parser = arena_alloc(arena, sizeof(*parser));
    struct level *top = arena_alloc(arena, sizeof(*top));
    parser->arena = arena;
    parser->conf = conf;
    parser->facts = facts;
    parser->dir = conf_dir(arena, conf->file[0].path);
    (void)parse_block(parser, top, conf->file[0].text, 0);
    for (size_t i = 0; i < parser->n_server; i++)
        add_server(parser, parser->server[i]);
}
