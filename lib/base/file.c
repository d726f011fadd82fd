/* Whole-file reading and crash-safe writing. Blocking; never called on a loop's thread while it serves. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/id.h"

static enum code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
        return CODE_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return CODE_PERMISSION_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
        return CODE_RESOURCE_EXHAUSTED;
    default:
        return CODE_INTERNAL;
    }
}

static enum code read_to_end(int fd, const char *path, size_t max, struct buf *ret, struct status *st)
{
    char chunk[8192];
    size_t total = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return status_errno(st, code_of_errno(errno), errno, "cannot read %s", path);
        if (n == 0)
            return CODE_OK;
        total += (size_t)n;
        if (total > max || !buf_append(ret, chunk, (size_t)n))
            return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s is larger than %zu bytes", path, max);
    }
}

enum code file_read(const char *path, size_t max, struct buf *ret, struct status *st)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return status_errno(st, code_of_errno(errno), errno, "cannot open %s", path);
    /* The caller asked for up to max bytes: its buffer's default limit must not be the smaller one. */
    if (ret->limit == 0 && ret->len + max > BUF_DEFAULT_LIMIT)
        ret->limit = ret->len + max;
    size_t before = ret->len;
    enum code code = read_to_end(fd, path, max, ret, st);
    if (code != CODE_OK && ret->data) {
        ret->len = before;
        ret->data[before] = 0;
    }
    return code;
}

enum code fd_write_all(int fd, const void *data, size_t len, struct status *st)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            enum code code = errno == EPIPE || errno == ECONNRESET ? CODE_UNAVAILABLE : code_of_errno(errno);
            return status_errno(st, code, errno, "cannot write %zu bytes", len);
        }
        at += n;
        len -= (size_t)n;
    }
    return CODE_OK;
}

enum code fd_read_all(int fd, void *data, size_t len, struct status *st)
{
    uint8_t *at = data;
    while (len > 0) {
        ssize_t n = read(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            enum code code = errno == ECONNRESET ? CODE_UNAVAILABLE : code_of_errno(errno);
            return status_errno(st, code, errno, "cannot read %zu bytes", len);
        }
        if (n == 0)
            return status_set(st, CODE_UNAVAILABLE, "end of input with %zu bytes missing", len);
        at += n;
        len -= (size_t)n;
    }
    return CODE_OK;
}

static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (!dir)
        abort();
    return dir;
}

enum code dir_fsync(const char *path, struct status *st)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return status_errno(st, code_of_errno(errno), errno, "cannot open directory %s", path);
    if (fsync(fd) != 0)
        return status_errno(st, code_of_errno(errno), errno, "cannot fsync directory %s", path);
    return CODE_OK;
}

static enum code write_beside(int fd, const char *temp, const void *data, size_t len, mode_t mode, bool sync,
                              struct status *st)
{
    /* fchmod, because the umask cut what open was asked for. */
    if (fchmod(fd, mode) != 0)
        return status_errno(st, code_of_errno(errno), errno, "cannot set the mode of %s", temp);
    enum code code = fd_write_all(fd, data, len, st);
    if (code != CODE_OK)
        return status_wrap(st, "%s", temp);
    if (sync && fsync(fd) != 0)
        return status_errno(st, code_of_errno(errno), errno, "cannot fsync %s", temp);
    return CODE_OK;
}

static enum code put_in_place(const char *path, const void *data, size_t len, mode_t mode, bool sync,
                              struct status *st)
{
    uint8_t suffix[6];
    char suffix_hex[13];
    random_bytes(suffix, sizeof(suffix));
    hex_encode(suffix, sizeof(suffix), suffix_hex);
    AUTO_FREE char *temp = NULL;
    if (asprintf(&temp, "%s.%s.tmp", path, suffix_hex) < 0)
        abort();
    AUTO_CLOSE int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return status_errno(st, code_of_errno(errno), errno, "cannot create %s", temp);
    enum code code = write_beside(fd, temp, data, len, mode, sync, st);
    if (code == CODE_OK && rename(temp, path) != 0)
        code = status_errno(st, code_of_errno(errno), errno, "cannot rename %s to %s", temp, path);
    if (code != CODE_OK) {
        (void)unlink(temp);
        return code;
    }
    AUTO_FREE char *dir = parent_of(path);
    return sync ? dir_fsync(dir, st) : CODE_OK;
}

enum code file_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct status *st)
{
    return put_in_place(path, data, len, mode, true, st);
}

enum code file_replace(const char *path, const void *data, size_t len, mode_t mode, struct status *st)
{
    return put_in_place(path, data, len, mode, false, st);
}

enum code dir_make(const char *path, mode_t mode, struct status *st)
{
    AUTO_FREE char *part = strdup(path);
    if (!part)
        abort();
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != 0)
            continue;
        char c = *at;
        *at = 0;
        if (mkdir(part, mode) != 0 && errno != EEXIST)
            return status_errno(st, code_of_errno(errno), errno, "cannot make directory %s", part);
        *at = c;
        if (!c)
            break;
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return status_set(st, CODE_FAILED_PRECONDITION, "%s is not a directory", path);
    return CODE_OK;
}
