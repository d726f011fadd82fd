/* Configuration files, and what all readers of them share: see conf.h. */
#include "presets/conf.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "wire/wire.h"

#define ROUNDS_MAX   12
#define WANTS_MAX    500
#define LISTED_MAX   300
#define NAMES_MAX    100
#define LISTENS_MAX  64
#define ANSWER_BYTES (400 * 1024)

/* --- loading ------------------------------------------------------------------------------------------ */

/* What was listed first may have been loaded later. */
static const struct conf_file *find(const struct conf *conf, const char *path, bool with_text)
{
    for (size_t i = 0; i < conf->n; i++) {
        if (strcmp(conf->file[i].path, path) == 0 && (conf->file[i].text || !with_text))
            return &conf->file[i];
    }
    return NULL;
}

static bool add(struct conf *conf, const char *path, const char *text, bool is_dir)
{
    if (conf->n >= CONF_FILES_MAX) {
        conf->full = true;
        return false;
    }
    conf->file[conf->n++] = (struct conf_file){path, text, is_dir};
    return true;
}

/* Follows links (sites-enabled is made of them), never blocks, reads regular files only. */
static void load_file(struct conf *conf, struct arena *arena, const char *path)
{
    struct stat info;
    AUTO_CLOSE int look = open(path, O_PATH | O_CLOEXEC);
    if (look < 0 || fstat(look, &info) != 0 || !S_ISREG(info.st_mode))
        return;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return;
    size_t len = (size_t)info.st_size;
    if (info.st_size > CONF_FILE_BYTES_MAX || conf->bytes + len > CONF_BYTES_MAX) {
        conf->full = true;
        return;
    }
    char *text = arena_alloc(arena, len + 1);
    if (fd_read_all(fd, text, len, NULL) == CODE_OK && !memchr(text, 0, len) &&
        add(conf, arena_strdup(arena, path), text, false))
        conf->bytes += len;
}

/* A pattern costs a directory walk a component: two of them are what configurations use. */
static bool pattern_is_cheap(const char *pattern)
{
    unsigned wild = 0;
    for (const char *at = pattern; *at; at += strspn(at, "/")) {
        size_t n = strcspn(at, "/");
        for (size_t i = 0; i < n; i++) {
            if (strchr("*?[", at[i])) {
                wild++;
                break;
            }
        }
        at += n;
    }
    return wild <= 2;
}

static void load(struct conf *conf, struct arena *arena, const char *pattern)
{
    if (!strpbrk(pattern, "*?[")) {
        if (!find(conf, pattern, true))
            load_file(conf, arena, pattern);
        return;
    }
    glob_t found = {0};
    if (pattern_is_cheap(pattern) && glob(pattern, GLOB_ERR, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && !conf->full; i++) {
            if (!find(conf, found.gl_pathv[i], true))
                load_file(conf, arena, found.gl_pathv[i]);
        }
    }
    globfree(&found);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* What is there, not what is in it. */
static void list(struct conf *conf, struct arena *arena, const char *path)
{
    struct stat info;
    if (find(conf, path, false) || stat(path, &info) != 0 ||
        !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)))
        return;
    if (!add(conf, arena_strdup(arena, path), NULL, S_ISDIR(info.st_mode)) || !S_ISDIR(info.st_mode))
        return;
    struct dirent **entry = NULL;
    int n = scandir(path, &entry, NULL, by_name);
    for (int i = 0; i < n; i++) {
        if (entry[i]->d_name[0] != '.' && i < LISTED_MAX)
            (void)add(conf, arena_printf(arena, "%s/%s", path, entry[i]->d_name), NULL, false);
        free(entry[i]);
    }
    conf->full |= n > LISTED_MAX;
    free(entry);
}

