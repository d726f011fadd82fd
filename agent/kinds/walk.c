/* Threads that walk directories, in a child: see walk.h. */
#include "kinds/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "pki/keystore.h"
#include "sandbox/sandbox.h"

#define PAGE_BYTES  4096 /* enough to tell text from what is not */
#define FILE_MIN    64
#define DASHES_MAX  32
#define SETTLED_SEC 2
#define NICE        10
#define IOPRIO_LOW  (2 << 13 | 7) /* best effort, last */
#define IOPRIO_WHO  1             /* a process, with the threads it makes */
#define QUEUE_MAX   65536         /* of directories that wait; beyond it a thread goes down by itself */
#define STACK_BYTES (1536 * 1024) /* for going down WALK_DEPTH_MAX directories */
#define PIPE_BYTES  (1024 * 1024)
#define OUT_BYTES   (64 * 1024)
#define FLUSH_MS    50
#define COUNT_STEP  64 /* files */

/* Seen by both processes. */
struct walk_shared {
    _Atomic uint64_t files, unreadable, unchanged, n_keys;
    atomic_bool full;
    struct seen_key key[WALK_FILES_MAX];
};

struct message { /* on the pipe, then path and data */
    struct seen_key key;
    uint32_t path_len, data_len;
    uint8_t settled, known;
};

/* --- what may be a certificate ------------------------------------------------------------------------ */

static const char begin[] = "-----BEGIN ";

/* Most text has few dashes, and to look for one of them is several times as fast as to look for all. */
static const uint8_t *find_begin(const uint8_t *at, const uint8_t *end)
{
    for (unsigned dashes = 0; dashes < DASHES_MAX; dashes++) {
        at = memchr(at, '-', (size_t)(end - at));
        if (!at || (size_t)(end - at) < sizeof(begin) - 1)
            return NULL;
        if (memcmp(at, begin, sizeof(begin) - 1) == 0)
            return at;
        at++;
    }
    return memmem(at, (size_t)(end - at), begin, sizeof(begin) - 1);
}

static bool pem_mark(const uint8_t *data, size_t len)
{
    static const char *const labels[] = {"CERTIFICATE-", "X509 ", "TRUSTED ", "PKCS7-", "PKCS #7 ", "CMS-"};
    const uint8_t *end = data + len;
    for (const uint8_t *at = data; (at = find_begin(at, end));) {
        at += sizeof(begin) - 1;
        for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
            size_t n = strlen(labels[i]);
            if ((size_t)(end - at) >= n && memcmp(at, labels[i], n) == 0)
                return true;
        }
    }
    return false;
}

/* One DER element that is the whole file, or nearly: some end with a line break. */
static bool der_mark(const uint8_t *data, size_t len, uint64_t size)
{
    uint64_t body = 0;
    if (len < FILE_MIN || data[0] != 0x30)
        return false;
    if (data[1] == 0x80)
        return true; /* without a length: some PKCS#7 */
    unsigned n = data[1] & 0x7fu;
    if (data[1] < 0x80 || n > 4)
        return false;
    for (unsigned i = 0; i < n; i++)
        body = body << 8 | data[2 + i];
    return body + 2 + n <= size && body + 2 + n + 2 >= size;
}

/* May it hold a certificate? size is that of the whole file. */
static bool is_candidate(const uint8_t *data, size_t len, uint64_t size)
{
    return keystore_sniff((struct bytes){data, len}) != KEYSTORE_NONE || der_mark(data, len, size) ||
           pem_mark(data, len);
}

/* --- the walking process ------------------------------------------------------------------------------ */

struct dir_job {
    struct dir_job *next;
    int root_fd;
    const char *root;
    unsigned depth;
    char path[]; /* below the root; "." for itself */
};

struct walker {
    const struct seen *seen;
    struct walk_shared *shared;
    int out;
    int file_flags;
    int64_t now_sec;
    bool anything_seen;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t more;
    struct dir_job *stack;
    size_t queued;
    unsigned busy;
    pthread_mutex_t out_lock;
};

