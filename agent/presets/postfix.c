/*
 * A reader of Postfix's main.cf and master.cf: see preset.h. Values are expanded as far as they name other
 * parameters of the file; a service's own `-o` counts before main.cf. Pure and bounded.
 */
#include <string.h>
#include <strings.h>

#include "presets/preset.h"

#define PARAMETERS_MAX 2000
#define OPTIONS_MAX    100
#define LINES_MAX      100000
#define EXPAND_MAX     6

struct parameter {
    const char *name, *value;
};

struct parameters {
    struct parameter *item;
    size_t n, max;
};

struct parser {
    struct arena *arena;
    Clm__Agent__Facts *facts;
    struct parameters main;
};

/* A line with those after it that begin with a blank; comments between them are left out. */
static char *logical_line(const char **at, struct arena *arena)
{
    AUTO_BUF struct buf line = {0};
    while (**at) {
        size_t len = strcspn(*at, "\n"), blank = strspn(*at, " \t\r");
        bool empty = blank >= len || (*at)[blank] == '#', joins = blank > 0;
        if (!empty && line.len > 0 && !joins)
            break;
        if (!empty && (!buf_append(&line, *at, len) || !buf_puts(&line, " ")))
            return NULL;
        *at += len + ((*at)[len] == '\n');
    }
    return line.len > 0 ? arena_strdup(arena, buf_text(&line)) : NULL;
}

static void set(struct parameters *list, const char *name, const char *value)
{
    if (list->n < list->max)
        list->item[list->n++] = (struct parameter){name, value};
}

/* "name = value" with blanks around both; false if it is no such thing. */
static bool assign(struct parameters *list, char *text)
{
    char *equals = strchr(text, '=');
    if (!equals)
        return false;
    char *name = text + strspn(text, " \t"), *value = equals + 1 + strspn(equals + 1, " \t");
    *equals = 0;
    name[strcspn(name, " \t")] = 0;
    for (size_t len = strlen(value); len > 0 && strchr(" \t\r", value[len - 1]); len--)
        value[len - 1] = 0;
    set(list, name, value);
    return true;
}

static const char *find(const struct parameters *list, const char *name, size_t len)
{
    for (size_t i = list->n; i > 0; i--) {
        if (strlen(list->item[i - 1].name) == len && memcmp(list->item[i - 1].name, name, len) == 0)
            return list->item[i - 1].value;
    }
    return NULL;
}

/* $name, ${name} and $(name); NULL for what cannot be known here. */
static const char *expand(struct parser *parser, const struct parameters *own, const char *value,
                          unsigned depth)
{
    AUTO_BUF struct buf out = {.limit = 8192};
    while (value && *value) {
        size_t plain = strcspn(value, "$");
        if (!buf_append(&out, value, plain))
            return NULL;
        value += plain;
        if (!*value)
            break;
        char open = *++value, close = open == '{' ? '}' : open == '(' ? ')' : 0;
        value += close != 0;
        size_t len = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
        if (len == 0 || (close && value[len] != close) || depth == 0)
            return NULL;
        const char *inner = find(own, value, len);
        inner = expand(parser, own, inner ? inner : find(&parser->main, value, len), depth - 1);
        if (!inner || !buf_puts(&out, inner))
            return NULL;
        value += len + (close != 0);
    }
    return value ? arena_strdup(parser->arena, buf_text(&out)) : NULL;
}

static const char *get(struct parser *parser, const struct parameters *own, const char *name)
{
    const char *value = find(own, name, strlen(name));
    return expand(parser, own, value ? value : find(&parser->main, name, strlen(name)), EXPAND_MAX);
}

static bool is(struct parser *parser, const struct parameters *own, const char *name, const char *a,
               const char *b)
{
    const char *value = get(parser, own, name);
    return value && (strcasecmp(value, a) == 0 || strcasecmp(value, b) == 0);
}

/* --- services ----------------------------------------------------------------------------------------- */

static const char *service_port(const char *word)
{
    static const struct {
        const char *name, *port;
    } known[] = {{"smtp", "25"}, {"submission", "587"}, {"smtps", "465"}, {"submissions", "465"}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(known[i].name, word) == 0)
            return known[i].port;
    }
    return word;
}

/* "smtp", "10025", "127.0.0.1:10025", "[::1]:submission". */
static void add_listens(struct parser *parser, const struct parameters *own, char *service,
                        Clm__Agent__ServerFacts *server)
{
    char *bracket = strrchr(service, ']'), *colon = strrchr(bracket ? bracket : service, ':');
    if (colon) {
        *colon = 0;
        conf_add_listen(parser->arena, server,
                        conf_endpoint(parser->arena, service, service_port(colon + 1)));
        *colon = ':';
        return;
    }
    const char *hosts = get(parser, own, "inet_interfaces");
    hosts = !hosts || strcasecmp(hosts, "all") == 0   ? "*"
            : strcasecmp(hosts, "loopback-only") == 0 ? "127.0.0.1"
                                                      : hosts;
    for (const char *at = hosts + strspn(hosts, ", \t"); *at; at += strspn(at, ", \t")) {
        size_t len = strcspn(at, ", \t");
        conf_add_listen(
            parser->arena, server,
            conf_endpoint(parser->arena, arena_strndup(parser->arena, at, len), service_port(service)));
        at += len;
    }
}

