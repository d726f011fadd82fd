/* exec's thread. */
#include "agent/exec/scopemark.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

#define LINE_MAX_BYTES 64

static char *path_of(const struct agent_state *state)
{
    char *path;
    if (asprintf(&path, "%s/scope", state->dir) < 0)
        abort();
    return path;
}

static bool is_older(const struct scope_mark *a, const struct scope_mark *b)
{
    return a->epoch != b->epoch ? a->epoch < b->epoch : a->version < b->version;
}

/* "1 7\n", as scope_mark_raise writes it. */
static bool line_read(const char *line, struct scope_mark *ret)
{
    char *space, *end;
    errno = 0;
    ret->epoch = strtoull(line, &space, 10);
    if (space == line || *space != ' ')
        return false;
    ret->version = strtoull(space + 1, &end, 10);
    return end != space + 1 && strcmp(end, "\n") == 0 && errno == 0;
}

void scope_mark_load(struct scope_mark *mark, const struct agent_state *state)
{
    AUTO_FREE char *path = path_of(state);
    AUTO_BUF struct buf line = {0};
    struct status st;
    *mark = (struct scope_mark){0};
    enum code code = file_read(path, LINE_MAX_BYTES, &line, &st);
    if (code == CODE_NOT_FOUND)
        return;
    struct scope_mark read;
    if (code == CODE_OK && line_read(buf_text(&line), &read))
        *mark = read;
    else
        log_warn("which scope was seen last cannot be read; the next one counts", "file", path, NULL);
}

enum code scope_mark_check(const struct scope_mark *mark, const struct scope_mark *seen, struct status *st)
{
    if (!is_older(seen, mark))
        return CODE_OK;
    return status_set(st, CODE_PERMISSION_DENIED,
                      "its scope is version %" PRIu64 " (epoch %" PRIu64
                      "), this host has seen version %" PRIu64 " (epoch %" PRIu64
                      "): an older scope is refused; after a restore of the platform run "
                      "`clmctl platform restored`",
                      seen->version, seen->epoch, mark->version, mark->epoch);
}

enum code scope_mark_raise(struct scope_mark *mark, const struct agent_state *state,
                           const struct scope_mark *seen, struct status *st)
{
    char line[LINE_MAX_BYTES];
    if (!is_older(mark, seen))
        return CODE_OK;
    AUTO_FREE char *path = path_of(state);
    int len = snprintf(line, sizeof(line), "%" PRIu64 " %" PRIu64 "\n", seen->epoch, seen->version);
    TRY(file_write_atomic(path, line, (size_t)len, 0600, st));
    *mark = *seen;
    return CODE_OK;
}