struct thread {
    struct walker *walker;
    uint8_t *buffer; /* WALK_STORE_MAX */
    struct buf out;  /* what is handed over soon: each write wakes the reader */
    int64_t flushed_ms;
    size_t near;               /* for seen_find */
    uint64_t files, unchanged; /* not yet in shared, where each of them would be fought for */
};

static int open_beneath(int dir, const char *path, unsigned long long more)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | more};
    long fd;
    do {
        fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)fd;
}

static struct dir_job *job_new(const struct dir_job *parent, const char *path)
{
    size_t len = strlen(path) + 1;
    struct dir_job *job = malloc(sizeof(*job) + len);
    if (!job)
        abort();
    job->root_fd = parent->root_fd;
    job->root = parent->root;
    job->depth = parent->depth + 1;
    memcpy(job->path, path, len);
    return job;
}

/* False when too many wait. */
static bool push(struct walker *walker, struct dir_job *job)
{
    (void)pthread_mutex_lock(&walker->lock);
    bool fits = walker->queued < QUEUE_MAX;
    if (!fits) {
        (void)pthread_mutex_unlock(&walker->lock);
        return false;
    }
    job->next = walker->stack;
    walker->stack = job;
    walker->queued++;
    (void)pthread_cond_signal(&walker->more);
    (void)pthread_mutex_unlock(&walker->lock);
    return true;
}

static void remember(struct walker *walker, struct seen_key key)
{
    uint64_t at = atomic_fetch_add(&walker->shared->n_keys, 1);
    if (at < WALK_FILES_MAX)
        walker->shared->key[at] = key;
}

static void flush(struct thread *thread)
{
    struct walker *walker = thread->walker;
    if (thread->out.len == 0)
        return;
    (void)pthread_mutex_lock(&walker->out_lock);
    if (fd_write_all(walker->out, thread->out.data, thread->out.len, NULL) != CODE_OK)
        _exit(1); /* nobody reads any more */
    (void)pthread_mutex_unlock(&walker->out_lock);
    buf_reset(&thread->out);
}

static void tell_counts(struct thread *thread)
{
    struct walk_shared *shared = thread->walker->shared;
    if (atomic_fetch_add(&shared->files, thread->files) + thread->files > WALK_FILES_MAX)
        atomic_store(&shared->full, true);
    atomic_fetch_add(&shared->unchanged, thread->unchanged);
    thread->files = thread->unchanged = 0;
}

static void hand_over(struct thread *thread, const char *path, const struct message *message,
                      const void *data)
{
    if (!buf_append(&thread->out, message, sizeof(*message)) ||
        !buf_append(&thread->out, path, message->path_len) ||
        !buf_append(&thread->out, data, message->data_len))
        abort(); /* its limit is that of the largest message, and of what waits before it */
    if (thread->out.len >= OUT_BYTES)
        flush(thread);
}