enum code conf_read(confine_fn *parse, const char *path, struct arena *arena, const Clm__Agent__Facts **ret,
                    struct status *st)
{
    struct conf *conf = arena_alloc(arena, sizeof(*conf));
    const Clm__Agent__Facts *facts = NULL;
    load_file(conf, arena, path);
    if (conf->n == 0)
        return access(path, F_OK) != 0
                   ? status_set(st, CODE_NOT_FOUND, "there is no configuration at %.150s", path)
                   : status_set(st, CODE_FAILED_PRECONDITION, "%.150s cannot be read as a configuration",
                                path);
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        size_t before = conf->n;
        TRY(confine_run(parse, conf, arena, &facts, st));
        for (size_t i = 0; i < facts->n_wants; i++)
            load(conf, arena, facts->wants[i]);
        for (size_t i = 0; i < facts->n_lists; i++)
            list(conf, arena, facts->lists[i]);
        if (conf->n == before)
            break;
    }
    *ret = facts;
    return CODE_OK;
}

/* --- asking ------------------------------------------------------------------------------------------- */

static bool holds(char *const *list_, size_t n, const char *item)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list_[i], item) == 0)
            return true;
    }
    return false;
}

/* A hostile file must not make the whole answer too big to be taken. */
static bool has_room(const Clm__Agent__Facts *facts)
{
    return clm__agent__facts__get_packed_size(facts) < ANSWER_BYTES;
}

void conf_want(const char *pattern, struct arena *arena, Clm__Agent__Facts *facts)
{
    if (pattern[0] == '/' && conf_is_reportable(pattern) && facts->n_wants < WANTS_MAX &&
        !holds(facts->wants, facts->n_wants, pattern) && has_room(facts))
        ARENA_PUSH(arena, facts->wants, facts->n_wants, arena_strdup(arena, pattern));
}

const char *conf_text(const struct conf *conf, const char *path, struct arena *arena,
                      Clm__Agent__Facts *facts)
{
    const struct conf_file *file = find(conf, path, true);
    if (!file)
        conf_want(path, arena, facts);
    return file ? file->text : NULL;
}

const struct conf_file *conf_match(const struct conf *conf, const char *pattern, size_t *at)
{
    while (*at < conf->n) {
        const struct conf_file *file = &conf->file[(*at)++];
        if (fnmatch(pattern, file->path, FNM_PATHNAME | FNM_PERIOD) == 0)
            return file;
    }
    return NULL;
}

const struct conf_file *conf_stat(const struct conf *conf, const char *path, struct arena *arena,
                                  Clm__Agent__Facts *facts)
{
    const struct conf_file *file = find(conf, path, false);
    if (!file && path[0] == '/' && conf_is_reportable(path) && facts->n_lists < WANTS_MAX &&
        !holds(facts->lists, facts->n_lists, path) && has_room(facts))
        ARENA_PUSH(arena, facts->lists, facts->n_lists, arena_strdup(arena, path));
    return file;
}

/* --- text --------------------------------------------------------------------------------------------- */

static const char *line_end(const char *at, char joint)
{
    for (;;) {
        const char *end = at + strcspn(at, "\n");
        if (!*end || !joint || end == at || end[-1] != joint)
            return end;
        at = end + 1;
    }
}

char *conf_line(const char **at, char joint, struct arena *arena)
{
    while (**at) {
        const char *start = *at + strspn(*at, " \t\r\n");
        const char *end = *start == '#' ? start + strcspn(start, "\n") : line_end(start, joint);
        *at = *end ? end + 1 : end;
        if (*start == '#' || start == end)
            continue;
        while (end > start && strchr(" \t\r", end[-1]))
            end--;
        char *line = arena_strndup(arena, start, (size_t)(end - start));
        for (char *c = line; joint && *c; c++) {
            if (*c == joint && c[1] == '\n')
                c[0] = c[1] = ' ';
        }
        return line;
    }
    return NULL;
}

