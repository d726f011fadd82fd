/*
 * A tolerant reader of Apache httpd's configuration: see preset.h. It follows includes, Define, IfModule and
 * IfDefine, takes the few directives that say who serves what, and skips the rest. Pure, and bounded in
 * depth, files and lines.
 */
#include <string.h>
#include <strings.h>

#include "presets/preset.h"

#define DEPTH_MAX   16
#define LINES_MAX   300000
#define SITES_MAX   CONF_SERVERS_MAX
#define PAIRS_MAX   8
#define NAMES_MAX   100
#define LISTENS_MAX 64
#define DEFINES_MAX 100
#define MODULES_MAX 300

enum engine { ENGINE_UNSET, ENGINE_OFF, ENGINE_ON };

struct site {
    enum engine engine;
    const char *certificate[PAIRS_MAX], *key[PAIRS_MAX], *chain;
    size_t n_certificate, n_key;
    const char *address[LISTENS_MAX]; /* of <VirtualHost …> */
    size_t n_address;
    const char *name[NAMES_MAX];
    size_t n_name;
};

struct parser {
    struct arena *arena;
    const struct conf *conf;
    Clm__Agent__Facts *facts;
    const char *root; /* ServerRoot: what relative paths are relative to */
    struct {
        const char *host, *port;
        bool https;
    } listen[LISTENS_MAX];
    size_t n_listen;
    struct {
        const char *name, *value;
    } define[DEFINES_MAX];
    size_t n_define;
    const char *module[MODULES_MAX];
    size_t n_module;
    struct site base, *site[SITES_MAX];
    size_t n_site;
    unsigned lines;
};

/* --- words -------------------------------------------------------------------------------------------- */

static const char *define_find(const struct parser *parser, const char *name, size_t len)
{
    for (size_t i = parser->n_define; i > 0; i--) {
        if (strlen(parser->define[i - 1].name) == len && memcmp(parser->define[i - 1].name, name, len) == 0)
            return parser->define[i - 1].value;
    }
    return NULL;
}

/* ${NAME} of Define; what only the environment knows stays as it is. */
static char *expand(struct parser *parser, char *line)
{
    AUTO_BUF struct buf out = {.limit = 8192};
    if (!strstr(line, "${"))
        return line;
    for (const char *at = line; *at;) {
        const char *end = strncmp(at, "${", 2) == 0 ? strchr(at, '}') : NULL;
        const char *value = end ? define_find(parser, at + 2, (size_t)(end - at - 2)) : NULL;
        if (value ? !buf_puts(&out, value) : !buf_append(&out, at, 1))
            return line;
        at = value ? end + 1 : at + 1;
    }
    return arena_strdup(parser->arena, buf_text(&out));
}

/* "ssl_module" and "mod_ssl.c" are the same one. */
static const char *module_name(struct arena *arena, const char *word)
{
    size_t len = strlen(word);
    if (strncmp(word, "mod_", 4) == 0 && len > 6 && strcmp(word + len - 2, ".c") == 0)
        return arena_strndup(arena, word + 4, len - 6);
    if (len > 7 && strcmp(word + len - 7, "_module") == 0)
        return arena_strndup(arena, word, len - 7);
    return word;
}

static bool module_is_there(const struct parser *parser, const char *name)
{
    static const char *const built_in[] = {"core.c",     "core",  "http_core.c", "http",  "so",
                                           "log_config", "logio", "version",     "unixd", "watchdog"};
    for (size_t i = 0; i < ARRAY_LEN(built_in); i++) {
        if (strcmp(built_in[i], name) == 0)
            return true;
    }
    for (size_t i = 0; i < parser->n_module; i++) {
        if (strcmp(parser->module[i], name) == 0)
            return true;
    }
    return false;
}

/* Whether what stands in the section counts; sections that hold no server of their own do not. */
static bool section_counts(struct parser *parser, const char *name, const char *argument)
{
    static const char *const open[] = {"IfVersion", "IfFile", "IfDirective", "IfSection"};
    bool negated = argument[0] == '!';
    argument += negated;
    if (strcasecmp(name, "IfModule") == 0)
        return module_is_there(parser, module_name(parser->arena, argument)) != negated;
    if (strcasecmp(name, "IfDefine") == 0)
        return (define_find(parser, argument, strlen(argument)) != NULL) != negated;
    for (size_t i = 0; i < ARRAY_LEN(open); i++) {
        if (strcasecmp(name, open[i]) == 0)
            return true;
    }
    return false;
}

