/*
 * A tolerant reader of nginx's configuration: see nginx.h. It understands blocks, quotes, comments and
 * includes, takes the few directives that it knows and skips the rest; it never fails on what it does not
 * know. nginx_parse is pure and bounded in depth, files and directives.
 */
#include "presets/nginx.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kinds/command.h"
#include "wire/wire.h"

#define DUMP_TIMEOUT_MS 15000
#define DEPTH_MAX       16
#define FILES_MAX       512
#define FILE_BYTES_MAX  (512 * 1024)
#define WORDS_MAX       32
#define STATEMENTS_MAX  500000
#define SERVERS_MAX     500
#define PAIRS_MAX       8
#define LISTENS_MAX     32
#define NAMES_MAX       100
#define HEADER          "# configuration file "

struct file {
    const char *path;
    const char *text;
};

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
    struct file file[FILES_MAX];
    size_t n_file;
    char *dir; /* of the main file: what relative paths are relative to */
    struct level *server[SERVERS_MAX];
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

/* One odd word must not make the whole answer break the limits of its message. */
static bool is_reportable(const char *text)
{
    return strlen(text) <= WIRE_DEFAULT_STRING_MAX && wire_utf8_valid(text);
}

static const char *full_path(struct parser *parser, const char *path)
{
    return path[0] == '/' ? path : arena_printf(parser->arena, "%s/%s", parser->dir, path);
}

static bool is_number(const char *s)
{
    return *s && !s[strspn(s, "0123456789")];
}

/* The address as someone on this host would connect to it; NULL for what is no TCP socket. */
static const char *listen_endpoint(struct parser *parser, const char *word)
{
    if (strncmp(word, "unix:", 5) == 0)
        return NULL;
    if (is_number(word))
        return arena_printf(parser->arena, "127.0.0.1:%s", word);
    const char *bracket = strrchr(word, ']');
    const char *colon = strrchr(bracket ? bracket : word, ':');
    const char *port = colon ? colon + 1 : "80";
    size_t len = colon ? (size_t)(colon - word) : strlen(word);
    char *host = arena_strndup(parser->arena, word, len);
    if (!is_number(port))
        return NULL;
    if (strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0)
        host = arena_strdup(parser->arena, "127.0.0.1");
    else if (strcmp(host, "[::]") == 0)
        host = arena_strdup(parser->arena, "[::1]");
    return arena_printf(parser->arena, "%s:%s", host, port);
}

static void on_listen(struct parser *parser, struct level *level, char **word, size_t n)
{
    const char *endpoint = listen_endpoint(parser, word[1]);
    if (!endpoint || !is_reportable(endpoint) || level->n_listen >= LISTENS_MAX)
        return;
    level->listen[level->n_listen] = endpoint;
    for (size_t i = 2; i < n; i++)
        level->listen_ssl[level->n_listen] |= strcmp(word[i], "ssl") == 0;
    level->n_listen++;
}

static bool name_is_plain(const char *name)
{
    const char *at = strncmp(name, "*.", 2) == 0 ? name + 2 : name;
    return at[0] && strcmp(at, "_") != 0 && strlen(name) <= 253 && at[0] != '.' &&
           !at[strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")];
}

static void add_name(struct level *level, const char *name)
{
    if (level->n_name < NAMES_MAX && name_is_plain(name))
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
        level->certificate[level->n_certificate++] = full_path(parser, word[1]);
    } else if (strcmp(name, "ssl_certificate_key") == 0 && level->n_key < PAIRS_MAX && is_file(word[1])) {
        level->key[level->n_key++] = full_path(parser, word[1]);
    }
}