size_t conf_words(char *line, char comment, char **word, size_t max)
{
    size_t n = 0;
    char *from = line + strspn(line, " \t\r\n"), *to;
    while (*from && n < max && !(comment && *from == comment)) {
        word[n++] = to = from;
        for (char quote = 0; *from && (quote || !strchr(" \t\r\n", *from)); from++) {
            if (quote ? *from == quote : *from == '"' || *from == '\'')
                quote = quote ? 0 : *from;
            else
                *to++ = *from == '\\' && from[1] && from[1] != '\n' ? *++from : *from;
        }
        char *next = from + strspn(from, " \t\r\n");
        *to = 0;
        from = next;
    }
    return n;
}

const char *conf_path(struct arena *arena, const char *dir, const char *path)
{
    return path[0] == '/' ? path : arena_printf(arena, "%s/%s", dir, path);
}

const char *conf_dir(struct arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    return arena_strndup(arena, path, slash ? (size_t)(slash - path) : 0);
}

bool conf_is_reportable(const char *text)
{
    return text && text[0] && strlen(text) <= WIRE_DEFAULT_STRING_MAX && wire_utf8_valid(text);
}

bool conf_is_number(const char *s)
{
    return *s && !s[strspn(s, "0123456789")];
}

const char *conf_endpoint(struct arena *arena, const char *host, const char *port)
{
    uint8_t address[16];
    size_t len = strlen(host);
    if (!conf_is_number(port) || strlen(port) > 5 || strtol(port, NULL, 10) < 1 ||
        strtol(port, NULL, 10) > 65535)
        return NULL;
    if (len > 2 && host[0] == '[' && host[len - 1] == ']')
        host = arena_strndup(arena, host + 1, len - 2);
    if (!host[0] || strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0)
        host = "127.0.0.1";
    else if (strcmp(host, "::") == 0)
        host = "::1";
    if (inet_pton(AF_INET6, host, address) == 1)
        return arena_printf(arena, "[%s]:%s", host, port);
    if (host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")])
        return NULL;
    return arena_printf(arena, "%s:%s", host, port);
}

bool conf_name_is_plain(const char *name)
{
    const char *at = strncmp(name, "*.", 2) == 0 ? name + 2 : name;
    return at[0] && strcmp(at, "_") != 0 && strlen(name) <= 253 && at[0] != '.' &&
           !at[strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")];
}

/* --- servers ------------------------------------------------------------------------------------------ */

Clm__Agent__ServerFacts *conf_server(struct arena *arena, const char *certificate, const char *key)
{
    Clm__Agent__ServerFacts *server = arena_alloc(arena, sizeof(*server));
    clm__agent__server_facts__init(server);
    server->certificate = arena_strdup(arena, certificate);
    server->key = arena_strdup(arena, key);
    return server;
}

void conf_add_name(struct arena *arena, Clm__Agent__ServerFacts *server, const char *name)
{
    if (conf_name_is_plain(name) && server->n_names < NAMES_MAX &&
        !holds(server->names, server->n_names, name))
        ARENA_PUSH(arena, server->names, server->n_names, arena_strdup(arena, name));
}

void conf_add_listen(struct arena *arena, Clm__Agent__ServerFacts *server, const char *endpoint)
{
    if (endpoint && conf_is_reportable(endpoint) && server->n_listens < LISTENS_MAX &&
        !holds(server->listens, server->n_listens, endpoint))
        ARENA_PUSH(arena, server->listens, server->n_listens, arena_strdup(arena, endpoint));
}

void conf_add_server(struct arena *arena, Clm__Agent__Facts *facts, Clm__Agent__ServerFacts *server)
{
    if (facts->n_servers >= CONF_SERVERS_MAX || server->n_listens == 0 ||
        !conf_is_reportable(server->certificate) || !conf_is_reportable(server->key) ||
        server->certificate[0] != '/' || server->key[0] != '/' ||
        (server->chain && (!conf_is_reportable(server->chain) || server->chain[0] != '/')) ||
        (server->password && !conf_is_reportable(server->password)) ||
        (server->password_file && !conf_is_reportable(server->password_file)) || !has_room(facts))
        return;
    ARENA_PUSH(arena, facts->servers, facts->n_servers, server);
}