/* --- directives --------------------------------------------------------------------------------------- */

/* "443", "192.0.2.1:443", "[::]:443"; host "*" where the word has none. */
static void split_address(struct parser *parser, const char *word, const char **ret_host,
                          const char **ret_port)
{
    const char *bracket = strrchr(word, ']'), *colon = strrchr(bracket ? bracket : word, ':');
    *ret_host = "*";
    *ret_port = word;
    if (conf_is_number(word))
        return;
    *ret_host = colon ? arena_strndup(parser->arena, word, (size_t)(colon - word)) : word;
    *ret_port = colon ? colon + 1 : "*";
    if (strcmp(*ret_host, "_default_") == 0)
        *ret_host = "*";
}

static void on_listen(struct parser *parser, char **word, size_t n)
{
    if (parser->n_listen >= LISTENS_MAX)
        return;
    const char *host, *port;
    split_address(parser, word[1], &host, &port);
    parser->listen[parser->n_listen].host = host;
    parser->listen[parser->n_listen].port = port;
    parser->listen[parser->n_listen++].https =
        n > 2 ? strcasecmp(word[2], "https") == 0 : strcmp(port, "443") == 0;
}

/* "https://www.example.com:443" */
static void on_name(struct parser *parser, struct site *site, const char *word)
{
    const char *scheme = strstr(word, "://"), *start = scheme ? scheme + 3 : word;
    if (site->n_name < NAMES_MAX)
        site->name[site->n_name++] = arena_strndup(parser->arena, start, strcspn(start, ":/"));
}

/* A file of its own: no token, no variable that only the environment knows. */
static bool is_file(const char *word)
{
    return word[0] && !strstr(word, "${") && strncmp(word, "pkcs11:", 7) != 0;
}

static void include(struct parser *parser, struct site *site, const char *pattern, unsigned depth);

static void on_server_directive(struct parser *parser, struct site *site, char **word, size_t n)
{
    const char *name = word[0];
    if (strcasecmp(name, "SSLEngine") == 0) {
        site->engine = strcasecmp(word[1], "off") == 0 ? ENGINE_OFF : ENGINE_ON;
    } else if (strcasecmp(name, "SSLCertificateFile") == 0) {
        if (site->n_certificate < PAIRS_MAX && is_file(word[1]))
            site->certificate[site->n_certificate++] = conf_path(parser->arena, parser->root, word[1]);
    } else if (strcasecmp(name, "SSLCertificateKeyFile") == 0) {
        if (site->n_key < PAIRS_MAX && is_file(word[1]))
            site->key[site->n_key++] = conf_path(parser->arena, parser->root, word[1]);
    } else if (strcasecmp(name, "SSLCertificateChainFile") == 0) {
        if (is_file(word[1]))
            site->chain = conf_path(parser->arena, parser->root, word[1]);
    } else if (strcasecmp(name, "ServerName") == 0) {
        on_name(parser, site, word[1]);
    } else if (strcasecmp(name, "ServerAlias") == 0) {
        for (size_t i = 1; i < n; i++)
            on_name(parser, site, word[i]);
    }
}

static void on_directive(struct parser *parser, struct site *site, char **word, size_t n, unsigned depth)
{
    const char *name = word[0];
    if (n < 2 || !site)
        return;
    if (strcasecmp(name, "Include") == 0 || strcasecmp(name, "IncludeOptional") == 0) {
        include(parser, site, word[1], depth + 1);
    } else if (strcasecmp(name, "ServerRoot") == 0) {
        parser->root = word[1];
    } else if (strcasecmp(name, "Listen") == 0) {
        on_listen(parser, word, n);
    } else if (strcasecmp(name, "Define") == 0) {
        if (parser->n_define < DEFINES_MAX) {
            parser->define[parser->n_define].name = word[1];
            parser->define[parser->n_define++].value = n > 2 ? word[2] : "";
        }
    } else if (strcasecmp(name, "LoadModule") == 0) {
        if (parser->n_module < MODULES_MAX)
            parser->module[parser->n_module++] = module_name(parser->arena, word[1]);
    } else {
        on_server_directive(parser, site, word, n);
    }
}

/* --- blocks ------------------------------------------------------------------------------------------- */

static struct site *enter_host(struct parser *parser, const struct site *outer, char **word, size_t n)
{
    if (!outer || outer != &parser->base || parser->n_site >= SITES_MAX)
        return NULL;
    struct site *site = arena_alloc(parser->arena, sizeof(*site));
    for (size_t i = 1; i < n && site->n_address < LISTENS_MAX; i++)
        site->address[site->n_address++] = word[i];
    parser->site[parser->n_site++] = site;
    return site;
}

