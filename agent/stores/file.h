/*
 * Files that servers read their certificates and keys from. Everything is done on descriptors: no symbolic
 * link anywhere in the path (openat2), a regular file with one link, owner, mode and security label as they
 * were. New content is staged beside the target and renamed over it, so that a reader sees the old file or
 * the new one. Blocking; runs in a task's child.
 */
#ifndef CLM_AGENT_STORES_FILE_H
#define CLM_AGENT_STORES_FILE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/secret.h"
#include "base/status.h"
#include "pki/digest.h"

#define STORE_FILE_MAX (1024 * 1024)

struct store_meta {
    bool exists;
    uid_t uid;
    gid_t gid;
    mode_t mode; /* permission bits; for a file that does not exist: those it is going to have */
};

/* *ret is NULL when there is no such file (and meta->exists false); any content is treated as a key.
 * PERMISSION_DENIED for a symbolic link in the path, a file with more links, a FIFO, socket or device. */
enum code store_read(const char *path, struct secret **ret, struct store_meta *meta,
                     struct status *st) MUST_CHECK;

/* Writes content to `name` in path's directory, with meta's owner and mode and the security label and ACL of
 * the file `like` (NULL: path itself; absent: none), and fsyncs it. `name` is overwritten if an earlier run
 * left it behind. */
enum code store_stage(const char *path, const char *name, struct bytes content, const struct store_meta *meta,
                      const char *like, struct status *st) MUST_CHECK;

/* Staged content that takes the place of what is at path, in the same directory. */
struct store_move {
    const char *path, *staged;
    const char *old_sha; /* digest of what is there; "": nothing is */
};
/* Exchanges each staged file with the one in place, one right after the other, fsyncs, and removes what was
 * taken out. If that is not what old_sha says, somebody else was faster: all is put back as it was, and the
 * answer is ABORTED. After any error nothing staged is left. */
enum code store_swap(const struct store_move *moves, size_t n, struct status *st) MUST_CHECK;
/* Removes `name` from path's directory; that it is not there is no error. name NULL: path itself. */
enum code store_remove(const char *path, const char *name, struct status *st) MUST_CHECK;
/* Reads `name` in path's directory, as store_read. */
enum code store_read_staged(const char *path, const char *name, struct secret **ret,
                            struct status *st) MUST_CHECK;
/* SHA-256 of what is at path, or of `name` in its directory; "" when there is none. */
enum code store_digest(const char *path, const char *name, char ret_hex[SHA256_HEX_SIZE],
                       struct status *st) MUST_CHECK;

/* The directory that holds path, by descriptor, and path's last component (borrowed). */
enum code store_open_parent(const char *path, int *ret_dir, const char **ret_base,
                            struct status *st) MUST_CHECK;
/* SELinux label and ACL; a file system without them has nothing to keep. path is for messages. */
enum code store_copy_labels(int from, int to, const char *path, struct status *st) MUST_CHECK;

/* 0600, fsynced, in <state_dir>/backup (made 0700). A write that was cut off leaves "<name>.part", which the
 * next one, a removal or pruning takes away. */
enum code store_backup(const char *state_dir, const char *name, const struct secret *content,
                       struct status *st) MUST_CHECK;
enum code store_read_backup(const char *state_dir, const char *name, struct secret **ret,
                            struct status *st) MUST_CHECK;
/* That it is not there is no error. */
enum code store_remove_backup(const char *state_dir, const char *name, struct status *st) MUST_CHECK;
/* Forgets backups older than max_age_ms, and all that end in `suffix` but `keep_prefix`'s. */
void store_prune_backups(const char *state_dir, const char *suffix, const char *keep_prefix,
                         int64_t max_age_ms);

#endif
