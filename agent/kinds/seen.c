/* The cache of discovery: see seen.h. One array sorted by file, and behind it what was found. */
#include "kinds/seen.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/file.h"
#include "pki/digest.h"

#define MAGIC    "clm-seen"
#define VERSION  3u /* raise it when what is found in a file changes, or its key */
#define AGE_MAX  4
#define FILE_MAX (sizeof(struct head) + SEEN_FILES_MAX * sizeof(struct row) + SEEN_BYTES_MAX)
#define NOTHING  UINT32_MAX

struct head {
    char magic[8];
    uint32_t version, rows, found_bytes, unused;
    uint64_t secret[2];
    uint8_t digest[32]; /* of everything behind the head */
};

struct row {
    uint64_t file, state;
    uint32_t found; /* where its length and bytes stand; NOTHING */
    uint32_t age;   /* scans that did not come across it */
};

struct seen {
    uint8_t *data; /* head, rows, found */
    size_t len;
    struct head head;
    const struct row *row;
    const uint8_t *found;
    _Atomic uint8_t *met; /* of each row: seen_find found it; shared with processes forked since */
};

/* Finaliser of a 64-bit mix (splitmix64): spreads, hides nothing by itself; the secret is what is not known.
 */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Inodes of one directory are mostly near each other, and so are the rows that stand for them. */
struct seen_key seen_key(const struct seen *seen, const struct stat *info)
{
    uint64_t file = mix((uint64_t)info->st_dev ^ seen->head.secret[0]) + (uint64_t)info->st_ino;
    uint64_t state = mix(file ^ seen->head.secret[1]);
    state = mix(state ^ (uint64_t)info->st_size);
    state = mix(state ^ ((uint64_t)info->st_mtim.tv_sec << 30 ^ (uint64_t)info->st_mtim.tv_nsec));
    state = mix(state ^ ((uint64_t)info->st_ctim.tv_sec << 30 ^ (uint64_t)info->st_ctim.tv_nsec));
    return (struct seen_key){file, state};
}

static bool head_is_sound(const struct seen *seen)
{
    const struct head *head = &seen->head;
    uint8_t digest[32];
    size_t behind = seen->len - sizeof(*head);
    if (memcmp(head->magic, MAGIC, sizeof(head->magic)) != 0 || head->version != VERSION ||
        head->rows > SEEN_FILES_MAX || head->found_bytes > SEEN_BYTES_MAX ||
        behind != head->rows * sizeof(struct row) + head->found_bytes)
        return false;
    sha256((struct bytes){seen->data + sizeof(*head), behind}, digest);
    return memcmp(digest, head->digest, sizeof(digest)) == 0;
}

static size_t met_bytes(const struct seen *seen)
{
    return seen->head.rows ? seen->head.rows : 1;
}

struct seen *seen_load(const char *path)
{
    struct seen *seen = calloc(1, sizeof(*seen));
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;
    if (!seen)
        abort();
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
        info.st_size >= (off_t)sizeof(struct head) && (size_t)info.st_size <= FILE_MAX) {
        seen->len = (size_t)info.st_size;
        seen->data = malloc(seen->len);
        if (!seen->data)
            abort();
        if (fd_read_all(fd, seen->data, seen->len, NULL) == CODE_OK)
            memcpy(&seen->head, seen->data, sizeof(seen->head));
        if (!head_is_sound(seen))
            memset(&seen->head, 0, sizeof(seen->head));
    }
    if (seen->head.version == 0 &&
        getrandom(seen->head.secret, sizeof(seen->head.secret), 0) != sizeof(seen->head.secret))
        abort();
    if (seen->head.rows > 0) {
        seen->row = (const struct row *)(const void *)(seen->data + sizeof(struct head));
        seen->found = (const uint8_t *)(seen->row + seen->head.rows);
    }
    void *met = mmap(NULL, met_bytes(seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (met == MAP_FAILED)
        abort();
    seen->met = met;
    return seen;
}

void seen_free(struct seen *seen)
{
    if (!seen)
        return;
    (void)munmap((void *)seen->met, met_bytes(seen));
    free(seen->data);
    free(seen);
}

size_t seen_count(const struct seen *seen)
{
    return seen->head.rows;
}

static struct bytes found_at(const struct seen *seen, uint32_t at)
{
    uint32_t len;
    if (at == NOTHING || at > seen->head.found_bytes - sizeof(len))
        return (struct bytes){0};
    memcpy(&len, seen->found + at, sizeof(len));
    if (len > seen->head.found_bytes - sizeof(len) - at)
        return (struct bytes){0};
    return (struct bytes){seen->found + at + sizeof(len), len};
}

/* Steps away from where the last one was, twice as far each time, then halves what is between. */
static const struct row *find_row(const struct seen *seen, uint64_t file, size_t *near)
{
    const struct row *row = seen->row;
    size_t n = seen->head.rows, lo = *near < n ? *near : 0, hi = lo;
    for (size_t step = 1; lo > 0 && row[lo].file > file; step *= 2) {
        hi = lo;
        lo = lo > step ? lo - step : 0;
    }
    for (size_t step = 1; hi < n && row[hi].file < file; step *= 2) {
        lo = hi;
        hi = n - hi > step ? hi + step : n;
    }
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (row[middle].file < file)
            lo = middle + 1;
        else
            hi = middle;
    }
    *near = lo;
    return lo < n && row[lo].file == file ? &row[lo] : NULL;
}

