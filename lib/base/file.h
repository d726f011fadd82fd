/* Whole files: bounded reading, and writing that is either the old or the new content after a crash. */
#ifndef CLM_BASE_FILE_H
#define CLM_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/status.h"

/* Appends the whole file to *ret; RESOURCE_EXHAUSTED beyond max bytes; NOT_FOUND if it is not there. */
enum code file_read(const char *path, size_t max, struct buf *ret, struct status *st) MUST_CHECK;
/* Writes beside the target, fsyncs, renames over it and fsyncs the directory. */
enum code file_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                            struct status *st) MUST_CHECK;
/* The same without waiting for the disk: after a crash of the host it may hold neither. For caches. */
enum code file_replace(const char *path, const void *data, size_t len, mode_t mode,
                       struct status *st) MUST_CHECK;
/* mkdir -p with mode for what it makes. */
enum code dir_make(const char *path, mode_t mode, struct status *st) MUST_CHECK;
enum code dir_fsync(const char *path, struct status *st) MUST_CHECK;
/* Writes or reads exactly len bytes on a blocking descriptor; UNAVAILABLE on EOF. */
enum code fd_write_all(int fd, const void *data, size_t len, struct status *st) MUST_CHECK;
enum code fd_read_all(int fd, void *data, size_t len, struct status *st) MUST_CHECK;

#endif
