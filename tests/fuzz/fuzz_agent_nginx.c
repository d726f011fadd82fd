/*
 * What `nginx -T` printed, or what stands in the files of a host: text of anyone who may write a site's file.
 * What is found must pass the limits that the parent holds it against, or one odd file would hide all others.
 */
#include <stdlib.h>
#include <string.h>

#include "presets/nginx.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st;
    AUTO_ARENA struct arena *arena = arena_new();
    struct bytes dump = {data, size};
    Clm__Agent__Facts facts = CLM__AGENT__FACTS__INIT;
    nginx_parse(&dump, arena, &facts);
    for (size_t i = 0; i < facts.n_servers; i++) {
        const Clm__Agent__ServerFacts *server = facts.servers[i];
        if (!server->certificate || !server->key || server->n_listens == 0)
            abort();
    }
    if (wire_check(&facts.base, &st) != CODE_OK) {
        (void)fprintf(stderr, "%s\n", st.msg);
        abort();
    }
    return 0;
}
