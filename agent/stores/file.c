/* Files on descriptors: see file.h. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/file.h"
#include "stores/file.h"

static int open_beneath(int dir, const char *path, int flags, mode_t mode, unsigned long long resolve)
{
    struct open_how how = {
        .flags = (unsigned long long)(unsigned)flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    long fd;
    do {
        fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)fd;
}

static enum code open_error(const char *path, int errnum, struct status *st)
{
    switch (errnum) {
    case ELOOP:
    case EXDEV:
        return status_set(st, CODE_PERMISSION_DENIED,
                          "%s is or passes a symbolic link: write the real path into the local policy", path);
    case ENOENT:
    case ENOTDIR:
        return status_errno(st, CODE_NOT_FOUND, errnum, "cannot open %s", path);
    case ENOSPC:
    case EDQUOT:
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errnum, "cannot write %s", path);
    case ENOSYS:
        return status_errno(st, CODE_UNIMPLEMENTED, errnum, "openat2 (Linux 5.6) is needed to open %s", path);
    default:
        return status_errno(st, CODE_PERMISSION_DENIED, errnum, "cannot open %s", path);
    }
}

enum code store_open_parent(const char *path, int *ret_dir, const char **ret_base, struct status *st)
{
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || !slash[1] || strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "\"%.120s\" is not the absolute path of a file", path);
    AUTO_FREE char *dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!dir)
        abort();
    int fd =
        open_beneath(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
    if (fd < 0)
        return open_error(dir, errno, st);
    *ret_dir = fd;
    *ret_base = slash + 1;
    return CODE_OK;
}

#define RESOLVE_STRICT (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

static enum code check_regular(const char *path, const struct stat *info, struct status *st)
{
    if (!S_ISREG(info->st_mode))
        return status_set(st, CODE_PERMISSION_DENIED, "%s is not a regular file", path);
    if (info->st_nlink != 1)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "%s has %lu hard links: a certificate's file must have one", path,
                          (unsigned long)info->st_nlink);
    return CODE_OK;
}

/* NOT_FOUND if it is not there. Looks before it opens: opening a device or a FIFO can have effects of its
 * own. */
static enum code open_regular(int dir, const char *base, const char *path, int *ret, struct stat *info,
                              struct status *st)
{
    AUTO_CLOSE int look =
        open_beneath(dir, base, O_PATH | O_NOFOLLOW, 0, RESOLVE_STRICT & ~RESOLVE_NO_SYMLINKS);
    if (look < 0)
        return open_error(path, errno, st);
    if (fstat(look, info) != 0)
        return open_error(path, errno, st);
    if (S_ISLNK(info->st_mode))
        return open_error(path, ELOOP, st);
    TRY(check_regular(path, info, st));
    AUTO_CLOSE int fd =
        open_beneath(dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, RESOLVE_STRICT);
    if (fd < 0 || fstat(fd, info) != 0)
        return open_error(path, errno, st);
    TRY(check_regular(path, info, st));
    *ret = fd;
    fd = -1;
    return CODE_OK;
}

static enum code read_whole(int fd, const char *path, const struct stat *info, struct secret **ret,
                            struct status *st)
{
    if (info->st_size > STORE_FILE_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "%s is larger than %d bytes", path, STORE_FILE_MAX);
    AUTO_SECRET struct secret *content = secret_new((size_t)info->st_size);
    if (fd_read_all(fd, content->data, content->len, st) != CODE_OK)
        return status_wrap(st, "reading %s", path);
    *ret = TAKE(content);
    return CODE_OK;
}

static enum code read_at(int dir, const char *base, const char *path, struct secret **ret,
                         struct store_meta *meta, struct status *st)
{
    AUTO_CLOSE int fd = -1;
    struct stat info;
    enum code code = open_regular(dir, base, path, &fd, &info, st);
    *ret = NULL;
    if (code == CODE_NOT_FOUND) {
        if (meta)
            meta->exists = false;
        return CODE_OK;
    }
    TRY(code);
    if (meta)
        *meta = (struct store_meta){true, info.st_uid, info.st_gid, info.st_mode & 07777};
    return read_whole(fd, path, &info, ret, st);
}

enum code store_read(const char *path, struct secret **ret, struct store_meta *meta, struct status *st)
{
    AUTO_CLOSE int dir = -1;
    const char *base;
    TRY(store_open_parent(path, &dir, &base, st));
    return read_at(dir, base, path, ret, meta, st);
}

enum code store_read_staged(const char *path, const char *name, struct secret **ret, struct status *st)
{
    AUTO_CLOSE int dir = -1;
    const char *base;
    TRY(store_open_parent(path, &dir, &base, st));
    return read_at(dir, name, name, ret, NULL, st);
}

enum code store_digest(const char *path, const char *name, char ret_hex[SHA256_HEX_SIZE], struct status *st)
{
    AUTO_SECRET struct secret *content = NULL;
    ret_hex[0] = 0;
    TRY(name ? store_read_staged(path, name, &content, st) : store_read(path, &content, NULL, st));
    if (content)
        sha256_hex((struct bytes){content->data, content->len}, ret_hex);
    return CODE_OK;
}

