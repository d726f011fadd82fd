/* Ports for the servers that tests start. They come from below the kernel's range for outgoing connections,
 * which could take a port between two starts of its server, and are reserved by an abstract socket of their
 * name for as long as the process lives; scripts/clm/ports.py does the same. */
#include "port.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST = 10000, TRIES = 1000 };

static int first_outgoing(void)
{
    int first = 0;
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (range && fscanf(range, "%d", &first) != 1)
        first = 0;
    if (range)
        (void)fclose(range);
    return first > FIRST + TRIES ? first : FIRST + TRIES;
}

/* Holds the name for good, so its descriptor is never closed. */
static int reserve(int port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "clm-port-%d", port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&name,
                        (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1U + (socklen_t)len) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static int nobody_listens(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((in_port_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int free = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return free;
}

int port_free(void)
{
    unsigned span = (unsigned)(first_outgoing() - FIRST);
    for (int i = 0; i < TRIES; i++) {
        unsigned random = 0;
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
            break;
        int port = FIRST + (int)(random % span);
        int held = reserve(port);
        if (held >= 0 && nobody_listens(port))
            return port;
        if (held >= 0)
            (void)close(held);
    }
    (void)fprintf(stderr, "no free TCP port: %s\n", strerror(errno));
    abort();
}
