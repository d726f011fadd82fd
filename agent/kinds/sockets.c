/* /proc/net/tcp and /proc/PID/fd: see sockets.h. */
#include "kinds/sockets.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define PROCESSES_MAX   65536
#define DESCRIPTORS_MAX 65536 /* of one process */
#define LISTEN_STATE    "0A"
#define NUMBER_SIZE     21 /* of an inode, in decimal */

struct table {
    struct arena *arena;
    struct listener *list;
    size_t n;
};

/* --- sockets ------------------------------------------------------------------------------------------ */

static bool read_hex(const char *text, size_t digits, uint32_t *ret)
{
    char copy[9] = "";
    if (digits > 8 || strspn(text, "0123456789ABCDEFabcdef") < digits)
        return false;
    memcpy(copy, text, digits);
    *ret = (uint32_t)strtoul(copy, NULL, 16);
    return true;
}

/* "0100007F:1F90" or the IPv6 form, as /proc/net prints them: 32-bit words in host order. */
static bool read_address(struct arena *arena, const char *local, bool v6, struct listener *ret)
{
    uint32_t words[4], port;
    size_t n = v6 ? 4 : 1;
    char text[INET6_ADDRSTRLEN];
    for (size_t i = 0; i < n; i++) {
        if (!read_hex(local + 8 * i, 8, &words[i]))
            return false;
    }
    if (local[8 * n] != ':' || !read_hex(local + 8 * n + 1, 4, &port) || port == 0 ||
        !inet_ntop(v6 ? AF_INET6 : AF_INET, words, text, sizeof(text)))
        return false;
    const char *host = strcmp(text, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(text, "::") == 0 ? "::1" : text;
    *ret = (struct listener){.host = arena_strdup(arena, host), .port = arena_printf(arena, "%u", port)};
    return true;
}

/* Servers listen on both families, or several times on one socket: one look is enough. */
static bool is_new(const struct table *table, const struct listener *listener)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct listener *other = &table->list[i];
        bool loopbacks = strcmp(listener->host, "::1") == 0 && strcmp(other->host, "127.0.0.1") == 0;
        if (strcmp(other->port, listener->port) == 0 &&
            (loopbacks || strcmp(other->host, listener->host) == 0))
            return false;
    }
    return true;
}

static void read_table(struct table *table, const char *path, bool v6)
{
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    char line[512], local[64], state[4], inode[NUMBER_SIZE];
    while (f && table->n < SOCKETS_MAX && fgets(line, sizeof(line), f)) {
        struct listener *listener = &table->list[table->n];
        if (sscanf(line, " %*[0-9]: %63s %*s %3s %*s %*s %*s %*s %*s %20[0-9]", local, state, inode) != 3 ||
            strcmp(state, LISTEN_STATE) != 0 || !read_address(table->arena, local, v6, listener))
            continue;
        listener->inode = strtoul(inode, NULL, 10);
        table->n += is_new(table, listener);
    }
}

/* --- their processes ---------------------------------------------------------------------------------- */

static const char *name_of(struct table *table, int process)
{
    AUTO_CLOSE int fd = openat(process, "comm", O_RDONLY | O_CLOEXEC);
    char name[64];
    ssize_t n = fd >= 0 ? read(fd, name, sizeof(name) - 1) : 0;
    if (n <= 0)
        return NULL;
    name[n] = 0;
    name[strcspn(name, "\n")] = 0;
    for (char *c = name; *c; c++) {
        if (*c < 0x20 || *c > 0x7e)
            *c = '?'; /* a process names itself */
    }
    return arena_strdup(table->arena, name);
}

/* The first process wins: a server's master has the socket before its workers. */
static void claim(struct table *table, unsigned long inode, int process, pid_t pid)
{
    for (size_t i = 0; i < table->n; i++) {
        struct listener *listener = &table->list[i];
        if (listener->inode != inode || (listener->pid && listener->pid <= pid))
            continue;
        listener->pid = pid;
        listener->process = name_of(table, process);
    }
}

static void read_process(struct table *table, int proc, const char *pid)
{
    AUTO_CLOSE int process = openat(proc, pid, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fds = process >= 0 ? openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *dir = fds >= 0 ? fdopendir(fds) : NULL;
    struct dirent *entry;
    unsigned left = DESCRIPTORS_MAX;
    while (dir && left-- > 0 && (entry = readdir(dir))) {
        char link[64], inode[NUMBER_SIZE];
        ssize_t n = entry->d_name[0] == '.' ? 0 : readlinkat(fds, entry->d_name, link, sizeof(link) - 1);
        if (n <= 0)
            continue;
        link[n] = 0;
        if (sscanf(link, "socket:[%20[0-9]", inode) == 1)
            claim(table, strtoul(inode, NULL, 10), process, (pid_t)strtol(pid, NULL, 10));
    }
    if (dir)
        (void)closedir(dir);
    else if (fds >= 0)
        (void)close(fds);
}

static void read_processes(struct table *table, const char *proc)
{
    DIR *dir = opendir(proc);
    struct dirent *entry;
    unsigned left = PROCESSES_MAX;
    while (dir && left-- > 0 && (entry = readdir(dir))) {
        if (entry->d_name[strspn(entry->d_name, "0123456789")] == 0)
            read_process(table, dirfd(dir), entry->d_name);
    }
    if (dir)
        (void)closedir(dir);
}

size_t sockets_listening(const char *proc, struct arena *arena, struct listener **ret)
{
    struct table table = {arena, arena_array(arena, SOCKETS_MAX + 1, sizeof(struct listener)), 0};
    read_table(&table, arena_printf(arena, "%s/net/tcp", proc), false);
    read_table(&table, arena_printf(arena, "%s/net/tcp6", proc), true);
    if (table.n > 0)
        read_processes(&table, proc);
    *ret = table.list;
    return table.n;
}