/* The level for what stands between a block's braces; NULL: skipped. */
static struct level *enter(struct parser *parser, struct level *outer, const char *name)
{
    bool is_server = strcmp(name, "server") == 0;
    bool known =
        is_server || strcmp(name, "http") == 0 || strcmp(name, "stream") == 0 || strcmp(name, "mail") == 0;
    if (!known || !outer || outer->is_server || (is_server && parser->n_server >= SERVERS_MAX))
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
    const char *full = full_path(parser, pattern);
    for (size_t i = 1; i < parser->n_file && depth <= DEPTH_MAX; i++) {
        if (fnmatch(full, parser->file[i].path, FNM_PATHNAME | FNM_PERIOD) == 0)
            (void)parse_block(parser, level, parser->file[i].text, depth + 1);
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

static void add_server(struct parser *parser, const struct level *server, Clm__Agent__Facts *facts)
{
    const struct level *holder = server;
    while (holder && holder->n_certificate == 0)
        holder = holder->outer;
    for (size_t p = 0; holder && p < holder->n_certificate && p < holder->n_key; p++) {
        Clm__Agent__ServerFacts *row = arena_alloc(parser->arena, sizeof(*row));
        clm__agent__server_facts__init(row);
        row->certificate = arena_strdup(parser->arena, holder->certificate[p]);
        row->key = arena_strdup(parser->arena, holder->key[p]);
        for (size_t i = 0; i < server->n_listen; i++) {
            if (ssl_on(server) || socket_is_ssl(parser, server->listen[i]))
                ARENA_PUSH(parser->arena, row->listens, row->n_listens,
                           arena_strdup(parser->arena, server->listen[i]));
        }
        for (size_t i = 0; i < server->n_name; i++)
            ARENA_PUSH(parser->arena, row->names, row->n_names, arena_strdup(parser->arena, server->name[i]));
        if (row->n_listens > 0 && facts->n_servers < SERVERS_MAX && is_reportable(row->certificate) &&
            is_reportable(row->key))
            ARENA_PUSH(parser->arena, facts->servers, facts->n_servers, row);
    }
}

/* Cuts the dump at its header lines. */
static void find_files(struct parser *parser, char *text)
{
    for (char *at = text; at && *at;) {
        char *header = strncmp(at, HEADER, strlen(HEADER)) == 0 ? at : strstr(at, "\n" HEADER);
        if (!header)
            return;
        if (*header == '\n')
            *header++ = 0;
        char *line_end = strchr(header, '\n');
        if (!line_end || parser->n_file >= FILES_MAX)
            return;
        char *path = header + strlen(HEADER);
        if (line_end > path && line_end[-1] == ':') {
            line_end[-1] = 0;
            parser->file[parser->n_file++] = (struct file){path, line_end + 1};
        }
        at = line_end + 1;
    }
}

void nginx_parse(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct bytes *dump = arg;
    struct parser *parser = arena_alloc(arena, sizeof(*parser));
    struct level *top = arena_alloc(arena, sizeof(*top));
    parser->arena = arena;
    find_files(parser, arena_strndup(arena, (const char *)dump->data, dump->len));
    if (parser->n_file == 0) {
        confine_fail(facts, arena, CODE_INVALID_ARGUMENT, "nginx -T printed no configuration");
        return;
    }
    const char *main_path = parser->file[0].path, *slash = strrchr(main_path, '/');
    parser->dir = arena_strndup(arena, main_path, slash ? (size_t)(slash - main_path) : 0);
    (void)parse_block(parser, top, parser->file[0].text, 0);
    for (size_t i = 0; i < parser->n_server; i++)
        add_server(parser, parser->server[i], facts);
}

enum code nginx_look_dump(char *const *argv, struct arena *arena, const Clm__Agent__Facts **ret,
                          struct status *st)
{
    AUTO_BUF struct buf out = {.limit = NGINX_DUMP_MAX};
    TRY(command_run(argv, DUMP_TIMEOUT_MS, &out, st));
    struct bytes dump = {out.data, out.len};
    return confine_run(nginx_parse, &dump, arena, ret, st);
}

/* --- from files --------------------------------------------------------------------------------------- */

/* Follows links to files (sites-enabled is made of them), never blocks, reads regular files only. */
static void add_file(struct buf *out, int dir, const char *name, const char *path)
{
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > FILE_BYTES_MAX)
        return;
    AUTO_FREE char *text = malloc((size_t)info.st_size + 1);
    if (!text)
        abort();
    if (fd_read_all(fd, text, (size_t)info.st_size, NULL) == CODE_OK &&
        !memchr(text, 0, (size_t)info.st_size))
        (void)!buf_printf(out, "\n" HEADER "%s:\n%.*s\n", path, (int)info.st_size, text);
}

static void add_dir(struct buf *out, const char *path, unsigned depth, unsigned *left)
{
    DIR *dir = depth > 4 ? NULL : opendir(path);
    struct dirent *entry;
    while (dir && *left > 0 && (entry = readdir(dir))) {
        char child[4096];
        struct stat info;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            (size_t)snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) >= sizeof(child))
            continue;
        (*left)--;
        if (S_ISDIR(info.st_mode))
            add_dir(out, child, depth + 1, left);
        else if (S_ISREG(info.st_mode) || S_ISLNK(info.st_mode))
            add_file(out, dirfd(dir), entry->d_name, child);
    }
    if (dir)
        (void)closedir(dir);
}

enum code nginx_look_files(const char *conf, struct arena *arena, const Clm__Agent__Facts **ret,
                           struct status *st)
{
    AUTO_BUF struct buf out = {.limit = NGINX_DUMP_MAX};
    const char *slash = strrchr(conf, '/');
    unsigned left = FILES_MAX - 1;
    if (!slash)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.150s\" is no absolute path", conf);
    add_file(&out, AT_FDCWD, conf, conf);
    if (out.len == 0)
        return status_set(st, CODE_NOT_FOUND, "there is no nginx configuration at %.150s", conf);
    add_dir(&out, arena_strndup(arena, conf, (size_t)(slash - conf)), 0, &left);
    struct bytes dump = {out.data, out.len};
    return confine_run(nginx_parse, &dump, arena, ret, st);
}
