/* The table of places, and the ordinary one, files: see place.h. */
#include "stores/place.h"

#include <string.h>

static enum code files_read(const struct place_at *at UNUSED, const char *path, struct secret **ret,
                            struct store_meta *meta, struct status *st)
{
    return store_read(path, ret, meta, st);
}

static enum code files_read_staged(const struct place_at *at UNUSED, const char *path, const char *staged,
                                   struct secret **ret, struct status *st)
{
    return store_read_staged(path, staged, ret, st);
}

static enum code files_stage(const struct place_at *at UNUSED, const char *path, const char *staged,
                             struct bytes content, const struct store_meta *meta, struct status *st)
{
    return store_stage(path, staged, content, meta, NULL, st);
}

static enum code files_swap(const struct place_at *at UNUSED, const struct store_move *moves, size_t n,
                            struct status *st)
{
    return store_swap(moves, n, st);
}

static enum code files_remove(const struct place_at *at UNUSED, const char *path, const char *staged,
                              struct status *st)
{
    return store_remove(path, staged, st);
}

static const struct place files_place = {
    .name = "files",
    .read = files_read,
    .read_staged = files_read_staged,
    .stage = files_stage,
    .swap = files_swap,
    .remove = files_remove,
};

const struct place *place_of(const struct policy_target *target)
{
    if (target->format == STORE_KUBERNETES)
        return &kubernetes_place;
    return target->swap_directory ? &directory_place : &files_place;
}

enum code place_digest(const struct place_at *at, const char *path, char ret_hex[SHA256_HEX_SIZE],
                       struct status *st)
{
    AUTO_SECRET struct secret *content = NULL;
    ret_hex[0] = 0;
    TRY(place_of(at->target)->read(at, path, &content, NULL, st));
    if (content)
        sha256_hex((struct bytes){content->data, content->len}, ret_hex);
    return CODE_OK;
}

void place_staged_name(const struct policy_target *target, const char *path, const char *task_id,
                       unsigned attempt, const char *role, char *out, size_t out_size)
{
    const char *slash = strrchr(path, '/');
    if (place_of(target)->whole)
        (void)snprintf(out, out_size, ".clm-%s-%u.new/%s", task_id, attempt, slash ? slash + 1 : path);
    else
        (void)snprintf(out, out_size, ".clm-%s-%u-%s.new", task_id, attempt, role);
}
