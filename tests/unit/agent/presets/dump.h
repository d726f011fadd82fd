/* Configurations for tests of their readers: files in one text, each after a line `# configuration file
 * PATH:`. */
#ifndef CLM_TESTS_PRESETS_DUMP_H
#define CLM_TESTS_PRESETS_DUMP_H

#include "presets/preset.h"

/* The files of a text, the main one first; a path that ends in '/' is a directory, and one without text only
 * listed. A text without such a line is the one file `path`. */
struct conf *dump_conf(const char *path, const char *text, size_t len, struct arena *arena);

#endif