static void add_pair(struct parser *parser, const struct parameters *own, char *service,
                     const char *certificate, const char *key)
{
    if (!certificate || !key || !certificate[0] || !key[0] || strcasecmp(certificate, "none") == 0)
        return;
    Clm__Agent__ServerFacts *server = conf_server(parser->arena, certificate, key);
    if (!is(parser, own, "smtpd_tls_wrappermode", "yes", "yes"))
        server->starttls = arena_strdup(parser->arena, "smtp");
    add_listens(parser, own, service, server);
    const char *name = get(parser, own, "myhostname");
    if (name)
        conf_add_name(parser->arena, server, name);
    conf_add_server(parser->arena, parser->facts, server);
}

/* smtpd_tls_chain_files: key file, certificate file, and so on. One file that holds both has the key first,
 * which no other server wants: left out. */
static void add_chain_files(struct parser *parser, const struct parameters *own, char *service,
                            const char *files)
{
    char *copy = arena_strdup(parser->arena, files), *word[16], *save = NULL;
    size_t n = 0;
    for (char *one = strtok_r(copy, ", \t", &save); one && n < ARRAY_LEN(word);
         one = strtok_r(NULL, ", \t", &save))
        word[n++] = one;
    for (size_t i = 0; n % 2 == 0 && i + 1 < n; i += 2)
        add_pair(parser, own, service, word[i + 1], word[i]);
}

static void on_smtpd(struct parser *parser, const struct parameters *own, char *service)
{
    static const char *const prefixes[] = {"smtpd_tls_", "smtpd_tls_ec", "smtpd_tls_d"};
    bool tls = is(parser, own, "smtpd_tls_wrappermode", "yes", "yes") ||
               is(parser, own, "smtpd_use_tls", "yes", "yes") ||
               is(parser, own, "smtpd_enforce_tls", "yes", "yes") ||
               is(parser, own, "smtpd_tls_security_level", "may", "encrypt");
    const char *files = get(parser, own, "smtpd_tls_chain_files");
    if (!tls)
        return;
    if (files && files[0]) {
        add_chain_files(parser, own, service, files);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        const char *certificate = get(parser, own, arena_printf(parser->arena, "%scert_file", prefixes[i]));
        const char *key = get(parser, own, arena_printf(parser->arena, "%skey_file", prefixes[i]));
        add_pair(parser, own, service, certificate, key ? key : certificate);
    }
}

/* "service type private unpriv chroot wakeup maxproc command -o name=value -o { name = value }" */
static void on_service(struct parser *parser, char *line)
{
    char *word[CONF_WORDS_MAX];
    struct parameter option[OPTIONS_MAX];
    struct parameters own = {option, 0, OPTIONS_MAX};
    char *braced = line;
    while ((braced = strstr(braced, "-o {"))) { /* before the words are cut */
        char *end = strchr(braced, '}');
        if (!end)
            break;
        *end = 0;
        (void)assign(&own, arena_strdup(parser->arena, braced + 4));
        memset(braced, ' ', (size_t)(end - braced) + 1);
    }
    size_t n = conf_words(line, 0, word, CONF_WORDS_MAX);
    if (n < 8 || strcmp(word[1], "inet") != 0 || strcmp(word[7], "smtpd") != 0)
        return;
    for (size_t i = 8; i + 1 < n; i++) {
        if (strcmp(word[i], "-o") == 0)
            (void)assign(&own, word[++i]);
    }
    on_smtpd(parser, &own, word[0]);
}

void postfix_read(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct conf *conf = arg;
    struct parser parser = {.arena = arena, .facts = facts};
    const char *dir = conf_dir(arena, conf->file[0].path), *at = conf->file[0].text;
    unsigned lines = 0;
    parser.main =
        (struct parameters){arena_array(arena, PARAMETERS_MAX, sizeof(struct parameter)), 0, PARAMETERS_MAX};
    set(&parser.main, "config_directory", dir);
    for (char *line; lines++ < LINES_MAX && (line = logical_line(&at, arena));)
        (void)assign(&parser.main, line);
    at = conf_text(conf, arena_printf(arena, "%s/master.cf", dir), arena, facts);
    for (char *line; at && lines++ < LINES_MAX && (line = logical_line(&at, arena));)
        on_service(&parser, line);
}
