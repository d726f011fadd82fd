#include "temp_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64];

static void remove_all(void)
{
    DIR *handle = opendir(dir);
    for (struct dirent *entry; handle && (entry = readdir(handle));)
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(handle), entry->d_name, 0);
    if (handle)
        (void)closedir(handle);
    (void)rmdir(dir);
}

const char *temp_dir(void)
{
    if (dir[0])
        return dir;
    (void)snprintf(dir, sizeof(dir), "%s/clm-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        abort();
    }
    (void)atexit(remove_all);
    return dir;
}

const char *temp_file(const char *name, const void *data, size_t len)
{
    static char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", temp_dir(), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len) {
        perror(path);
        abort();
    }
    (void)close(fd);
    return path;
}
