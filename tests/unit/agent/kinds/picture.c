/*
 * See picture.h. The disk is a directory "disk": f<inode>-<birth> is a file as it was at its last fsync,
 * d<inode>-<birth> a directory: hard links to such files, and symbolic links to such directories.
 */
#include "picture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "pki/digest.h"
#include "support/tree.h"

#define PATH_SIZE 512

static const char *const roots[] = {"web", "state", "api/secret.json"};

const char *picture_name(enum picture picture)
{
    static const char *const names[] = {[PICTURE_KILLED] = "killed",
                                        [PICTURE_LOST] = "without power",
                                        [PICTURE_LOST_DATA] = "without power, names kept"};
    return names[picture];
}

static void join(char out[PATH_SIZE], const char *a, const char *b)
{
    assert_true(snprintf(out, PATH_SIZE, "%s/%s", a, b) < PATH_SIZE);
}

/* Into the same inode, if there is one. */
static void copy_file(const char *from, const char *to, mode_t mode)
{
    AUTO_BUF struct buf content = {0};
    struct status st;
    AUTO_CLOSE int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(file_read(from, 1024 * 1024, &content, &st), CODE_OK);
    if (content.len)
        assert_int_equal(fd_write_all(fd, content.data, content.len, &st), CODE_OK);
    assert_int_equal(fchmod(fd, mode), 0);
}

struct list {
    char name[64][128];
    size_t n;
};

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void list(const char *path, struct list *ret)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    ret->n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        assert_true(ret->n < ARRAY_LEN(ret->name));
        (void)snprintf(ret->name[ret->n++], sizeof(ret->name[0]), "%.127s", entry->d_name);
    }
    (void)closedir(dir);
    qsort(ret->name, ret->n, sizeof(ret->name[0]), compare);
}

/* --- the disk ------------------------------------------------------------------------------------------ */

/* With its birth: the inode of what was removed may be another's soon, while its name is still on the disk.
 */
static void disk_path(struct host *host, const char *path, char out[PATH_SIZE])
{
    struct statx info;
    assert_int_equal(statx(AT_FDCWD, path, 0, STATX_TYPE | STATX_INO | STATX_BTIME, &info), 0);
    long long born =
        info.stx_mask & STATX_BTIME ? info.stx_btime.tv_sec * 1000000000LL + info.stx_btime.tv_nsec : 0;
    assert_true(snprintf(out, PATH_SIZE, "%s/disk/%c%llu-%lld", host->dir, S_ISDIR(info.stx_mode) ? 'd' : 'f',
                         (unsigned long long)info.stx_ino, born) < PATH_SIZE);
}

static bool ours(struct host *host, const char *path)
{
    size_t len = strlen(host->dir);
    if (strncmp(path, host->dir, len) != 0 || path[len] != '/')
        return false;
    return strncmp(path + len + 1, "web", 3) == 0 || strncmp(path + len + 1, "state", 5) == 0;
}

static void forget(struct host *host, const char *path, const struct stat *info)
{
    char disk[PATH_SIZE];
    disk_path(host, path, disk);
    tree_remove(disk);
    if (S_ISDIR(info->st_mode)) {
        assert_int_equal(mkdir(disk, info->st_mode & 07777), 0);
        return;
    }
    AUTO_CLOSE int fd = open(disk, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, info->st_mode & 07777);
    assert_true(fd >= 0);
}

void disk_made(struct host *host, const char *path)
{
    struct stat info;
    /* A descriptor of what was there before: nothing is new about it. */
    if (ours(host, path) && lstat(path, &info) == 0 && (S_ISDIR(info.st_mode) || info.st_size == 0))
        forget(host, path, &info);
}

