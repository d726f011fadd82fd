/*
 * Configurations of the servers that the agent knows: text of anyone who may write a site's file. The first
 * byte chooses the reader, the rest is its files. What is found must pass the limits that the parent holds it
 * against, or one odd file would hide all others.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/presets/dump.h"
#include "base/endpoint.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_absolute(const char *path)
{
    if (path && path[0] != '/')
        abort();
}

static void check(const Clm__Agent__Facts *facts)
{
    struct status st;
    for (size_t i = 0; i < facts->n_servers; i++) {
        const Clm__Agent__ServerFacts *server = facts->servers[i];
        if (!server->certificate || !server->key || server->n_listens == 0)
            abort();
        must_be_absolute(server->certificate);
        must_be_absolute(server->key);
        must_be_absolute(server->chain);
        must_be_absolute(server->password_file);
        for (size_t n = 0; n < server->n_listens; n++) {
            struct endpoint at;
            if (endpoint_split(server->listens[n], &at, &st) != CODE_OK)
                abort();
        }
    }
    for (size_t i = 0; i < facts->n_wants; i++)
        must_be_absolute(facts->wants[i]);
    if (wire_check(&facts->base, &st) != CODE_OK) {
        (void)fprintf(stderr, "%s\n", st.msg);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = 0;
    while (presets[n].name)
        n++;
    if (size == 0)
        return 0;
    AUTO_ARENA struct arena *arena = arena_new();
    struct conf *conf = dump_conf("/etc/server/main.conf", (const char *)data + 1, size - 1, arena);
    Clm__Agent__Facts facts = CLM__AGENT__FACTS__INIT;
    presets[(data[0] - '0') % n].read(conf, arena, &facts);
    check(&facts);
    return 0;
}
