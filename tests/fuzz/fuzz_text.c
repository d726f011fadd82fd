/*
 * Small texts in headers, queries and bodies. The first byte chooses the reader; what one accepts must come
 * out of its writer as it went in.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "http/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_time(const char *text)
{
    int64_t at_ms = -1, again_ms = -1;
    char formatted[CLOCK_RFC3339_SIZE];
    if (!clock_parse_rfc3339(text, &at_ms))
        return;
    clock_format_rfc3339(at_ms, formatted);
    if (!clock_parse_rfc3339(formatted, &again_ms) || at_ms != again_ms)
        abort();
}

static void read_traceparent(const char *text)
{
    char child[TRACEPARENT_SIZE], id[TRACE_ID_SIZE], child_id[TRACE_ID_SIZE];
    traceparent_child(text, child);
    if (strlen(child) != TRACEPARENT_SIZE - 1 || !traceparent_trace_id(child, child_id))
        abort();
    if (traceparent_trace_id(text, id) && strcmp(id, child_id) != 0)
        abort();
}

static void read_uuid(const char *text)
{
    if (uuid_valid(text) ? strlen(text) != UUID_TEXT_SIZE - 1 : uuid_v7_ms(text) != -1)
        abort();
}

static void read_hex(const char *text)
{
    uint8_t bytes[16];
    char again[2 * sizeof(bytes) + 1];
    if (!hex_decode(text, bytes, sizeof(bytes)))
        return;
    hex_encode(bytes, sizeof(bytes), again);
    if (strcasecmp(text, again) != 0)
        abort();
}

static void read_base64url(const char *text)
{
    uint8_t bytes[256];
    char again[400];
    size_t len = strlen(text), n = 0;
    if (!base64url_decode(text, len, bytes, sizeof(bytes), &n))
        return;
    if (base64url_encode(bytes, n, again, sizeof(again)) != len)
        abort();
}

static void read_percent(const char *text)
{
    char out[64];
    size_t len = strlen(text);
    memset(out, 'x', sizeof(out));
    if (http_percent_decode(text, len, true, out, sizeof(out)) &&
        (!memchr(out, '\0', sizeof(out)) || strlen(out) > len))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        char first;
        void (*read)(const char *text);
    } readers[] = {{'t', read_time}, {'p', read_traceparent}, {'u', read_uuid},
                   {'h', read_hex},  {'b', read_base64url},   {'%', read_percent}};
    if (size == 0)
        return 0;
    size_t len = size - 1;
    char *text = malloc(len + 1);
    if (!text)
        abort();
    memcpy(text, data + 1, len);
    text[len] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        if (data[0] == (uint8_t)readers[i].first)
            readers[i].read(text);
    free(text);
    return 0;
}
