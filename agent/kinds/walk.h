/*
 * Finds the files below some directories that may hold certificates. The walk is a child process with
 * threads of its own at a low priority; it reads, looks for the marks of a certificate, and hands over what
 * may be one: it parses nothing. Symbolic links are not followed, other file systems not entered, nothing
 * that is no regular file is opened. A file that former scans saw in the same state costs a stat. The
 * caller has one thread, reads what was found and may stop at any time; a caller that reads slowly slows the
 * walk down.
 */
#ifndef CLM_AGENT_KINDS_WALK_H
#define CLM_AGENT_KINDS_WALK_H

#include "base/buf.h"
#include "kinds/seen.h"

#define WALK_FILES_MAX   (1024 * 1024)     /* of one walk */
#define WALK_TEXT_MAX    (1024 * 1024)     /* of a file that is read */
#define WALK_STORE_MAX   (4 * 1024 * 1024) /* of a keystore */
#define WALK_DEPTH_MAX   64
#define WALK_THREADS_MAX 8

struct walk_shared;

struct walk {
    pid_t pid;
    int fd;
    struct walk_shared *shared;
    struct buf in;
    size_t taken; /* of in */
};

struct walk_found {
    char *path; /* the caller's: free() */
    struct seen_key key;
    bool settled;  /* not written to just now: may be remembered */
    bool known;    /* data is what a former scan found, from the cache; else the file's content */
    uint8_t *data; /* the caller's: free() */
    size_t len;
};

enum walk_state { WALK_FOUND, WALK_WAIT, WALK_END };

struct walk_counts {
    uint64_t files, unreadable, unchanged;
    bool full; /* there were more than WALK_FILES_MAX */
};

struct walk_root { /* absolute */
    const char *path;
    const char *above; /* path, or a directory that holds it: from there on no link is followed */
};
/* roots: ended by path NULL; seen is what the walk compares with. */
enum code walk_start(struct walk *walk, const struct walk_root *roots, const struct seen *seen,
                     unsigned threads, struct status *st) MUST_CHECK;
/* WALK_WAIT: nothing for timeout_ms. */
enum walk_state walk_next(struct walk *walk, int64_t timeout_ms, struct walk_found *ret);
/* True if the walk came to its end by itself. Kills it otherwise; to be called once, always. */
bool walk_stop(struct walk *walk);
struct walk_counts walk_counts(const struct walk *walk);
/* Keys of files in which there is nothing, and which no former scan saw so; until walk_done. */
const struct seen_key *walk_keys(const struct walk *walk, size_t *ret_n);
void walk_done(struct walk *walk);

#endif
