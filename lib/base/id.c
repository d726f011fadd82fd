/* UUIDv7, randomness, trace context and text encodings. Any thread; the UUID counter is under a mutex. */
#include "base/id.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

void random_bytes(void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            abort();
        at += n;
        len -= (size_t)n;
    }
}

uint32_t random_below(uint32_t bound)
{
    assert(bound > 0);
    /* Values below 2^32 mod bound would favour the small remainders. */
    uint32_t reject = (uint32_t)(-bound) % bound;
    uint32_t value;
    do {
        random_bytes(&value, sizeof(value));
    } while (value < reject);
    return value % bound;
}

int64_t backoff_full_jitter_ms(unsigned attempt, int64_t base_ms, int64_t cap_ms)
{
    int64_t top = base_ms < 0 ? 0 : base_ms;
    for (unsigned i = 0; i < attempt && top < cap_ms; i++)
        top = top > INT64_MAX / 2 ? INT64_MAX : top * 2;
    if (top > cap_ms)
        top = cap_ms;
    if (top <= 0)
        return 0;
    if (top >= UINT32_MAX)
        top = UINT32_MAX - 1;
    return random_below((uint32_t)top + 1);
}

/*
 * RFC 9562 section 6.2, method 2: the 74 bits after the timestamp start random in each millisecond and are
 * incremented within it. The top bit starts clear, so an overflow needs 2^73 ids in one millisecond.
 */
static struct {
    pthread_mutex_t mutex;
    int64_t ms;
    uint16_t high; /* 12 bits, rand_a */
    uint64_t low;  /* 62 bits, rand_b */
} last = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void next_v7(int64_t *ret_ms, uint16_t *ret_high, uint64_t *ret_low)
{
    int64_t now = clock_wall_ms();
    pthread_mutex_lock(&last.mutex);
    if (now > last.ms) {
        last.ms = now;
        random_bytes(&last.high, sizeof(last.high));
        random_bytes(&last.low, sizeof(last.low));
        last.high &= 0x7ff;
        last.low &= (UINT64_C(1) << 62) - 1;
    } else {
        /* A random step keeps an id from telling the one after it. */
        last.low += 1 + random_below(UINT32_C(1) << 31);
        if (last.low >> 62) {
            last.low &= (UINT64_C(1) << 62) - 1;
            last.high++;
            assert(last.high <= 0xfff);
        }
    }
    *ret_ms = last.ms;
    *ret_high = last.high;
    *ret_low = last.low;
    pthread_mutex_unlock(&last.mutex);
}

void uuid_v7(char text[UUID_TEXT_SIZE])
{
    int64_t ms;
    uint16_t high;
    uint64_t low;
    next_v7(&ms, &high, &low);
    (void)snprintf(text, UUID_TEXT_SIZE, "%08x-%04x-%04x-%04x-%012llx",
                   (unsigned)((uint64_t)ms >> 16 & 0xffffffff), (unsigned)(ms & 0xffff), 0x7000u | high,
                   (unsigned)(0x8000u | (unsigned)(low >> 48)),
                   (unsigned long long)(low & ((UINT64_C(1) << 48) - 1)));
}

static bool is_lower_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

bool uuid_valid(const char *text)
{
    if (!text)
        return false;
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !is_lower_hex(text[i]))
            return false;
    }
    return text[36] == 0;
}

int64_t uuid_v7_ms(const char *text)
{
    if (!uuid_valid(text) || text[14] != '7')
        return -1;
    char digits[13];
    memcpy(digits, text, 8);
    memcpy(digits + 8, text + 9, 4);
    digits[12] = 0;
    return (int64_t)strtoull(digits, NULL, 16);
}

/* A span id of zeros is invalid in the W3C recommendation; so is a trace id. */
static void random_nonzero(uint8_t *out, size_t len)
{
    uint8_t any;
    do {
        random_bytes(out, len);
        any = 0;
        for (size_t i = 0; i < len; i++)
            any |= out[i];
    } while (!any);
}

static void traceparent_put(const char *trace_id, char text[TRACEPARENT_SIZE])
{
    uint8_t span[8];
    char span_hex[17];
    random_nonzero(span, sizeof(span));
    hex_encode(span, sizeof(span), span_hex);
    (void)snprintf(text, TRACEPARENT_SIZE, "00-%.32s-%s-01", trace_id, span_hex);
}

void traceparent_new(char text[TRACEPARENT_SIZE])
{
    uint8_t trace[16];
    char trace_hex[TRACE_ID_SIZE];
    random_nonzero(trace, sizeof(trace));
    hex_encode(trace, sizeof(trace), trace_hex);
    traceparent_put(trace_hex, text);
}

void traceparent_child(const char *in, char text[TRACEPARENT_SIZE])
{
    char trace_id[TRACE_ID_SIZE];
    if (in && traceparent_trace_id(in, trace_id))
        traceparent_put(trace_id, text);
    else
        traceparent_new(text);
}

static bool all_hex_not_zero(const char *at, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (!is_lower_hex(at[i]))
            return false;
        any |= at[i] != '0';
    }
    return any;
}

bool traceparent_trace_id(const char *traceparent, char trace_id[TRACE_ID_SIZE])
{
    const char *t = traceparent;
    if (!t || strnlen(t, TRACEPARENT_SIZE) != TRACEPARENT_SIZE - 1 || strncmp(t, "00-", 3) != 0 ||
        t[35] != '-' || t[52] != '-' || !is_lower_hex(t[53]) || !is_lower_hex(t[54]))
        return false;
    if (!all_hex_not_zero(t + 3, 32) || !all_hex_not_zero(t + 36, 16))
        return false;
    memcpy(trace_id, t + 3, 32);
    trace_id[32] = 0;
    return true;
}

void hex_encode(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * len] = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, uint8_t *out, size_t out_len)
{
    for (size_t i = 0; i < out_len; i++) {
        int high = hex_value(text[2 * i]);
        int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * out_len] == 0;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t base64url_encode(const void *data, size_t len, char *out, size_t out_size)
{
    const uint8_t *in = data;
    size_t need = len / 3 * 4 + (len % 3 ? len % 3 + 1 : 0);
    assert(out_size > need);
    size_t o = 0;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v =
            (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        out[o++] = alphabet[v >> 18];
        out[o++] = alphabet[v >> 12 & 63];
        if (left > 1)
            out[o++] = alphabet[v >> 6 & 63];
        if (left > 2)
            out[o++] = alphabet[v & 63];
    }
    out[o] = 0;
    return o;
}

static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size, size_t *ret_len)
{
    if (text_len % 4 == 1)
        return false;
    size_t len = text_len / 4 * 3 + (text_len % 4 ? text_len % 4 - 1 : 0);
    if (len > out_size)
        return false;
    uint32_t v = 0;
    int bits = 0;
    size_t o = 0;
    for (size_t i = 0; i < text_len; i++) {
        int d = base64url_value(text[i]);
        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[o++] = (uint8_t)(v >> bits);
            v &= (UINT32_C(1) << bits) - 1;
        }
    }
    /* Leftover bits would let one value have several spellings. */
    if (v != 0)
        return false;
    *ret_len = o;
    return true;
}
