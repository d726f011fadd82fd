/* A few texts out of a JSON document of somebody else's: see wire.h. jansson's objects stay in here. */
#include <jansson.h>
#include <string.h>

#include "wire/wire.h"

static void cleanup_json(json_t **json)
{
    json_decref(*json);
}

enum code json_pick_texts(const char *text, size_t len, struct json_pick *picks, size_t n,
                          struct arena *arena, struct status *st)
{
    json_error_t error;
    CLEANUP(cleanup_json) json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        return status_set(st, CODE_INVALID_ARGUMENT, "not JSON: line %d, column %d: %.120s", error.line,
                          error.column, error.text);
    for (size_t i = 0; i < n; i++) {
        const json_t *at = json;
        for (size_t step = 0; step < JSON_PICK_DEPTH && picks[i].path[step] && at; step++)
            at = json_object_get(at, picks[i].path[step]); /* NULL of what is no object */
        picks[i].text = NULL;
        if (!at || json_is_null(at))
            continue;
        if (!json_is_string(at) || strlen(json_string_value(at)) != json_string_length(at))
            return status_set(st, CODE_INVALID_ARGUMENT, "expected a string at %.60s", picks[i].path[0]);
        picks[i].text = arena_strdup(arena, json_string_value(at));
    }
    return CODE_OK;
}
