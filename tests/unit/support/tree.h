/* Directories with all that is in them. */
#ifndef CLM_TESTS_SUPPORT_TREE_H
#define CLM_TESTS_SUPPORT_TREE_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static inline int tree_remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Best effort; does not follow links. */
static inline void tree_remove(const char *dir)
{
    (void)nftw(dir, tree_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void tree_copy_file(const char *from, const char *to, const struct stat *info)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, info->st_mode & 0777);
    size_t size = (size_t)info->st_size;
    if (in < 0 || out < 0 || sendfile(out, in, NULL, size) != (ssize_t)size ||
        fchmod(out, info->st_mode & 0777) != 0)
        abort();
    (void)close(in);
    (void)close(out);
}

/* Files and directories with their modes; `to` must not be there. */
static inline void tree_copy(const char *from, const char *to) // NOLINT(misc-no-recursion)
{
    struct stat info;
    DIR *entries = opendir(from);
    if (!entries || stat(from, &info) != 0 || mkdir(to, 0700) != 0 || chmod(to, info.st_mode & 0777) != 0)
        abort();
    for (const struct dirent *entry; (entry = readdir(entries));) {
        char source[PATH_MAX], copy[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(source, PATH_MAX, "%s/%s", from, entry->d_name) >= PATH_MAX ||
            snprintf(copy, PATH_MAX, "%s/%s", to, entry->d_name) >= PATH_MAX || lstat(source, &info) != 0)
            abort();
        if (S_ISDIR(info.st_mode))
            tree_copy(source, copy);
        else
            tree_copy_file(source, copy, &info);
    }
    (void)closedir(entries);
}

#endif