bool seen_find(const struct seen *seen, struct seen_key key, size_t *near, struct bytes *ret)
{
    const struct row *row = find_row(seen, key.file, near);
    if (!row || row->state != key.state)
        return false;
    atomic_store_explicit(&seen->met[row - seen->row], 1, memory_order_relaxed);
    *ret = found_at(seen, row->found);
    return true;
}

/* --- writing ------------------------------------------------------------------------------------------ */

struct writer {
    struct row *row;
    size_t n;
    struct buf found;
};

static bool put(struct writer *writer, uint64_t file, uint64_t state, struct bytes found, uint32_t age)
{
    uint32_t at = NOTHING, len = (uint32_t)found.len;
    if (writer->n >= SEEN_FILES_MAX)
        return false;
    if (found.len > 0) {
        /* What does not fit is not remembered: it will be looked at again. */
        if (writer->found.len + sizeof(len) + found.len > SEEN_BYTES_MAX)
            return true;
        at = (uint32_t)writer->found.len;
        if (!buf_append(&writer->found, &len, sizeof(len)) || !buf_append(&writer->found, found.data, len))
            return true;
    }
    writer->row[writer->n++] = (struct row){file, state, at, age};
    return true;
}

static int by_file(const void *a, const void *b)
{
    const struct seen_entry *x = a, *y = b;
    return x->key.file < y->key.file ? -1 : x->key.file > y->key.file;
}

/* Both are sorted: one pass. */
static bool merge(struct writer *writer, const struct seen *former, const struct seen_entry *entries,
                  size_t n)
{
    size_t i = 0, k = 0;
    bool changed = false;
    while (i < n || k < former->head.rows) {
        const struct row *row = k < former->head.rows ? &former->row[k] : NULL;
        if (i < n && (!row || entries[i].key.file <= row->file)) {
            struct bytes found = entries[i].found;
            bool same = row && row->file == entries[i].key.file && row->state == entries[i].key.state;
            if (same && found.len == 0)
                found = found_at(former, row->found);
            changed |= !same || row->age > 0;
            (void)put(writer, entries[i].key.file, entries[i].key.state, found, 0);
            uint64_t file = entries[i].key.file;
            while (i < n && entries[i].key.file == file)
                i++; /* hard links */
            while (k < former->head.rows && former->row[k].file == file)
                k++;
        } else {
            uint32_t age = atomic_load_explicit(&former->met[k], memory_order_relaxed) ? 0 : row->age + 1;
            if (age <= AGE_MAX)
                (void)put(writer, row->file, row->state, found_at(former, row->found), age);
            changed |= age != row->age;
            k++;
        }
    }
    return changed;
}

static bool write_file(const struct writer *writer, const struct seen *former, const char *path)
{
    struct head head = {.magic = MAGIC,
                        .version = VERSION,
                        .rows = (uint32_t)writer->n,
                        .found_bytes = (uint32_t)writer->found.len,
                        .secret = {former->head.secret[0], former->head.secret[1]}};
    AUTO_BUF struct buf out = {.limit = FILE_MAX};
    if (!buf_append(&out, &head, sizeof(head)) ||
        !buf_append(&out, writer->row, writer->n * sizeof(struct row)) ||
        (writer->found.len && !buf_append(&out, writer->found.data, writer->found.len)))
        return false;
    sha256((struct bytes){out.data + sizeof(head), out.len - sizeof(head)}, head.digest);
    memcpy(out.data, &head, sizeof(head));
    return file_replace(path, out.data, out.len, 0600, NULL) == CODE_OK;
}

/* Everything was met, and nothing else. */
static bool as_before(const struct seen *former, size_t n)
{
    for (size_t k = 0; n == 0 && k < former->head.rows; k++) {
        if (former->row[k].age > 0 || !atomic_load_explicit(&former->met[k], memory_order_relaxed))
            return false;
    }
    return n == 0;
}

bool seen_save(const struct seen *former, struct seen_entry *entries, size_t n, const char *path)
{
    if (as_before(former, n))
        return false;
    struct writer writer = {.found = {.limit = SEEN_BYTES_MAX}};
    size_t rows = n + former->head.rows;
    writer.row = calloc(rows ? rows : 1, sizeof(*writer.row));
    if (!writer.row)
        abort();
    qsort(entries, n, sizeof(*entries), by_file);
    bool written = merge(&writer, former, entries, n) && write_file(&writer, former, path);
    free(writer.row);
    buf_done(&writer.found);
    return written;
}
