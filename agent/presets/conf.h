/*
 * The configuration of one server, as its files have it: read on demand, a round at a time. A reader (pure,
 * in a confined child) sees what has been loaded and says what else it wants — an included file, a pattern, a
 * directory's listing —, the privileged side loads that and asks again until nothing is missing. Only what
 * came out of a reader goes further, never a file's text.
 */
#ifndef CLM_AGENT_PRESETS_CONF_H
#define CLM_AGENT_PRESETS_CONF_H

#include "kinds/confine.h"

#define CONF_FILES_MAX      512
#define CONF_FILE_BYTES_MAX (512 * 1024)
#define CONF_BYTES_MAX      (4 * 1024 * 1024)
#define CONF_SERVERS_MAX    500
#define CONF_WORDS_MAX      64

struct conf_file {
    const char *path; /* as it was asked for, absolute */
    const char *text; /* without NUL; NULL: only known to be there */
    bool is_dir;
};

struct conf {
    struct conf_file file[CONF_FILES_MAX]; /* the main one first */
    size_t n, bytes;
    bool full; /* a limit was met: some files are missing */
};

/* --- the privileged side ------------------------------------------------------------------------------ */

/* Runs `parse` over `path` and what it asks for. NOT_FOUND without such a file; facts->servers has one row
 * for each pair of certificate and key. */
enum code conf_read(confine_fn *parse, const char *path, struct arena *arena, const Clm__Agent__Facts **ret,
                    struct status *st) MUST_CHECK;

/* --- for readers -------------------------------------------------------------------------------------- */

/* The text of a file, or NULL, and then it has been asked for. */
const char *conf_text(const struct conf *conf, const char *path, struct arena *arena,
                      Clm__Agent__Facts *facts);
/* Asks for the files that match the pattern; their texts are found with conf_match. */
void conf_want(const char *pattern, struct arena *arena, Clm__Agent__Facts *facts);
/* The next file from *at on whose path matches; NULL at the end. */
const struct conf_file *conf_match(const struct conf *conf, const char *pattern, size_t *at);
/* What is at path, without its content; NULL if nothing, or not known yet, and then it has been asked for. A
 * directory's entries are found with conf_match "path/…". */
const struct conf_file *conf_stat(const struct conf *conf, const char *path, struct arena *arena,
                                  Clm__Agent__Facts *facts);

/* The next logical line without comment and surrounding blanks; NULL at the end. A line that ends in `joint`
 * goes on with the next one (0: none does). Lines that begin with '#' are left out. */
char *conf_line(const char **at, char joint, struct arena *arena);
/* Splits at blanks, in place; '…' and "…" hold blanks together; `comment` (0: none) ends the line where a
 * word would begin. The rest of a line of more than `max` words is left out. */
size_t conf_words(char *line, char comment, char **word, size_t max);

/* `dir/path`, or path itself if it is absolute. */
const char *conf_path(struct arena *arena, const char *dir, const char *path);
/* The directory of a file; "" for one in the root directory. */
const char *conf_dir(struct arena *arena, const char *path);
/* One odd word must not make the whole answer break the limits of its message. */
bool conf_is_reportable(const char *text);
bool conf_is_number(const char *s);
/* "host:port" as someone on this host would connect to it: wildcards are loopback. NULL for what is no TCP
 * port. */
const char *conf_endpoint(struct arena *arena, const char *host, const char *port);
/* "*.example.com" and "www.example.com", nothing else. */
bool conf_name_is_plain(const char *name);

Clm__Agent__ServerFacts *conf_server(struct arena *arena, const char *certificate, const char *key);
void conf_add_name(struct arena *arena, Clm__Agent__ServerFacts *server, const char *name);
void conf_add_listen(struct arena *arena, Clm__Agent__ServerFacts *server, const char *endpoint);
/* Leaves out what the message could not carry: one odd path must not hide all others. */
void conf_add_server(struct arena *arena, Clm__Agent__Facts *facts, Clm__Agent__ServerFacts *server);

#endif
