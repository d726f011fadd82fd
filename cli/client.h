/*
 * REST from a terminal: HTTPS through libcurl, verified, bounded, never redirected. Bodies are the messages
 * of proto/ in their JSON form. One thread.
 */
#ifndef CLM_CLI_CLIENT_H
#define CLM_CLI_CLIENT_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "cli/context.h"

struct client;
/* Borrows the context. */
enum code client_new(const struct context *context, struct client **ret, struct status *st) MUST_CHECK;
void client_free(struct client *client);
/* Whether anything was sent: an error before that is about the command line. */
bool client_asked(const struct client *client);

/* A path with query parameters, escaped. value NULL leaves the parameter out. */
void client_query(struct buf *path, const char *name, const char *value);

/* Sends body (NULL: none) and reads the answer as `desc` into *ret (arena). *ret_text is the answer as it
 * came, when not NULL. An error answer becomes its problem's title and detail, with the code nearest to its
 * HTTP status; no answer is UNAVAILABLE. */
enum code client_call(struct client *client, const char *method, const char *path,
                      const ProtobufCMessage *body, const ProtobufCMessageDescriptor *desc,
                      struct arena *arena, ProtobufCMessage **ret, const char **ret_text,
                      struct status *st) MUST_CHECK;

/* An answer without an end, handed over as it comes; on_data says whether to go on. last_event_id "" is left
 * out. CODE_OK when the server or on_data ended it. */
enum code client_stream(struct client *client, const char *path, const char *last_event_id,
                        bool (*on_data)(const char *data, size_t len, void *arg), void *arg,
                        struct status *st) MUST_CHECK;

#endif
