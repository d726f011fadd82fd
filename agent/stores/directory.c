/*
 * A directory that holds a target's files and nothing else, exchanged with a staged one beside it in one
 * system call: whoever opens files in it finds the old set or the new one, whenever the agent or the machine
 * stops. A staged name is "<directory>/<file>", the directory lying beside the target's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "stores/place.h"

#define PATH_SIZE 4096
#define PART      ".part" /* a file on its way into the staged directory */

struct paths {
    char dir[PATH_SIZE];         /* the target's directory */
    char staged_dir[PATH_SIZE];  /* the one beside it */
    char staged_file[PATH_SIZE]; /* in the latter */
};

static enum code resolve(const char *path, const char *staged, struct paths *ret, struct status *st)
{
    const char *base = strrchr(path, '/'), *part = strchr(staged, '/');
    const char *above = base && base > path ? memrchr(path, '/', (size_t)(base - path)) : NULL;
    if (!above || !part)
        return status_set(st, CODE_INVALID_ARGUMENT, "%.150s is not in a directory of its own", path);
    int n = snprintf(ret->dir, PATH_SIZE, "%.*s", (int)(base - path), path);
    int m = snprintf(ret->staged_dir, PATH_SIZE, "%.*s/%.*s", (int)(above - path), path, (int)(part - staged),
                     staged);
    int k = snprintf(ret->staged_file, PATH_SIZE, "%.*s/%s", (int)(above - path), path, staged);
    if (n >= PATH_SIZE || m >= PATH_SIZE || k >= PATH_SIZE)
        return status_set(st, CODE_INVALID_ARGUMENT, "%.150s is too long", path);
    return CODE_OK;
}

static enum code open_directory(const char *path, int *ret, struct status *st)
{
    AUTO_CLOSE int parent = -1;
    const char *base;
    TRY(store_open_parent(path, &parent, &base, st));
    int fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return status_errno(st, errno == ENOENT ? CODE_NOT_FOUND : CODE_PERMISSION_DENIED, errno,
                            "cannot open the directory %s", path);
    *ret = fd;
    return CODE_OK;
}

static bool is_one_of(const struct policy_target *target, const char *dir, const char *name)
{
    const char *const files[] = {target->certificate, target->key, target->chain};
    size_t len = strlen(dir);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (files[i] && strncmp(files[i], dir, len) == 0 && files[i][len] == '/' &&
            strcmp(files[i] + len + 1, name) == 0)
            return true;
    }
    return false;
}

/* What else is in it would be gone. listed: where what was at path is now. */
static enum code check_contents(const struct policy_target *target, const char *path, const char *listed,
                                struct status *st)
{
    int fd = -1;
    TRY(open_directory(listed, &fd, st));
    DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return status_errno(st, CODE_INTERNAL, errno, "cannot list %s", listed);
    }
    enum code code = CODE_OK;
    for (struct dirent *entry; code == CODE_OK && (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !is_one_of(target, path, entry->d_name))
            code = status_set(
                st, CODE_FAILED_PRECONDITION,
                "%.120s holds %.60s too: with swap = directory it must hold this target's files only", path,
                entry->d_name);
    }
    (void)closedir(dir);
    return code;
}

static enum code directory_check(const struct place_at *at, struct status *st)
{
    struct paths paths;
    TRY(resolve(at->target->certificate, "x/x", &paths, st));
    return check_contents(at->target, paths.dir, paths.dir, st);
}

static enum code directory_read(const struct place_at *at UNUSED, const char *path, struct secret **ret,
                                struct store_meta *meta, struct status *st)
{
    return store_read(path, ret, meta, st);
}

static enum code directory_read_staged(const struct place_at *at UNUSED, const char *path, const char *staged,
                                       struct secret **ret, struct status *st)
{
    struct paths paths;
    struct status why;
    TRY(resolve(path, staged, &paths, st));
    enum code code = store_read(paths.staged_file, ret, NULL, &why);
    if (code == CODE_NOT_FOUND) { /* not even the directory */
        *ret = NULL;
        return CODE_OK;
    }
    return code == CODE_OK ? CODE_OK : status_set(st, code, "%s", why.msg);
}

