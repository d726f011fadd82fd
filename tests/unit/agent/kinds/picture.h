/*
 * Pictures of a host's directory (web, state, and the API server's secret), and a model of the disk beneath
 * it: of files it has what was in them at their last fsync, of directories the names at theirs. Nothing that
 * was not fsynced is ever there: as after a loss of power.
 */
#ifndef CLM_TESTS_AGENT_PICTURE_H
#define CLM_TESTS_AGENT_PICTURE_H

#include "harness.h"

enum picture {
    PICTURE_KILLED,    /* as it is */
    PICTURE_LOST,      /* what was not fsynced is gone: contents and names */
    PICTURE_LOST_DATA, /* only contents: names got to the disk before them */
    PICTURES,
};
const char *picture_name(enum picture picture);

/* All that is there now is on the disk. */
void disk_begin(struct host *host);
/* A file or directory was made, or fsynced; path as the kernel has it. Others than the host's are ignored. */
void disk_made(struct host *host, const char *path);
void disk_synced(struct host *host, const char *path);

/* Unless there is one that shows the same. */
void picture_take(struct host *host, enum picture picture);
size_t pictures_count(void);
enum picture picture_kind(size_t i); /* which showed it first */
/* Puts the i-th back in place of what is there. */
void picture_restore(struct host *host, size_t i);
void pictures_forget(struct host *host);

#endif
