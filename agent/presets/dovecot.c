/*
 * A tolerant reader of Dovecot's configuration, in the words of 2.3 and 2.4: see preset.h. It follows
 * includes and blocks, takes what says which listener serves which certificate, and skips the rest. Pure and
 * bounded.
 */
#include <string.h>
#include <strings.h>

#include "presets/preset.h"

#define DEPTH_MAX     12
#define LINES_MAX     300000
#define LISTENERS_MAX 32
#define LOCALS_MAX    200

/* A socket of a login service: as it comes, and as the configuration changes it. */
struct listener {
    const char *service, *protocol, *name; /* "imap-login", "imap", "imaps" */
    const char *port, *address;
    const char *starttls; /* NULL: TLS at once */
};

struct pair {
    const char *name; /* of `local_name`; NULL for everybody */
    const char *certificate, *key;
};

struct parser {
    struct arena *arena;
    const struct conf *conf;
    Clm__Agent__Facts *facts;
    struct listener listener[LISTENERS_MAX];
    size_t n_listener;
    struct pair pair[LOCALS_MAX]; /* the first for everybody */
    size_t n_pair;
    const char *protocols, *listen, *ssl;
    unsigned lines;
};

/* Where a line stands. */
struct block {
    const char *service;       /* NULL outside of one */
    struct listener *listener; /* NULL outside of one */
    struct pair *pair;         /* NULL: skipped */
};

static const struct listener usual[] = {
    {"imap-login", "imap", "imap", "143", NULL, "imap"},
    {"imap-login", "imap", "imaps", "993", NULL, NULL},
    {"pop3-login", "pop3", "pop3", "110", NULL, "pop3"},
    {"pop3-login", "pop3", "pop3s", "995", NULL, NULL},
    {"submission-login", "submission", "submission", "587", NULL, "smtp"},
    {"submission-login", "submission", "submissions", "465", NULL, NULL},
};

static struct listener *listener_find(struct parser *parser, const char *service, const char *name)
{
    for (size_t i = 0; i < parser->n_listener; i++) {
        struct listener *listener = &parser->listener[i];
        if (strcmp(listener->service, service) == 0 && strcmp(listener->name, name) == 0)
            return listener;
    }
    for (size_t i = 0; i < ARRAY_LEN(usual) && parser->n_listener < LISTENERS_MAX; i++) {
        if (strcmp(usual[i].service, service) != 0)
            continue;
        struct listener *made = &parser->listener[parser->n_listener++];
        *made = usual[i]; /* a socket of another name speaks as the plain one of its service does */
        made->name = name;
        made->port = "0";
        return made;
    }
    return NULL;
}

static struct pair *pair_find(struct parser *parser, const char *name)
{
    for (size_t i = 0; i < parser->n_pair; i++) {
        if (parser->pair[i].name && strcmp(parser->pair[i].name, name) == 0)
            return &parser->pair[i];
    }
    if (parser->n_pair >= LOCALS_MAX)
        return NULL;
    parser->pair[parser->n_pair].name = name;
    return &parser->pair[parser->n_pair++];
}

/* --- lines -------------------------------------------------------------------------------------------- */

/* "</etc/x" of 2.3, "/etc/x" of 2.4. */
static const char *file_value(const char *value)
{
    value += *value == '<';
    return value[strspn(value, " \t")] == '/' ? value + strspn(value, " \t") : NULL;
}

static bool is_yes(const char *value)
{
    return strcasecmp(value, "yes") == 0 || strcasecmp(value, "required") == 0;
}

static void on_protocols(struct parser *parser, const char *value)
{
    const char *before = parser->protocols ? parser->protocols : "";
    bool more = strncmp(value, "$protocols", 10) == 0;
    if (strlen(before) < 1000 && strlen(value) < 1000)
        parser->protocols =
            arena_printf(parser->arena, "%s %s", more ? before : "", more ? value + 10 : value);
}

static void on_listener_setting(struct listener *listener, const char *name, const char *value)
{
    if (strcmp(name, "port") == 0)
        listener->port = value;
    else if (strcmp(name, "address") == 0 || strcmp(name, "listen") == 0)
        listener->address = value;
    else if (strcmp(name, "ssl") == 0 && is_yes(value))
        listener->starttls = NULL;
}

static void on_setting(struct parser *parser, const struct block *block, const char *name, const char *value)
{
    struct pair *pair = block->pair;
    if (block->listener) {
        on_listener_setting(block->listener, name, value);
    } else if (strcmp(name, "ssl_cert") == 0 || strcmp(name, "ssl_server_cert_file") == 0) {
        pair->certificate = file_value(value);
    } else if (strcmp(name, "ssl_key") == 0 || strcmp(name, "ssl_server_key_file") == 0) {
        pair->key = file_value(value);
    } else if (!block->service && !pair->name) {
        if (strcmp(name, "protocols") == 0)
            on_protocols(parser, value);
        else if (strcmp(name, "listen") == 0)
            parser->listen = value;
        else if (strcmp(name, "ssl") == 0)
            parser->ssl = value;
    }
}