/* Lines up to the end of the section that they stand in, or of the text. site NULL: what stands there is
 * skipped. */
static void read_lines(struct parser *parser, struct site *site, const char **at, unsigned depth)
{
    char *line, *word[CONF_WORDS_MAX];
    while (depth <= DEPTH_MAX && (line = conf_line(at, '\\', parser->arena))) {
        if (++parser->lines > LINES_MAX || strncmp(line, "</", 2) == 0)
            return;
        line = expand(parser, line);
        size_t len = strlen(line);
        bool section = line[0] == '<';
        if (section && line[len - 1] == '>')
            line[len - 1] = 0;
        size_t n = conf_words(line + section, 0, word, CONF_WORDS_MAX);
        if (n == 0)
            continue;
        if (!section)
            on_directive(parser, site, word, n, depth);
        else if (strcasecmp(word[0], "VirtualHost") == 0)
            read_lines(parser, enter_host(parser, site, word, n), at, depth + 1);
        else
            read_lines(parser, n > 1 && section_counts(parser, word[0], word[1]) ? site : NULL, at,
                       depth + 1);
    }
}

static void include_all(struct parser *parser, struct site *site, const char *pattern, unsigned depth)
{
    const struct conf_file *file;
    conf_want(pattern, parser->arena, parser->facts);
    for (size_t i = 1; depth <= DEPTH_MAX && (file = conf_match(parser->conf, pattern, &i));) {
        const char *at = file->text;
        if (at)
            read_lines(parser, site, &at, depth + 1);
    }
}

static void include(struct parser *parser, struct site *site, const char *word, unsigned depth)
{
    const char *full = conf_path(parser->arena, parser->root, word);
    const struct conf_file *file =
        strpbrk(full, "*?[") ? NULL : conf_stat(parser->conf, full, parser->arena, parser->facts);
    include_all(parser, site, file && file->is_dir ? arena_printf(parser->arena, "%s/*", full) : full, depth);
}

/* --- results ------------------------------------------------------------------------------------------ */

/* On which of the server's sockets a site answers with TLS: what names no address of its own is where Listen
 * is. */
static void add_listens(struct parser *parser, const struct site *site, const char *address,
                        Clm__Agent__ServerFacts *row)
{
    const char *host, *port;
    enum engine engine = site->engine ? site->engine : parser->base.engine;
    split_address(parser, address, &host, &port);
    bool any_host = strcmp(host, "*") == 0, any_port = strcmp(port, "*") == 0;
    for (size_t i = 0; i < parser->n_listen; i++) {
        bool tls = engine == ENGINE_ON || (engine == ENGINE_UNSET && parser->listen[i].https);
        if (tls && (any_port || strcmp(port, parser->listen[i].port) == 0))
            conf_add_listen(parser->arena, row,
                            conf_endpoint(parser->arena, any_host ? parser->listen[i].host : host,
                                          parser->listen[i].port));
    }
}

static void add_site(struct parser *parser, const struct site *site)
{
    const struct site *holder = site->n_certificate > 0 ? site : &parser->base;
    for (size_t p = 0; p < holder->n_certificate; p++) {
        const char *key = p < holder->n_key ? holder->key[p] : holder->certificate[p];
        Clm__Agent__ServerFacts *row = conf_server(parser->arena, holder->certificate[p], key);
        row->chain = arena_strdup(parser->arena, holder->chain);
        for (size_t i = 0; i < site->n_address; i++)
            add_listens(parser, site, site->address[i], row);
        for (size_t i = 0; i < site->n_name; i++)
            conf_add_name(parser->arena, row, site->name[i]);
        conf_add_server(parser->arena, parser->facts, row);
    }
}

void apache_read(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct conf *conf = arg;
    struct parser *parser = arena_alloc(arena, sizeof(*parser));
    const char *at = conf->file[0].text;
    parser->arena = arena;
    parser->conf = conf;
    parser->facts = facts;
    parser->root = conf_dir(arena, conf->file[0].path);
    read_lines(parser, &parser->base, &at, 0);
    for (size_t i = 0; i < parser->n_site; i++)
        add_site(parser, parser->site[i]);
    if (parser->base.engine == ENGINE_ON && parser->n_site == 0) {
        parser->base.address[parser->base.n_address++] = "*";
        add_site(parser, &parser->base);
    }
}
