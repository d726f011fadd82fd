/*
 * The signed headers of a message on the bus. The first byte chooses the header, 'a': an assertion, 'u': an
 * authority; the second: '=': the rest is the header as it came; any other: the rest is patches over a good
 * one made in this run. Whatever is accepted says what was signed. 'h': the rest is a header's text in a
 * message.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bus/internal.h"
#include "messages.h"
#include "support/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW        ((int64_t)1795478400000)
#define SUBJECT    "clm.rpc.tasks.CreateTask"
#define MESSAGE_ID "0192f0c1-2345-7abc-8def-0123456789ab"
static const uint8_t body[] = "a request";

static const struct actor operator_ = {
    .id = "api-key:1", .name = "Alice", .roles = ROLES_OPERATOR, .label_selector = "env=test"};

/* Kept for the process: its arena is never freed. */
static struct bytes good(bool assertion)
{
    static struct bytes made[2];
    struct bytes *ret = &made[assertion];
    if (!ret->data) {
        struct status st;
        static struct arena *arena;
        arena = arena ? arena : arena_new();
        struct bytes content = {body, sizeof(body)};
        enum code code = assertion
                             ? assertion_make(identity_of("registry"), &operator_, 60000, arena, ret, &st)
                             : authority_make(identity_of("gateway"), SUBJECT, MESSAGE_ID, NOW + 5000,
                                              content, arena, ret, &st);
        if (code != CODE_OK)
            abort();
    }
    return *ret;
}

static void try_assertion(struct bytes header, bool must_pass)
{
    struct status st = {0};
    struct actor actor = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    if (assertion_verify(identity_of("tasks"), header, arena, &actor, &st) != CODE_OK) {
        if (must_pass || st.code != CODE_UNAUTHENTICATED || actor.roles || actor.id)
            abort();
        return;
    }
    if (actor.roles != operator_.roles || strcmp(actor.id, operator_.id) != 0 ||
        strcmp(actor.name, operator_.name) != 0 ||
        strcmp(actor.label_selector, operator_.label_selector) != 0)
        abort();
}

static void try_authority(struct bytes header, bool must_pass)
{
    struct status st = {0};
    char service[64];
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes content = {body, sizeof(body)}, other = {body, sizeof(body) - 1};
    if (authority_verify(identity_of("tasks"), header, SUBJECT, MESSAGE_ID, other, arena, service, &st) ==
        CODE_OK)
        abort();
    if (authority_verify(identity_of("tasks"), header, SUBJECT, MESSAGE_ID, content, arena, service, &st) !=
        CODE_OK) {
        if (must_pass || st.code != CODE_UNAUTHENTICATED || service[0])
            abort();
    } else if (strcmp(service, "gateway") != 0) {
        abort();
    }
}

static void try_text(const uint8_t *data, size_t size)
{
    struct status st;
    struct bytes value;
    struct event_message event;
    natsMsg *msg = NULL;
    static bool opened;
    if (!opened && nats_Open(-1) != NATS_OK)
        abort();
    opened = true;
    AUTO_ARENA struct arena *arena = arena_new();
    const char *text = arena_strndup(arena, (const char *)data, size);
    if (natsMsg_Create(&msg, SUBJECT, NULL, (const char *)body, sizeof(body)) != NATS_OK ||
        natsMsgHeader_Set(msg, HEADER_AUTHORITY, text) != NATS_OK)
        abort();
    if (header_decode(msg, HEADER_AUTHORITY, arena, &value, &st) == CODE_OK) {
        const char *again = header_encode(value, arena);
        if (strlen(again ? again : "") != strlen(text))
            abort();
    }
    event_message_read(msg, arena, &event);
    if (event.body.len != sizeof(body))
        abort();
    natsMsg_Destroy(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (data[0] == 'h') {
        try_text(data + 1, size - 1);
        return 0;
    }
    clock_fake(NOW);
    bool assertion = data[0] == 'a', raw = data[1] == '=';
    struct bytes from = raw ? (struct bytes){data + 2, size - 2} : good(assertion);
    uint8_t *header = malloc(from.len + 1);
    if (!header)
        abort();
    memcpy(header, from.data, from.len);
    if (!raw)
        bytes_patch(header, from.len, data + 2, size - 2);
    (assertion ? try_assertion : try_authority)((struct bytes){header, from.len}, !raw && size < 5);
    free(header);
    return 0;
}