/* Owner, mode and label of the directory in place. */
static enum code make_alike(const char *like, const char *path, struct status *st)
{
    AUTO_CLOSE int from = -1, to = -1;
    struct stat want, have;
    TRY(open_directory(like, &from, st));
    TRY(open_directory(path, &to, st));
    if (fstat(from, &want) != 0 || fstat(to, &have) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot stat %s", path);
    if ((want.st_uid != have.st_uid || want.st_gid != have.st_gid) &&
        fchown(to, want.st_uid, want.st_gid) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot keep the owner of %s", like);
    if (fchmod(to, want.st_mode & 07777) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot keep the mode of %s", like);
    TRY(store_copy_labels(from, to, like, st));
    if (fsync(to) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fsync %s", path);
    return CODE_OK;
}

static enum code directory_stage(const struct place_at *at UNUSED, const char *path, const char *staged,
                                 struct bytes content, const struct store_meta *meta, struct status *st)
{
    AUTO_CLOSE int parent = -1;
    const char *base;
    struct paths paths;
    TRY(resolve(path, staged, &paths, st));
    TRY(store_open_parent(paths.staged_dir, &parent, &base, st));
    if (mkdirat(parent, base, 0700) != 0 && errno != EEXIST)
        return status_errno(
            st, errno == ENOSPC || errno == EDQUOT ? CODE_RESOURCE_EXHAUSTED : CODE_PERMISSION_DENIED, errno,
            "cannot make %s", paths.staged_dir);
    TRY(store_stage(paths.staged_file, PART, content, meta, path, st));
    AUTO_CLOSE int dir = -1;
    TRY(open_directory(paths.staged_dir, &dir, st));
    if (renameat(dir, PART, dir, strrchr(paths.staged_file, '/') + 1) != 0 || fsync(dir) != 0 ||
        fsync(parent) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot stage %s", paths.staged_file);
    return CODE_OK;
}

/* What was taken out must be what was meant to be. */
static enum code check_taken_out(const struct store_move *moves, size_t n, struct status *st)
{
    for (size_t i = 0; i < n; i++) {
        char taken[SHA256_HEX_SIZE] = "";
        struct paths paths;
        TRY(resolve(moves[i].path, moves[i].staged, &paths, st));
        if (store_digest(paths.staged_file, NULL, taken, st) != CODE_OK ||
            strcmp(taken, moves[i].old_sha) != 0)
            return status_set(st, CODE_ABORTED, "%.150s was changed by somebody else meanwhile",
                              moves[i].path);
    }
    return CODE_OK;
}

static enum code directory_remove(const struct place_at *at, const char *path, const char *staged,
                                  struct status *st);

static enum code directory_swap(const struct place_at *at, const struct store_move *moves, size_t n,
                                struct status *st)
{
    AUTO_CLOSE int parent = -1;
    const char *base;
    struct paths paths;
    TRY(resolve(moves[0].path, moves[0].staged, &paths, st));
    TRY(check_contents(at->target, paths.dir, paths.dir, st));
    TRY(make_alike(paths.dir, paths.staged_dir, st));
    TRY(store_open_parent(paths.dir, &parent, &base, st));
    const char *staged_base = strrchr(paths.staged_dir, '/') + 1;
    if (renameat2(parent, staged_base, parent, base, RENAME_EXCHANGE) != 0)
        return status_errno(
            st, errno == ENOSPC || errno == EDQUOT ? CODE_RESOURCE_EXHAUSTED : CODE_FAILED_PRECONDITION,
            errno, "cannot exchange %.100s and %.100s", staged_base, paths.dir);
    enum code code = check_taken_out(moves, n, st);
    if (code == CODE_OK)
        code = check_contents(at->target, paths.dir, paths.staged_dir, st);
    if (code != CODE_OK)
        (void)renameat2(parent, staged_base, parent, base, RENAME_EXCHANGE);
    if (fsync(parent) != 0 && code == CODE_OK)
        code =
            status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fsync the directory of %s", paths.dir);
    TRY(code);
    for (size_t i = 0; i < n; i++)
        (void)!directory_remove(at, moves[i].path, moves[i].staged, NULL);
    return CODE_OK;
}

static enum code directory_remove(const struct place_at *at UNUSED, const char *path, const char *staged,
                                  struct status *st)
{
    AUTO_CLOSE int parent = -1;
    const char *base;
    struct paths paths;
    struct status why;
    if (!staged)
        return store_remove(path, NULL, st);
    TRY(resolve(path, staged, &paths, st));
    enum code code = store_remove(paths.staged_file, NULL, &why);
    if (code == CODE_NOT_FOUND)
        return CODE_OK;
    if (code == CODE_OK)
        code = store_remove(paths.staged_file, PART, &why);
    if (code != CODE_OK)
        return status_set(st, code, "%s", why.msg);
    TRY(store_open_parent(paths.staged_dir, &parent, &base, st));
    if (unlinkat(parent, base, AT_REMOVEDIR) != 0 && errno != ENOTEMPTY && errno != ENOENT)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot remove %s", paths.staged_dir);
    return CODE_OK;
}

const struct place directory_place = {
    .name = "directory",
    .whole = true,
    .check = directory_check,
    .read = directory_read,
    .read_staged = directory_read_staged,
    .stage = directory_stage,
    .swap = directory_swap,
    .remove = directory_remove,
};