static size_t read_more(int fd, uint8_t *buffer, size_t have, size_t want)
{
    while (have < want) {
        ssize_t n = read(fd, buffer + have, want - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return have;
}

/* Reads as much of the file as it takes to know; 0 when there is no certificate in it. */
static size_t look_into(struct thread *thread, int fd, uint64_t size)
{
    uint8_t *buffer = thread->buffer;
    size_t have = read_more(fd, buffer, 0, size < PAGE_BYTES ? (size_t)size : PAGE_BYTES);
    bool store = keystore_sniff((struct bytes){buffer, have}) != KEYSTORE_NONE;
    /* Binary files say what they are with their first bytes; text may have it anywhere. */
    if (!store && !der_mark(buffer, have, size) && memchr(buffer, 0, have))
        return 0;
    if (have < size) {
        if (size > (store ? WALK_STORE_MAX : WALK_TEXT_MAX))
            return 0;
        have = read_more(fd, buffer, have, (size_t)size);
    }
    return is_candidate(buffer, have, have) ? have : 0;
}

static bool is_settled(const struct walker *walker, const struct stat *info)
{
    return info->st_mtim.tv_sec < walker->now_sec - SETTLED_SEC &&
           info->st_ctim.tv_sec < walker->now_sec - SETTLED_SEC;
}

static bool full_path(const struct dir_job *job, const char *name, char out[4096])
{
    const char *root = strcmp(job->root, "/") == 0 ? "" : job->root;
    bool top = strcmp(job->path, ".") == 0;
    int n = snprintf(out, 4096, "%s/%s%s%s", root, top ? "" : job->path, top ? "" : "/", name);
    return n > 0 && n < 4096;
}

/* True when a former scan knows it. */
static bool known(struct thread *thread, const struct dir_job *job, const char *name, const struct stat *info)
{
    struct walker *walker = thread->walker;
    struct seen_key key = seen_key(walker->seen, info);
    struct bytes found = {0};
    char path[4096];
    if (!seen_find(walker->seen, key, &thread->near, &found))
        return false;
    thread->unchanged++;
    if (found.len > 0 && full_path(job, name, path)) {
        struct message message = {key, (uint32_t)strlen(path), (uint32_t)found.len, 1, 1};
        hand_over(thread, path, &message, found.data);
    }
    return true;
}

static void on_file(struct thread *thread, const struct dir_job *job, int dir, const char *name)
{
    struct walker *walker = thread->walker;
    struct stat info;
    if (++thread->files == COUNT_STEP)
        tell_counts(thread);
    if (walker->anything_seen &&
        (fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode) ||
         info.st_size < FILE_MIN || known(thread, job, name, &info)))
        return;
    AUTO_CLOSE int fd = openat(dir, name, walker->file_flags);
    if (fd < 0 || fstat(fd, &info) != 0) {
        if (errno != ENOENT && errno != ELOOP && errno != ENXIO)
            atomic_fetch_add(&walker->shared->unreadable, 1);
        return;
    }
    if (!S_ISREG(info.st_mode) || info.st_size < FILE_MIN)
        return;
    size_t len = look_into(thread, fd, (uint64_t)info.st_size);
    struct seen_key key = seen_key(walker->seen, &info);
    char path[4096];
    bool settled = is_settled(walker, &info);
    if (len == 0 && settled)
        remember(walker, key);
    if (len > 0 && full_path(job, name, path)) {
        struct message message = {key, (uint32_t)strlen(path), (uint32_t)len, settled, 0};
        hand_over(thread, path, &message, thread->buffer);
    }
}

static void scan_dir(struct thread *thread, const struct dir_job *job);

static void on_dir(struct thread *thread, const struct dir_job *job, const char *name)
{
    char path[4096];
    bool top = strcmp(job->path, ".") == 0;
    int n = snprintf(path, sizeof(path), "%s%s%s", top ? "" : job->path, top ? "" : "/", name);
    if (job->depth >= WALK_DEPTH_MAX || n < 0 || (size_t)n >= sizeof(path)) {
        atomic_fetch_add(&thread->walker->shared->unreadable, 1);
        return;
    }
    struct dir_job *below = job_new(job, path);
    if (!push(thread->walker, below)) {
        scan_dir(thread, below);
        free(below);
    }
}

static void scan_dir(struct thread *thread, const struct dir_job *job)
{
    struct walk_shared *shared = thread->walker->shared;
    int fd = open_beneath(job->root_fd, job->path, RESOLVE_NO_XDEV);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    if (!dir) {
        if (fd >= 0)
            (void)close(fd);
        if (errno != ENOENT && errno != EXDEV && errno != ELOOP && errno != ENOTDIR)
            atomic_fetch_add(&shared->unreadable, 1);
        return;
    }
    while (!atomic_load(&shared->full) && (entry = readdir(dir))) {
        const char *name = entry->d_name;
        unsigned type = entry->d_type;
        struct stat info;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (type == DT_UNKNOWN && fstatat(fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0)
            type = S_ISDIR(info.st_mode) ? DT_DIR : S_ISREG(info.st_mode) ? DT_REG : DT_UNKNOWN;
        if (type == DT_DIR)
            on_dir(thread, job, name);
        else if (type == DT_REG)
            on_file(thread, job, fd, name);
    }
    (void)closedir(dir);
    tell_counts(thread);
}

/* Hands over what was found, though not each find by itself: that would wake the reader every time. */
static void flush_in_time(struct thread *thread)
{
    int64_t now_ms = clock_mono_ms();
    if (now_ms - thread->flushed_ms < FLUSH_MS)
        return;
    flush(thread);
    thread->flushed_ms = now_ms;
}

/* Done with one directory (NULL at first), what is the next? NULL when all is over. */
static struct dir_job *next_job(struct thread *thread, struct dir_job *done)
{
    struct walker *walker = thread->walker;
    flush_in_time(thread);
    (void)pthread_mutex_lock(&walker->lock);
    if (done)
        walker->busy--;
    if (!walker->stack) {
        (void)pthread_mutex_unlock(&walker->lock);
        flush(thread);
        (void)pthread_mutex_lock(&walker->lock);
    }
    while (!walker->stack && walker->busy > 0)
        (void)pthread_cond_wait(&walker->more, &walker->lock);
    struct dir_job *job = walker->stack;
    if (job) {
        walker->stack = job->next;
        walker->queued--;
        walker->busy++;
    } else {
        (void)pthread_cond_broadcast(&walker->more);
    }
    (void)pthread_mutex_unlock(&walker->lock);
    free(done);
    return job;
}

static void *work(void *arg)
{
    struct thread thread = {.walker = arg, .buffer = malloc(WALK_STORE_MAX)};
    struct dir_job *job = NULL;
    if (!thread.buffer)
        abort();
    buf_init(&thread.out, OUT_BYTES + sizeof(struct message) + 4096 + WALK_STORE_MAX);
    while ((job = next_job(&thread, job)))
        scan_dir(&thread, job);
    buf_done(&thread.out);
    free(thread.buffer);
    return NULL;
}

/* Links above the allowed directory are the administrator's; below it anybody's. */
static int open_root(const struct walk_root *root)
{
    AUTO_CLOSE int above = open(root->above, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const char *below = root->path + strspn(root->path, "/");
    for (const char *at = root->above + strspn(root->above, "/"); *at; at += strspn(at, "/")) {
        at += strcspn(at, "/");
        below += strcspn(below, "/");
        below += strspn(below, "/");
    }
    return above < 0 ? -1 : open_beneath(above, *below ? below : ".", 0);
}

static void add_root(struct walker *walker, const struct walk_root *root)
{
    int fd = open_root(root);
    if (fd < 0) {
        if (errno != ENOENT)
            atomic_fetch_add(&walker->shared->unreadable, 1);
        return;
    }
    struct dir_job parent = {.root_fd = fd, .root = root->path};
    struct dir_job *job = job_new(&parent, ".");
    if (!push(walker, job))
        free(job);
}

static _Noreturn void child(const struct walk_root *roots, const struct seen *seen,
                            struct walk_shared *shared, unsigned threads, int out)
{
    struct walker walker = {.seen = seen,
                            .shared = shared,
                            .out = out,
                            .file_flags = O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC |
                                          (geteuid() == 0 ? O_NOATIME : 0),
                            .now_sec = clock_wall_ms() / 1000,
                            .anything_seen = seen_count(seen) > 0};
    pthread_t id[WALK_THREADS_MAX];
    pthread_attr_t attr;
    unsigned started = 0;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        _exit(1);
    sandbox_close_fds(&out, 1);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setpriority(PRIO_PROCESS, 0, NICE);
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO, 0, IOPRIO_LOW);
    (void)pthread_mutex_init(&walker.lock, NULL);
    (void)pthread_mutex_init(&walker.out_lock, NULL);
    (void)pthread_cond_init(&walker.more, NULL);
    for (size_t i = 0; roots[i].path; i++)
        add_root(&walker, &roots[i]);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    for (; started < threads && started < WALK_THREADS_MAX; started++) {
        if (pthread_create(&id[started], &attr, work, &walker) != 0)
            break;
    }
    if (started == 0)
        (void)work(&walker);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(id[i], NULL);
    _exit(0);
}

/* --- the caller's side -------------------------------------------------------------------------------- */

enum code walk_start(struct walk *walk, const struct walk_root *roots, const struct seen *seen,
                     unsigned threads, struct status *st)
{
    int fds[2];
    *walk = (struct walk){.pid = -1, .fd = -1};
    buf_init(&walk->in, sizeof(struct message) + 4096 + WALK_STORE_MAX + PIPE_BYTES);
    void *shared =
        mmap(NULL, sizeof(struct walk_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot get memory for a scan");
    walk->shared = shared;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot make a pipe for a scan");
    (void)fcntl(fds[0], F_SETPIPE_SZ, PIPE_BYTES);
    walk->pid = fork();
    if (walk->pid == 0)
        child(roots, seen, walk->shared, threads, fds[1]);
    (void)close(fds[1]);
    walk->fd = fds[0];
    if (walk->pid < 0)
        return status_errno(st, CODE_RESOURCE_EXHAUSTED, errno, "cannot start a scan");
    return CODE_OK;
}

static bool take(struct walk *walk, struct walk_found *ret)
{
    struct message message;
    const uint8_t *at = walk->in.data + walk->taken;
    size_t left = walk->in.len - walk->taken;
    if (left < sizeof(message))
        return false;
    memcpy(&message, at, sizeof(message));
    size_t whole = sizeof(message) + message.path_len + message.data_len;
    if (left < whole)
        return false;
    at += sizeof(message);
    *ret = (struct walk_found){.key = message.key,
                               .settled = message.settled,
                               .known = message.known,
                               .path = strndup((const char *)at, message.path_len),
                               .data = malloc(message.data_len + 1u),
                               .len = message.data_len};
    if (!ret->path || !ret->data)
        abort();
    memcpy(ret->data, at + message.path_len, message.data_len);
    walk->taken += whole;
    return true;
}

enum walk_state walk_next(struct walk *walk, int64_t timeout_ms, struct walk_found *ret)
{
    static uint8_t chunk[256 * 1024];
    for (int64_t end = clock_mono_ms() + timeout_ms;;) {
        if (take(walk, ret))
            return WALK_FOUND;
        int64_t left = end - clock_mono_ms();
        struct pollfd p = {walk->fd, POLLIN, 0};
        int ready = poll(&p, 1, left > 0 ? (int)left : 0);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return WALK_WAIT;
        buf_consume(&walk->in, walk->taken);
        walk->taken = 0;
        ssize_t n = read(walk->fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || !buf_append(&walk->in, chunk, (size_t)n))
            return WALK_END;
    }
}

bool walk_stop(struct walk *walk)
{
    int how = -1;
    if (walk->fd >= 0)
        (void)close(walk->fd);
    walk->fd = -1;
    if (walk->pid <= 0)
        return false;
    /* One that has come to its end by itself closed the pipe by leaving: a signal finds nobody. */
    (void)kill(walk->pid, SIGKILL);
    while (waitpid(walk->pid, &how, 0) < 0 && errno == EINTR)
        ;
    walk->pid = -1;
    return how == 0;
}

struct walk_counts walk_counts(const struct walk *walk)
{
    const struct walk_shared *shared = walk->shared;
    uint64_t files = atomic_load(&shared->files);
    return (struct walk_counts){.files = files > WALK_FILES_MAX ? WALK_FILES_MAX : files,
                                .unreadable = atomic_load(&shared->unreadable),
                                .unchanged = atomic_load(&shared->unchanged),
                                .full = atomic_load(&shared->full)};
}

const struct seen_key *walk_keys(const struct walk *walk, size_t *ret_n)
{
    uint64_t n = atomic_load(&walk->shared->n_keys);
    *ret_n = n < WALK_FILES_MAX ? (size_t)n : WALK_FILES_MAX;
    return walk->shared->key;
}

void walk_done(struct walk *walk)
{
    buf_done(&walk->in);
    if (walk->shared)
        (void)munmap(walk->shared, sizeof(*walk->shared));
    walk->shared = NULL;
}