enum code store_copy_labels(int from, int to, const char *path, struct status *st)
{
    static const char *const names[] = {"security.selinux", "system.posix_acl_access",
                                        "system.posix_acl_default"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char value[4096];
        ssize_t n = fgetxattr(from, names[i], value, sizeof(value));
        if (n > 0 && fsetxattr(to, names[i], value, (size_t)n, 0) != 0)
            return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot keep the attribute %s of %s",
                                names[i], path);
    }
    return CODE_OK;
}

static enum code label_like(const char *like, int to, struct status *st)
{
    AUTO_CLOSE int dir = -1, from = -1;
    const char *base;
    struct stat info;
    TRY(store_open_parent(like, &dir, &base, st));
    enum code code = open_regular(dir, base, like, &from, &info, st);
    if (code == CODE_NOT_FOUND)
        return CODE_OK;
    TRY(code);
    return store_copy_labels(from, to, like, st);
}

static enum code fill(int fd, const char *path, struct bytes content, const struct store_meta *meta,
                      const char *like, struct status *st)
{
    struct stat info;
    TRY(fd_write_all(fd, content.data, content.len, st));
    if (fstat(fd, &info) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot stat");
    if (meta->exists && (info.st_uid != meta->uid || info.st_gid != meta->gid) &&
        fchown(fd, meta->uid, meta->gid) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot keep the owner of %s", path);
    if (fchmod(fd, meta->mode) != 0)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot set the mode of the new %s", path);
    /* After the mode: an ACL's mask is the group's bits. */
    TRY(label_like(like, fd, st));
    if (fsync(fd) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fsync the new %s", path);
    return CODE_OK;
}

enum code store_stage(const char *path, const char *name, struct bytes content, const struct store_meta *meta,
                      const char *like, struct status *st)
{
    AUTO_CLOSE int dir = -1;
    const char *base;
    TRY(store_open_parent(path, &dir, &base, st));
    if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot remove %s beside %s", name, path);
    AUTO_CLOSE int fd =
        open_beneath(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, RESOLVE_STRICT);
    if (fd < 0) {
        open_error(name, errno, st);
        return status_wrap(st, "staging beside %s", path);
    }
    enum code code = fill(fd, path, content, meta, like ? like : path, st);
    if (code == CODE_OK && fsync(dir) != 0)
        code = status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fsync the directory of %s", path);
    if (code != CODE_OK) {
        (void)unlinkat(dir, name, 0);
        return status_wrap(st, "staging beside %s", path);
    }
    return CODE_OK;
}

/* --- swapping --------------------------------------------------------------------------------------------
 */

#define MOVES_MAX 4

enum moved { MOVED_NOT, MOVED_IN, MOVED_OVER, EXCHANGED };

struct moving {
    const struct store_move *move;
    int dir;
    const char *base;
    enum moved moved;
};

struct moves {
    struct moving item[MOVES_MAX];
    size_t n;
};

static void moves_done(struct moves *moves)
{
    for (size_t i = 0; i < moves->n; i++) {
        if (moves->item[i].dir >= 0)
            (void)close(moves->item[i].dir);
    }
}

static void move_back(struct moves *moves)
{
    for (size_t i = moves->n; i > 0; i--) {
        struct moving *m = &moves->item[i - 1];
        if (m->moved == EXCHANGED)
            (void)renameat2(m->dir, m->move->staged, m->dir, m->base, RENAME_EXCHANGE);
        else if (m->moved == MOVED_IN)
            (void)renameat2(m->dir, m->base, m->dir, m->move->staged, RENAME_NOREPLACE);
        m->moved = MOVED_NOT;
    }
}

/* Nothing but the system call: between two of these a server can start. */
static enum code move_one(struct moving *m, struct status *st)
{
    bool replaces = m->move->old_sha[0] != 0;
    unsigned flags = replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    m->moved = replaces ? EXCHANGED : MOVED_IN;
    if (renameat2(m->dir, m->move->staged, m->dir, m->base, flags) == 0)
        return CODE_OK;
    if (errno == EEXIST || (errno == ENOENT && replaces)) {
        m->moved = MOVED_NOT;
        return status_set(st, CODE_ABORTED, "%.150s was changed by somebody else meanwhile", m->move->path);
    }
    /* File systems without it (some network ones) have the plain call. */
    m->moved = MOVED_OVER;
    if ((errno == EINVAL || errno == ENOSYS) && renameat(m->dir, m->move->staged, m->dir, m->base) == 0)
        return CODE_OK;
    m->moved = MOVED_NOT;
    return status_errno(
        st, errno == ENOSPC || errno == EDQUOT ? CODE_RESOURCE_EXHAUSTED : CODE_FAILED_PRECONDITION, errno,
        "cannot rename %s over %s", m->move->staged, m->move->path);
}

static enum code check_taken_out(const struct moving *m, struct status *st)
{
    char taken[SHA256_HEX_SIZE];
    if (m->moved == EXCHANGED && store_digest(m->move->path, m->move->staged, taken, st) == CODE_OK &&
        strcmp(taken, m->move->old_sha) == 0)
        return CODE_OK;
    if (m->moved != EXCHANGED)
        return CODE_OK;
    return status_set(st, CODE_ABORTED, "%.150s was changed by somebody else meanwhile", m->move->path);
}

static enum code move_all(struct moves *moves, struct status *st)
{
    for (size_t i = 0; i < moves->n; i++)
        TRY(move_one(&moves->item[i], st));
    for (size_t i = 0; i < moves->n; i++)
        TRY(check_taken_out(&moves->item[i], st));
    return CODE_OK;
}

enum code store_swap(const struct store_move *moves, size_t n, struct status *st)
{
    CLEANUP(moves_done) struct moves all = {0};
    assert(n <= MOVES_MAX);
    for (size_t i = 0; i < n; i++) {
        struct moving *m = &all.item[all.n++];
        *m = (struct moving){.move = &moves[i], .dir = -1};
        TRY(store_open_parent(moves[i].path, &m->dir, &m->base, st));
    }
    enum code code = move_all(&all, st);
    if (code != CODE_OK)
        move_back(&all);
    for (size_t i = 0; i < n; i++) {
        if (fsync(all.item[i].dir) != 0 && code == CODE_OK)
            code = status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fsync the directory of %s",
                                moves[i].path);
    }
    /* What was taken out, or did not get in: by descriptor, since somebody may have moved the directory away.
     */
    for (size_t i = 0; i < n; i++) {
        if (code != CODE_OK || all.item[i].moved == EXCHANGED)
            (void)unlinkat(all.item[i].dir, moves[i].staged, 0);
    }
    return code;
}

enum code store_remove(const char *path, const char *name, struct status *st)
{
    AUTO_CLOSE int dir = -1;
    const char *base;
    TRY(store_open_parent(path, &dir, &base, st));
    if (unlinkat(dir, name ? name : base, 0) != 0 && errno != ENOENT)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot remove %s", name ? name : path);
    if (fsync(dir) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot fsync the directory of %s", path);
    return CODE_OK;
}

/* --- backups: in the agent's own directory ------------------------------------------------------------- */

static char *backup_path(const char *state_dir, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/backup%s%s", state_dir, name ? "/" : "", name ? name : "") < 0)
        abort();
    return path;
}

/* Always under the same name, so that whoever writes or removes a backup meets what a write that was cut off
 * has left. */
#define PART ".part"

static enum code write_backup(const char *path, const char *part, const struct secret *content,
                              struct status *st)
{
    (void)unlink(part);
    AUTO_CLOSE int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return open_error(part, errno, st);
    enum code code = fd_write_all(fd, content->data, content->len, st);
    if (code == CODE_OK && fsync(fd) != 0)
        code = open_error(part, errno, st);
    if (code == CODE_OK && rename(part, path) != 0)
        code = open_error(path, errno, st);
    if (code != CODE_OK)
        (void)unlink(part);
    return code;
}

enum code store_backup(const char *state_dir, const char *name, const struct secret *content,
                       struct status *st)
{
    AUTO_FREE char *dir = backup_path(state_dir, NULL);
    AUTO_FREE char *path = backup_path(state_dir, name);
    AUTO_FREE char *part = NULL;
    if (asprintf(&part, "%s" PART, path) < 0)
        abort();
    TRY(dir_make(dir, 0700, st));
    enum code code = write_backup(path, part, content, st);
    if (code == CODE_OK)
        code = dir_fsync(dir, st);
    return code == CODE_OK ? CODE_OK : status_wrap(st, "backing up");
}

enum code store_read_backup(const char *state_dir, const char *name, struct secret **ret, struct status *st)
{
    AUTO_FREE char *path = backup_path(state_dir, name);
    return secret_read_file(path, STORE_FILE_MAX, false, ret, st);
}

enum code store_remove_backup(const char *state_dir, const char *name, struct status *st)
{
    AUTO_FREE char *dir = backup_path(state_dir, NULL);
    AUTO_FREE char *path = backup_path(state_dir, name);
    AUTO_FREE char *part = NULL;
    if (asprintf(&part, "%s" PART, path) < 0)
        abort();
    bool part_removed = unlink(part) == 0, removed = unlink(path) == 0;
    if (!removed && errno != ENOENT)
        return status_errno(st, CODE_PERMISSION_DENIED, errno, "cannot remove %s", path);
    return part_removed || removed ? dir_fsync(dir, st) : CODE_OK;
}

/* With or without PART behind it. */
static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix), part = strlen(PART);
    if (n >= part && strcmp(name + n - part, PART) == 0)
        n -= part;
    return n >= m && strncmp(name + n - m, suffix, m) == 0;
}

void store_prune_backups(const char *state_dir, const char *suffix, const char *keep_prefix,
                         int64_t max_age_ms)
{
    AUTO_FREE char *path = backup_path(state_dir, NULL);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat info;
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, keep_prefix, strlen(keep_prefix)) == 0 ||
            fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        int64_t age_ms = clock_wall_ms() - (int64_t)info.st_mtim.tv_sec * 1000;
        if (ends_in(entry->d_name, suffix) || age_ms > max_age_ms)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir)
        (void)closedir(dir);
}
