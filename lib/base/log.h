/*
 * Structured logging to stderr, one line an event, written with one write(2): safe from any thread.
 * Text form (default): `2026-11-23T23:01:02.345Z INFO registry: agent registered agent=… trace=…`;
 * JSON form for collectors. Values are escaped: no byte of a peer can start a line of its own.
 * lib/ logs at DEBUG only; the edge that handles an error logs it once. Secrets are never arguments.
 */
#ifndef CLM_BASE_LOG_H
#define CLM_BASE_LOG_H

#include "base/cleanup.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* program: the name in each line; borrowed for the life of the process. Call once, before threads. */
void log_init(const char *program, enum log_level level, enum log_format format);
void log_set_level(enum log_level level);

/* Trace id (32 hex digits, W3C trace context) put into each line of the calling thread; NULL or "" clears it.
 */
void log_set_trace(const char *trace_id);

/* `LOG_TRACED(traceparent);`: lines until the end of the block carry this trace instead, those after it the
 * former one again. NULL, or what is no traceparent, changes nothing. */
struct log_trace {
    char former[33];
};
struct log_trace log_trace_begin_(const char *traceparent);
void log_trace_end_(struct log_trace *trace);
#define LOG_TRACED(traceparent)                                                                              \
    CLEANUP(log_trace_end_) struct log_trace log_trace_ UNUSED = log_trace_begin_(traceparent)

/* Fields are pairs of (name, value) C strings after the message, ended by NULL:
 *   log_info("agent registered", "agent", id, "hostname", hostname, NULL);
 * log_f builds a value on the spot: log_warn("slow", "ms", LOG_NUM(ms), NULL). A NULL value prints "-". */
void log_write(enum log_level level, const char *msg, ...) __attribute__((sentinel));
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

/* Decimal text of an integer in a buffer that lives until the end of the enclosing block. */
#define LOG_NUM(n) (log_num_((char[24]){0}, (long long)(n)))
const char *log_num_(char buf[24], long long n);

/* Parses "debug", "info", "warn", "error"; -1 if it is none of them. */
int log_level_parse(const char *name);

#endif
