/*
 * Protobuf at the borders. A message that a peer sent is unpacked with a byte budget and then held against
 * its descriptor and one table of limits (limits.c): UTF-8, no NUL, lengths, counts, known enum values, and
 * the fields that must be there. Nothing behind the border checks these again. Reading allocates from the
 * caller's arena only.
 */
#ifndef CLM_WIRE_WIRE_H
#define CLM_WIRE_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"

#define WIRE_BODY_MAX (512 * 1024)

/* Unpacks and checks; memory from the arena, at most 8 × len + 64 KiB of it. INVALID_ARGUMENT names the
 * field: `RegisterAgentRequest.hostname: longer than 253 bytes`. */
enum code wire_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
                      struct arena *arena, ProtobufCMessage **ret, struct status *st) MUST_CHECK;
/* The check alone, for a message that came another way. */
enum code wire_check(const ProtobufCMessage *msg, struct status *st) MUST_CHECK;
/* Puts '?' for every byte of its texts, and of what it holds, that is no printable UTF-8, and cuts what is
 * longer than its limit. The texts are copied into the arena. For messages of this project: not recursive. */
void wire_clean(ProtobufCMessage *msg, struct arena *arena);
/* Packs into the arena. */
void wire_pack(const ProtobufCMessage *msg, struct arena *arena, const uint8_t **ret, size_t *ret_len);

/* JSON (lowerCamelCase). Times (`*_at_ms`) are RFC 3339 under `*At`; bytes are base64; enums are names;
 * 64-bit numbers are numbers up to 2^53 and strings beyond; absent fields are absent, repeated fields always
 * there. */
enum code json_write(const ProtobufCMessage *msg, struct buf *out, struct status *st) MUST_CHECK;
/* Parses an object of at most len bytes; unknown fields, wrong types, duplicates and bad text are refused
 * with their path: `spec.renew.target: expected a string`; null counts as absent, an empty body as {}. Then
 * the limits, but for required fields of the outermost message: those may come from the path or the query.
 * Call wire_check when all parameters are set. */
enum code json_read(const ProtobufCMessageDescriptor *desc, const char *text, size_t len, struct arena *arena,
                    ProtobufCMessage **ret, struct status *st) MUST_CHECK;
/* The two halves of json_read, for who fills in more fields (of a path, a header) between them. */
enum code json_parse(const ProtobufCMessageDescriptor *desc, const char *text, size_t len,
                     struct arena *arena, ProtobufCMessage **ret, struct status *st) MUST_CHECK;
enum code json_check_message(const ProtobufCMessage *msg, struct status *st) MUST_CHECK;
/* Nothing follows any more: what the message needs is there. */
enum code json_check_whole(const ProtobufCMessage *msg, struct status *st) MUST_CHECK;
/* The same, but passes over unknown fields: for answers of a platform that may be newer than we are. */
enum code json_read_lenient(const ProtobufCMessageDescriptor *desc, const char *text, size_t len,
                            struct arena *arena, ProtobufCMessage **ret, struct status *st) MUST_CHECK;
/* Sets one field from text (a path or query parameter): scalars, enums, and one more element of a repeated
 * field. */
enum code json_set_field(ProtobufCMessage *msg, const char *json_name, const char *text, struct arena *arena,
                         struct status *st) MUST_CHECK;
/* The lowerCamelCase name of a field, as it stands in JSON (`created_at_ms` → `createdAt`). */
void json_field_name(const ProtobufCFieldDescriptor *field, char out[64]);
/* JSON Schema (2020-12 subset used by OpenAPI 3.1) of a message and all that it refers to, as members of the
 * JSON object that `out` is building: `"RegisterAgentRequest":{…},"Label":{…}`. `seen` holds names already
 * written. */
enum code json_schema(const ProtobufCMessageDescriptor *desc, struct buf *out, const char **seen,
                      size_t seen_max, size_t *n_seen, struct status *st) MUST_CHECK;
/* The schema of one value of a field alone, of an element where it is repeated. */
bool json_schema_value(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *field,
                       struct buf *out) MUST_CHECK;
/* Escaped JSON string with quotes; what is not UTF-8 in it (an error message may quote a peer) becomes
 * U+FFFD. */
bool json_quote(struct buf *out, const char *text) MUST_CHECK;

/* RFC 4648 section 4, with padding. */
bool base64_put(struct buf *out, const void *data, size_t len) MUST_CHECK;
/* Memory from the arena; false for what is no base64. */
bool base64_get(const char *text, struct arena *arena, uint8_t **ret, size_t *ret_len) MUST_CHECK;

/* A document of somebody else's (an API that we are a client of), of which a few texts matter: each is found
 * by the names that lead to it. Absent or null: NULL. INVALID_ARGUMENT: no JSON, or something else there than
 * a text. */
#define JSON_PICK_DEPTH 3
struct json_pick {
    const char *path[JSON_PICK_DEPTH]; /* ended by NULL if shorter */
    char *text;                        /* found; memory from the arena */
};
enum code json_pick_texts(const char *text, size_t len, struct json_pick *picks, size_t n,
                          struct arena *arena, struct status *st) MUST_CHECK;

/* RFC 3629: no overlong forms, no surrogates. */
bool wire_utf8_valid(const char *text);

/* One row of limits.c: field is "Message.field" without the package. */
struct wire_limit {
    const char *field;
    bool required;
    uint32_t min_len, max_len;       /* bytes of each string or bytes value; max 0: the default */
    uint32_t max_count;              /* of a repeated field; 0: the default */
    bool (*valid)(const char *text); /* of each string; may be NULL */
    const char *expected;            /* "a UUID": said when !valid */
};
#define WIRE_DEFAULT_STRING_MAX 1024
#define WIRE_DEFAULT_BYTES_MAX  (64 * 1024)
#define WIRE_DEFAULT_COUNT_MAX  1000
extern const struct wire_limit wire_limits[]; /* ended by field NULL */

#endif