static void names_synced(struct host *host, const char *path, const char *disk)
{
    struct list names;
    list(path, &names);
    for (size_t i = 0; i < names.n; i++) {
        char child[PATH_SIZE], on_disk[PATH_SIZE], name[PATH_SIZE];
        struct stat info;
        join(child, path, names.name[i]);
        join(name, disk, names.name[i]);
        assert_int_equal(lstat(child, &info), 0);
        disk_path(host, child, on_disk);
        if (access(on_disk, F_OK) != 0)
            forget(host, child, &info);
        if (S_ISDIR(info.st_mode))
            assert_int_equal(symlink(on_disk, name), 0);
        else
            assert_int_equal(link(on_disk, name), 0);
    }
}

void disk_synced(struct host *host, const char *path)
{
    char disk[PATH_SIZE];
    struct stat info;
    if ((!ours(host, path) && strcmp(path, host->dir) != 0) || lstat(path, &info) != 0)
        return;
    disk_path(host, path, disk);
    if (S_ISREG(info.st_mode)) {
        copy_file(path, disk, info.st_mode & 07777);
        return;
    }
    tree_remove(disk);
    assert_int_equal(mkdir(disk, info.st_mode & 07777), 0);
    if (strcmp(path, host->dir) != 0) {
        names_synced(host, path, disk);
        return;
    }
    /* Of the host's directory only what a picture has. */
    for (size_t i = 0; i < 2; i++) {
        char child[PATH_SIZE], on_disk[PATH_SIZE], name[PATH_SIZE];
        join(child, path, roots[i]);
        join(name, disk, roots[i]);
        if (lstat(child, &info) != 0)
            continue;
        disk_path(host, child, on_disk);
        if (access(on_disk, F_OK) != 0)
            forget(host, child, &info);
        assert_int_equal(symlink(on_disk, name), 0);
    }
}

static void sync_all(struct host *host, const char *path)
{
    struct list names;
    struct stat info;
    if (lstat(path, &info) != 0)
        return;
    if (S_ISDIR(info.st_mode)) {
        list(path, &names);
        for (size_t i = 0; i < names.n; i++) {
            char child[PATH_SIZE];
            join(child, path, names.name[i]);
            sync_all(host, child);
        }
    }
    disk_synced(host, path);
}

void disk_begin(struct host *host)
{
    tree_remove(host_path(host, "disk"));
    assert_int_equal(mkdir(host_path(host, "disk"), 0700), 0);
    for (size_t i = 0; i < 2; i++)
        sync_all(host, host_path(host, roots[i]));
    disk_synced(host, host->dir);
}

/* --- pictures ------------------------------------------------------------------------------------------ */

#define PICTURES_MAX 512

/* What is made of a tree: its digest, or a copy. */
struct walk {
    struct host *host;
    bool disk;              /* contents of files are those on the disk */
    struct sha256_ctx *ctx; /* or: */
    const char *to;
};

static void hash_head(struct sha256_ctx *ctx, const char *name, mode_t mode)
{
    char head[PATH_SIZE];
    int len = snprintf(head, sizeof(head), "%s %o\n", name, mode);
    sha256_ctx_add(ctx, (struct bytes){(const uint8_t *)head, (size_t)len});
}

static void walk_file(const struct walk *walk, const char *from, const struct stat *info)
{
    char on_disk[PATH_SIZE];
    AUTO_BUF struct buf content = {0};
    struct status st;
    disk_path(walk->host, from, on_disk);
    if (walk->disk && access(on_disk, F_OK) != 0) /* another program's, on its way */
        forget(walk->host, from, info);
    if (walk->to) {
        copy_file(walk->disk ? on_disk : from, walk->to, info->st_mode & 07777);
        return;
    }
    assert_int_equal(file_read(walk->disk ? on_disk : from, 1024 * 1024, &content, &st), CODE_OK);
    sha256_ctx_add(walk->ctx, (struct bytes){content.data, content.len});
}