/* What stands inside of a block of that kind; a pair of NULL skips it. */
static struct block enter(struct parser *parser, const struct block *outer, const char *kind,
                          const char *label)
{
    struct block block = {.service = outer->service, .pair = outer->pair};
    if (!outer->pair)
        return block;
    if (strcmp(kind, "service") == 0)
        block.service = label;
    else if (strcmp(kind, "inet_listener") == 0 && outer->service)
        block.listener = listener_find(parser, outer->service, label);
    else if (strcmp(kind, "local_name") == 0)
        block.pair = pair_find(parser, label);
    else
        block.pair = NULL; /* of `protocol`, `local`, `passdb`, …: not what is served to everybody */
    if (strcmp(kind, "inet_listener") == 0 && !block.listener)
        block.pair = NULL;
    return block;
}

static void read_lines(struct parser *parser, struct block block, const char **at, const char *dir,
                       unsigned depth);

static void include(struct parser *parser, const struct block *block, const char *dir, const char *word,
                    unsigned depth)
{
    const struct conf_file *file;
    const char *pattern = conf_path(parser->arena, dir, word);
    conf_want(pattern, parser->arena, parser->facts);
    for (size_t i = 1; depth <= DEPTH_MAX && (file = conf_match(parser->conf, pattern, &i));) {
        const char *at = file->text;
        if (at)
            read_lines(parser, *block, &at, conf_dir(parser->arena, file->path), depth + 1);
    }
}

/* "name = value" in place; the value without quotes and comment. */
static char *split_setting(char *line)
{
    char *equals = strchr(line, '='), *value = equals + 1 + strspn(equals + 1, " \t");
    *equals = 0;
    line[strcspn(line, " \t")] = 0;
    if (*value == '"') {
        value++;
        value[strcspn(value, "\"")] = 0;
        return value;
    }
    char *comment = strstr(value, " #");
    if (comment)
        *comment = 0;
    for (size_t len = strlen(value); len > 0 && strchr(" \t\r", value[len - 1]); len--)
        value[len - 1] = 0;
    return value;
}

static void read_lines(struct parser *parser, struct block block, const char **at, const char *dir,
                       unsigned depth)
{
    char *word[4];
    for (char *line; depth <= DEPTH_MAX && (line = conf_line(at, '\\', parser->arena));) {
        size_t len = strlen(line);
        if (++parser->lines > LINES_MAX || line[0] == '}')
            return;
        if (line[len - 1] == '{') {
            line[len - 1] = 0;
            size_t n = conf_words(line, '#', word, ARRAY_LEN(word));
            read_lines(parser, enter(parser, &block, n > 0 ? word[0] : "", n > 1 ? word[1] : ""), at, dir,
                       depth + 1);
        } else if (strncmp(line, "!include", 8) == 0) {
            if (conf_words(line, '#', word, ARRAY_LEN(word)) > 1)
                include(parser, &block, dir, word[1], depth);
        } else if (strchr(line, '=') && block.pair) {
            const char *value = split_setting(line);
            on_setting(parser, &block, line, value);
        }
    }
}

/* --- results ------------------------------------------------------------------------------------------ */

static bool list_holds(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; *at; at += strspn(at, " \t,")) {
        size_t n = strcspn(at, " \t,");
        if (n == len && memcmp(at, word, n) == 0)
            return true;
        at += n;
    }
    return false;
}

static void add_listens(struct parser *parser, const struct listener *listener,
                        Clm__Agent__ServerFacts *server)
{
    const char *hosts = listener->address ? listener->address : parser->listen ? parser->listen : "*";
    for (const char *at = hosts + strspn(hosts, " \t,"); *at; at += strspn(at, " \t,")) {
        size_t len = strcspn(at, " \t,");
        conf_add_listen(parser->arena, server,
                        conf_endpoint(parser->arena, arena_strndup(parser->arena, at, len), listener->port));
        at += len;
    }
}

/* TLS at once comes first: it is the plainest way to look. */
static void add_pair(struct parser *parser, const struct pair *pair, bool starttls)
{
    const struct pair *all = &parser->pair[0];
    const char *certificate = pair->certificate ? pair->certificate : all->certificate;
    const char *key = pair->key ? pair->key : pair->certificate ? pair->certificate : all->key;
    const char *protocols = parser->protocols ? parser->protocols : "imap pop3";
    for (size_t i = 0; certificate && key && i < parser->n_listener; i++) {
        const struct listener *listener = &parser->listener[i];
        if ((listener->starttls != NULL) != starttls || !list_holds(protocols, listener->protocol))
            continue;
        Clm__Agent__ServerFacts *server = conf_server(parser->arena, certificate, key);
        server->starttls = arena_strdup(parser->arena, listener->starttls);
        add_listens(parser, listener, server);
        if (pair->name)
            conf_add_name(parser->arena, server, pair->name);
        conf_add_server(parser->arena, parser->facts, server);
    }
}

void dovecot_read(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct conf *conf = arg;
    struct parser *parser = arena_alloc(arena, sizeof(*parser));
    const char *at = conf->file[0].text;
    parser->arena = arena;
    parser->conf = conf;
    parser->facts = facts;
    parser->n_pair = 1;
    parser->n_listener = ARRAY_LEN(usual);
    memcpy(parser->listener, usual, sizeof(usual));
    read_lines(parser, (struct block){.pair = &parser->pair[0]}, &at, conf_dir(arena, conf->file[0].path), 0);
    if (parser->ssl && !is_yes(parser->ssl))
        return;
    for (size_t i = 0; i < parser->n_pair; i++)
        add_pair(parser, &parser->pair[i], false);
    for (size_t i = 0; i < parser->n_pair; i++)
        add_pair(parser, &parser->pair[i], true);
}
