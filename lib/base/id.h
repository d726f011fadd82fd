/* Identifiers and random numbers. */
#ifndef CLM_BASE_ID_H
#define CLM_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UUIDv7 (RFC 9562 section 5.7) as lower-case text. Monotonic within a process, from any thread. */
#define UUID_TEXT_SIZE 37
void uuid_v7(char text[UUID_TEXT_SIZE]);
/* True for exactly the 36-character lower-case form, any version. */
bool uuid_valid(const char *text);
/* Unix milliseconds inside a UUIDv7; -1 for others. */
int64_t uuid_v7_ms(const char *text);

/* Cryptographically secure random bytes (getrandom(2)); aborts if the kernel has none to give. */
void random_bytes(void *out, size_t len);
/* Uniform in [0, bound); bound > 0. */
uint32_t random_below(uint32_t bound);
/* Full jitter: uniform in [0, min(cap_ms, base_ms << attempt)]. */
int64_t backoff_full_jitter_ms(unsigned attempt, int64_t base_ms, int64_t cap_ms);

/* W3C trace context, version 00. */
#define TRACEPARENT_SIZE 56
#define TRACE_ID_SIZE    33
void traceparent_new(char text[TRACEPARENT_SIZE]);
/* Same trace, new parent span; a fresh trace if `in` is NULL or malformed. */
void traceparent_child(const char *in, char text[TRACEPARENT_SIZE]);
bool traceparent_trace_id(const char *traceparent, char trace_id[TRACE_ID_SIZE]);

/* Text encodings. Output sizes: hex 2n+1, base64url without padding ceil(4n/3)+1. */
void hex_encode(const void *data, size_t len, char *out);
bool hex_decode(const char *text, uint8_t *out, size_t out_len); /* exactly 2*out_len digits */
size_t base64url_encode(const void *data, size_t len, char *out, size_t out_size);
/* False on any character outside the alphabet, or if it does not fit. */
bool base64url_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size, size_t *ret_len);

#endif
