/*
 * What the last scans of the file system saw, so that a file that did not change costs one stat. A file's key
 * says which file it is (device, inode) and in what state (size, times); with it stands what was found in it,
 * or that there was nothing. The file in the agent's state directory is a cache: bounded, checked against its
 * digest, and simply not used when it is damaged or another version's. Runs in a task's child.
 */
#ifndef CLM_AGENT_KINDS_SEEN_H
#define CLM_AGENT_KINDS_SEEN_H

#include <stdbool.h>
#include <sys/stat.h>

#include "pki/der.h"

#define SEEN_FILES_MAX (1024 * 1024)      /* remembered */
#define SEEN_BYTES_MAX (32 * 1024 * 1024) /* of what was found */

struct seen_key {
    uint64_t file, state;
};

struct seen; /* read only, but for what seen_find notes */
/* Never fails: without a usable file it is empty. */
struct seen *seen_load(const char *path);
void seen_free(struct seen *seen);
size_t seen_count(const struct seen *seen);
/* Keys depend on a secret of this cache: nobody makes a file that looks like another. */
struct seen_key seen_key(const struct seen *seen, const struct stat *info);
/* True if this file was seen in this state; *ret is what was found, empty for nothing. Such a file is
 * remembered by seen_save without being an entry. Any thread, and any process forked after seen_load; *near
 * is the thread's own, zero at first: files of one directory are found fast one after the other. */
bool seen_find(const struct seen *seen, struct seen_key key, size_t *near, struct bytes *ret);

/* What is to be remembered of this scan. */
struct seen_entry {
    struct seen_key key;
    struct bytes found; /* borrowed; empty: nothing, or what stood in the former cache */
};
/* Writes the entries, what seen_find has found and, as long as there is room, what older scans saw elsewhere
 * (four scans back at most). Best effort; sorts the entries. False when nothing was written. After a crash of
 * the host the file may be damaged, which makes it none. */
bool seen_save(const struct seen *former, struct seen_entry *entries, size_t n, const char *path);

#endif
