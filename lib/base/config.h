/*
 * Table-driven configuration: an INI file (inih) and environment overrides (CLM_<SECTION>_<KEY>) into a
 * struct. One row a key. Errors name file, line, key and the nearest known key: agent.conf:14: unknown key
 * "path" in [policy]; did you mean "paths"?
 */
#ifndef CLM_BASE_CONFIG_H
#define CLM_BASE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum config_type {
    CONFIG_STRING,   /* char *, malloc'd */
    CONFIG_PATH,     /* char *, malloc'd, made absolute against the file's directory */
    CONFIG_BOOL,     /* bool: true/false/yes/no/on/off */
    CONFIG_INT,      /* int64_t within [min, max] */
    CONFIG_DURATION, /* int64_t milliseconds within [min, max]; "250ms", "30s", "5m", "1h", "30d" */
    CONFIG_SIZE,     /* int64_t bytes within [min, max]; "512K", "4M" */
    CONFIG_LIST,     /* char **, malloc'd, NULL-ended; separated by spaces or commas; repeated keys add */
};

struct config_key {
    const char *section, *name;
    enum config_type type;
    size_t offset;
    const char *fallback; /* as it would stand in the file; NULL: the key is required unless optional */
    int64_t min, max;     /* both 0: no bounds */
    bool optional;        /* may be absent without fallback: stays NULL / 0 */
    const char *help;     /* one line, printed by --help-config */
};

/* Named sections such as [target nginx]: `section` is "target", called once a section with its label. The
 * callback returns the struct to fill by `keys`, or NULL with *st set to refuse. */
struct config_group {
    const char *section;
    const struct config_key *keys; /* ended by a row with name NULL; their section is ignored */
    void *(*on_section)(void *conf, const char *label, struct status *st);
};

struct config_schema {
    const struct config_key *keys;     /* ended by a row with name NULL */
    const struct config_group *groups; /* ended by a row with section NULL; NULL for none */
};

/* Fills conf (zeroed by the caller). path NULL: fallbacks and environment only. */
enum code config_load(const struct config_schema *schema, const char *path, void *conf,
                      struct status *st) MUST_CHECK;
/* What one section says in a file that may be wrong elsewhere, and the environment; what cannot be read is
 * left out. path NULL: fallbacks and environment only. */
void config_salvage(const struct config_key *keys, const char *section, const char *path, void *conf);
/* Frees strings and lists that `keys` describe inside conf. */
void config_done(const struct config_key *keys, void *conf);
/* Prints an annotated example file to stdout. */
void config_print_help(const struct config_schema *schema);

#endif
