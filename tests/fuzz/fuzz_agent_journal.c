/*
 * A journal file as a crash or a failing disk left it. The first byte chooses: '=': the rest is the file; any
 * other: the rest is records (a length byte and that many bytes each), which get good headers, and what is
 * left after a length of 0 is the tail. Opening a second time must find the same, and an opened journal takes
 * records.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/journal.h"
#include "base/buf.h"
#include "base/log.h"
#include "pki/digest.h"
#include "temp_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TASK_ID "0192f0c1-2345-7abc-8def-0123456789ab"
#define NAME    TASK_ID "-1.journal"

static void append(struct buf *out, const void *data, size_t len)
{
    if (!buf_append(out, data, len))
        abort();
}

static void add_record(struct buf *out, const uint8_t *payload, uint8_t len)
{
    uint8_t head[8] = {0, 0, 0, len, 0xff, 0xff, 0xff, (uint8_t)~len}, digest[SHA256_SIZE];
    struct sha256_ctx *ctx = sha256_ctx_new();
    sha256_ctx_add(ctx, (struct bytes){head, 4});
    sha256_ctx_add(ctx, (struct bytes){payload, len});
    sha256_ctx_free(ctx, digest);
    append(out, head, sizeof(head));
    append(out, digest, 8);
    append(out, payload, len);
}

static void add_records(struct buf *out, const uint8_t *data, size_t size)
{
    while (size > 0 && data[0] > 0) {
        uint8_t len = data[0] <= size - 1 ? data[0] : (uint8_t)(size - 1);
        add_record(out, data + 1, len);
        data += 1 + len;
        size -= 1u + len;
    }
    if (size > 1)
        append(out, data + 1, size - 1);
}

static off_t file_size(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        abort();
    return info.st_size;
}

static struct journal *reopen(size_t expected)
{
    struct status st;
    struct journal *journal = NULL;
    if (journal_open(temp_dir(), TASK_ID, 1, &journal, &st) != CODE_OK || journal_count(journal) != expected)
        abort();
    return journal;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st = {0};
    struct journal *journal = NULL;
    AUTO_BUF struct buf content = {0};
    if (size == 0)
        return 0;
    if (data[0] == '=')
        append(&content, data + 1, size - 1);
    else
        add_records(&content, data + 1, size - 1);
    const char *path = temp_file(NAME, content.data, content.len);
    if (journal_open(temp_dir(), TASK_ID, 1, &journal, &st) != CODE_OK) {
        if (st.code != CODE_DATA_LOSS || file_size(path) != (off_t)content.len)
            abort(); /* what is damaged stays as it is, for a person to see */
        return 0;
    }
    size_t n = journal_count(journal);
    journal_close(journal);
    journal = reopen(n);
    if (journal_step(journal, "swap", NULL, "/etc/ssl/site.pem", NULL, NULL, &st) != CODE_OK)
        abort();
    journal_close(journal);
    journal = reopen(n + 1);
    const Clm__Agent__JournalRecord *step = journal_find_step(journal, "swap");
    if (!step || step != journal_get(journal, n) || strcmp(step->path, "/etc/ssl/site.pem") != 0)
        abort();
    journal_close(journal);
    return 0;
}