/* Symbolic links are the disk's, to directories. */
static void walk_tree(const struct walk *walk, const char *from, const char *name)
{
    struct list names;
    struct stat info;
    assert_int_equal(stat(from, &info), 0);
    if (walk->ctx)
        hash_head(walk->ctx, name, info.st_mode);
    if (S_ISREG(info.st_mode)) {
        walk_file(walk, from, &info);
        return;
    }
    if (walk->to)
        assert_int_equal(mkdir(walk->to, 0700), 0);
    list(from, &names);
    for (size_t i = 0; i < names.n; i++) {
        char child[PATH_SIZE], copy[PATH_SIZE] = "";
        struct walk below = *walk;
        join(child, from, names.name[i]);
        if (walk->to) {
            join(copy, walk->to, names.name[i]);
            below.to = copy;
        }
        walk_tree(&below, child, names.name[i]);
    }
    if (walk->ctx)
        hash_head(walk->ctx, "..", 0);
    if (walk->to)
        assert_int_equal(chmod(walk->to, info.st_mode & 07777), 0);
}

static const char *base_of(const char *root)
{
    const char *slash = strrchr(root, '/');
    return slash ? slash + 1 : root;
}

static void walk_roots(struct walk walk, enum picture picture, const char *to)
{
    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        char from[PATH_SIZE], copy[PATH_SIZE], disk[PATH_SIZE];
        struct stat info;
        bool own = i < 2; /* the API server's disk is its own affair */
        join(from, walk.host->dir, roots[i]);
        if (picture == PICTURE_LOST && own) {
            disk_path(walk.host, walk.host->dir, disk);
            join(from, disk, roots[i]);
        }
        if (to) {
            join(copy, to, base_of(roots[i]));
            walk.to = copy;
        }
        walk.disk = picture == PICTURE_LOST_DATA && own;
        if (stat(from, &info) == 0)
            walk_tree(&walk, from, roots[i]);
    }
}

static struct {
    uint8_t digest[SHA256_SIZE];
    enum picture kind;
} album[PICTURES_MAX];
static size_t n_pictures;

static void picture_path(const struct host *host, size_t i, char out[PATH_SIZE])
{
    assert_true(snprintf(out, PATH_SIZE, "%s/picture-%zu", host->dir, i) < PATH_SIZE);
}

void pictures_forget(struct host *host)
{
    char path[PATH_SIZE];
    for (; n_pictures > 0; n_pictures--) {
        picture_path(host, n_pictures - 1, path);
        tree_remove(path);
    }
}

size_t pictures_count(void)
{
    return n_pictures;
}

enum picture picture_kind(size_t i)
{
    return album[i].kind;
}

void picture_take(struct host *host, enum picture picture)
{
    char to[PATH_SIZE];
    uint8_t digest[SHA256_SIZE];
    struct sha256_ctx *ctx = sha256_ctx_new();
    walk_roots((struct walk){.host = host, .ctx = ctx}, picture, NULL);
    sha256_ctx_free(ctx, digest);
    for (size_t i = n_pictures; i-- > 0;) {
        if (memcmp(album[i].digest, digest, sizeof(digest)) == 0)
            return;
    }
    assert_true(n_pictures < PICTURES_MAX);
    picture_path(host, n_pictures, to);
    assert_int_equal(mkdir(to, 0700), 0);
    walk_roots((struct walk){.host = host}, picture, to);
    album[n_pictures].kind = picture;
    memcpy(album[n_pictures++].digest, digest, sizeof(digest));
}

void picture_restore(struct host *host, size_t i)
{
    char from[PATH_SIZE];
    picture_path(host, i, from);
    for (size_t k = 0; k < ARRAY_LEN(roots); k++) {
        char to[PATH_SIZE], copy[PATH_SIZE];
        struct walk walk = {.host = host, .to = to};
        join(to, host->dir, roots[k]);
        join(copy, from, base_of(roots[k]));
        if (k < 2)
            tree_remove(to);
        if (access(copy, F_OK) == 0)
            walk_tree(&walk, copy, roots[k]);
    }
}
