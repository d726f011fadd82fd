/*
 * Certificates and bundles that lie on a host or that an endpoint serves, as the confined children look at
 * them. What they say must pass the limits that the parent holds it against: one odd certificate would hide
 * all of its batch.
 */
#include <stdlib.h>
#include <string.h>

#include "kinds/judge.h"
#include "wire/wire.h"

#define NOW ((int64_t)1795478400000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_fit(const Clm__Agent__Facts *facts)
{
    struct status st;
    if (wire_check(&facts->base, &st) == CODE_OK)
        return;
    (void)fprintf(stderr, "%s\n", st.msg);
    abort();
}

static void find(struct bytes bytes)
{
    struct status st = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__Agent__Facts facts = CLM__AGENT__FACTS__INIT;
    if (confine_add_cert(&facts, arena, bytes, 0, true, &st) != CODE_OK)
        confine_pem(&bytes, arena, &facts);
    must_fit(&facts);
}

/* The DER as what an endpoint serves, the same bytes as the file's text. */
static void judge(struct bytes bytes)
{
    AUTO_ARENA struct arena *arena = arena_new();
    Clm__Agent__Facts facts = CLM__AGENT__FACTS__INIT;
    struct der_list served = {.item = {{arena_dup(arena, bytes.data, bytes.len), bytes.len}}, .n = 1};
    struct judge_sound sound = {.pem = bytes,
                                .server_name = "www.example.com",
                                .endpoint = "127.0.0.1:443",
                                .connected = true,
                                .tls = true,
                                .protocol = "TLSv1.3",
                                .served = &served,
                                .now_ms = NOW};
    judge_sound(&sound, arena, &facts);
    must_fit(&facts);
    sound.pem.len = 0;
    Clm__Agent__Facts served_only = CLM__AGENT__FACTS__INIT;
    judge_sound(&sound, arena, &served_only);
    must_fit(&served_only);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = {data, size};
    if (size == 0)
        return 0;
    find(bytes);
    judge(bytes);
    return 0;
}
