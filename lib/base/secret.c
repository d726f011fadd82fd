/*
 * Each secret has whole pages of its own (mmap), so that mlock, MADV_DONTDUMP and the wipe cover exactly it.
 * Where RLIMIT_MEMLOCK is used up the page stays unlocked rather than the process failing: swap is the
 * administrator's choice, core dumps are not.
 */
#include "base/secret.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* struct secret lives at the head of the mapping; its data behind it. */
struct mapping {
    struct secret secret;
    size_t bytes;
    uint8_t data[];
};

struct secret *secret_new(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert(len < SIZE_MAX / 2);
    size_t bytes = (sizeof(struct mapping) + len + 1 + page - 1) / page * page;
    struct mapping *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        abort();
    (void)syscall(SYS_mlock, m, bytes); /* AddressSanitizer makes mlock(3) do nothing */
    (void)madvise(m, bytes, MADV_DONTDUMP);
    m->bytes = bytes;
    m->secret = (struct secret){.data = m->data, .len = len};
    return &m->secret;
}

struct secret *secret_dup(const void *data, size_t len)
{
    struct secret *secret = secret_new(len);
    if (len)
        memcpy(secret->data, data, len);
    return secret;
}

void secret_free(struct secret *secret)
{
    if (!secret)
        return;
    struct mapping *m = (struct mapping *)(void *)secret;
    size_t bytes = m->bytes;
    explicit_bzero(m, bytes);
    (void)munmap(m, bytes);
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
    if (a->len != b->len)
        return false;
    volatile uint8_t diff = 0;
    for (size_t i = 0; i < a->len; i++)
        diff = (uint8_t)(diff | (a->data[i] ^ b->data[i]));
    return diff == 0;
}

enum code secret_read_file(const char *path, size_t max, bool trim, struct secret **ret, struct status *st)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        enum code code = errno == ENOENT ? CODE_NOT_FOUND : CODE_PERMISSION_DENIED;
        return status_errno(st, code, errno, "cannot open secret file %s", path);
    }
    struct stat info;
    if (fstat(fd, &info) != 0)
        return status_errno(st, CODE_INTERNAL, errno, "cannot stat secret file %s", path);
    /* root may hand a file to the group of a process that is not root: Kubernetes does so with Secrets. */
    bool handed_over = info.st_uid == 0 && geteuid() != 0;
    if (info.st_mode & (handed_over ? 037 : 077))
        return status_set(st, CODE_PERMISSION_DENIED,
                          "secret file %s may be read by others than its owner; run: chmod 600 %s", path,
                          path);
    AUTO_SECRET struct secret *wide = secret_new(max + 1);
    size_t got = 0;
    while (got < max + 1) {
        ssize_t n = read(fd, wide->data + got, max + 1 - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return status_errno(st, CODE_INTERNAL, errno, "cannot read secret file %s", path);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    if (got > max)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "secret file %s is larger than %zu bytes", path, max);
    if (trim && got > 0 && wide->data[got - 1] == '\n')
        got--;
    *ret = secret_dup(wide->data, got);
    return CODE_OK;
}

void secret_harden_process(void)
{
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
