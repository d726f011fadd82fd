/*
 * A line is composed on the caller's stack and leaves in one write(2); lines longer than that are cut at a
 * value's end, never in the middle of an escape. Level and format are set before threads start or atomically.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"

#define LINE_MAX_BYTES  8192
#define VALUE_MAX_BYTES 2048 /* of input, per value */
#define TAIL_BYTES      8    /* kept free for the end of the line */

static const char *program_name = "-";
static atomic_int min_level = LOG_LEVEL_INFO;
static enum log_format line_format = LOG_FORMAT_TEXT;
static _Thread_local char trace[33];

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "DEBUG",
    [LOG_LEVEL_INFO] = "INFO",
    [LOG_LEVEL_WARN] = "WARN",
    [LOG_LEVEL_ERROR] = "ERROR",
};
_Static_assert(ARRAY_LEN(level_names) == LOG_LEVEL_ERROR + 1, "one name for each level");

void log_init(const char *program, enum log_level level, enum log_format format)
{
    program_name = program;
    atomic_store(&min_level, (int)level);
    line_format = format;
}

void log_set_level(enum log_level level)
{
    atomic_store(&min_level, (int)level);
}

void log_set_trace(const char *trace_id)
{
    (void)snprintf(trace, sizeof(trace), "%s", trace_id ? trace_id : "");
}

struct log_trace log_trace_begin_(const char *traceparent)
{
    struct log_trace former;
    char trace_id[TRACE_ID_SIZE];
    memcpy(former.former, trace, sizeof(trace));
    if (traceparent_trace_id(traceparent, trace_id))
        log_set_trace(trace_id);
    return former;
}

void log_trace_end_(struct log_trace *former)
{
    log_set_trace(former->former);
}

int log_level_parse(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0)
            return i;
    }
    return -1;
}

const char *log_num_(char buf[24], long long n)
{
    (void)snprintf(buf, 24, "%lld", n);
    return buf;
}

struct line {
    char data[LINE_MAX_BYTES];
    size_t len;
    bool full;
};

static void put(struct line *line, const char *bytes, size_t n)
{
    if (line->full || n > sizeof(line->data) - TAIL_BYTES - line->len) {
        line->full = true;
        return;
    }
    memcpy(line->data + line->len, bytes, n);
    line->len += n;
}

static void puts_line(struct line *line, const char *s)
{
    put(line, s, strlen(s));
}

/* Length of the printable UTF-8 character at s (limit n), or 0: controls (C0, DEL, C1), line and bidi marks.
 */
static size_t printable(const uint8_t *s, size_t n)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    size_t len = s[0] >= 0xf0 && s[0] <= 0xf4  ? 4
                 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                                               : 0;
    if (!len || len > n)
        return 0;
    uint32_t c = s[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < 0xa0 || (len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10ffff)) ||
        (c >= 0xd800 && c < 0xe000))
        return 0;
    if ((c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
        return 0;
    return len;
}

static void put_escaped(struct line *line, const char *text, size_t len)
{
    const uint8_t *s = (const uint8_t *)text;
    bool cut = len > VALUE_MAX_BYTES;
    if (cut)
        len = VALUE_MAX_BYTES;
    for (size_t i = 0; i < len;) {
        char escaped[8];
        if (s[i] == '"' || s[i] == '\\') {
            escaped[0] = '\\';
            escaped[1] = (char)s[i++];
            put(line, escaped, 2);
            continue;
        }
        size_t n = printable(s + i, len - i);
        if (n) {
            put(line, text + i, n);
            i += n;
            continue;
        }
        if (s[i] == '\n')
            puts_line(line, "\\n");
        else if (s[i] == '\t')
            puts_line(line, "\\t");
        else if (line_format == LOG_FORMAT_JSON && s[i] >= 0x80)
            puts_line(line, "\\ufffd");
        else {
            (void)snprintf(escaped, sizeof(escaped), line_format == LOG_FORMAT_JSON ? "\\u%04x" : "\\x%02x",
                           s[i]);
            puts_line(line, escaped);
        }
        i++;
    }
    if (cut)
        puts_line(line, "...");
}

/* Bare only if a reader cannot take it for anything else. */
static bool needs_quotes(const char *s)
{
    if (!*s)
        return true;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=')
            return true;
    }
    return false;
}

static void put_field(struct line *line, const char *name, const char *value)
{
    /* A field is whole or absent. */
    size_t before = line->len;
    if (line_format == LOG_FORMAT_JSON) {
        puts_line(line, ",\"");
        put_escaped(line, name, strlen(name));
        puts_line(line, "\":\"");
        put_escaped(line, value, strlen(value));
        puts_line(line, "\"");
    } else {
        puts_line(line, " ");
        puts_line(line, name);
        puts_line(line, "=");
        bool quoted = needs_quotes(value);
        puts_line(line, quoted ? "\"" : "");
        put_escaped(line, value, strlen(value));
        puts_line(line, quoted ? "\"" : "");
    }
    if (line->full)
        line->len = before;
}

static void put_head(struct line *line, enum log_level level, const char *msg)
{
    char when[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(clock_wall_ms(), when);
    if (line_format == LOG_FORMAT_JSON) {
        puts_line(line, "{\"time\":\"");
        puts_line(line, when);
        puts_line(line, "\",\"level\":\"");
        puts_line(line, level_names[level]);
        puts_line(line, "\",\"program\":\"");
        put_escaped(line, program_name, strlen(program_name));
        puts_line(line, "\",\"msg\":\"");
        put_escaped(line, msg, strlen(msg));
        puts_line(line, "\"");
    } else {
        puts_line(line, when);
        puts_line(line, " ");
        puts_line(line, level_names[level]);
        puts_line(line, " ");
        puts_line(line, program_name);
        puts_line(line, ": ");
        put_escaped(line, msg, strlen(msg));
    }
}

void log_write(enum log_level level, const char *msg, ...)
{
    if ((int)level < atomic_load_explicit(&min_level, memory_order_relaxed))
        return;
    int saved_errno = errno;
    struct line line;
    line.len = 0;
    line.full = false;
    put_head(&line, level, msg);
    va_list ap;
    va_start(ap, msg);
    for (const char *name = va_arg(ap, const char *); name; name = va_arg(ap, const char *)) {
        const char *value = va_arg(ap, const char *);
        put_field(&line, name, value ? value : "-");
    }
    va_end(ap);
    if (trace[0])
        put_field(&line, "trace", trace);
    const char *end = line_format == LOG_FORMAT_JSON ? "}\n" : "\n";
    size_t end_len = strlen(end);
    memcpy(line.data + line.len, end, end_len);
    line.len += end_len;
    ssize_t ignored = write(STDERR_FILENO, line.data, line.len);
    (void)ignored;
    errno = saved_errno;
}
