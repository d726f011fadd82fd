/* One file of this process, for readers that take a path; in memory where the host has /dev/shm. */
#ifndef CLM_FUZZ_TEMP_FILE_H
#define CLM_FUZZ_TEMP_FILE_H

#include <stddef.h>

const char *temp_dir(void); /* made once, removed with its files at exit */
/* Writes dir/name anew, mode 0600; returns its path, which lives until the next call. */
const char *temp_file(const char *name, const void *data, size_t len);

#endif
