/*
 * What a mail, directory or database server says before TLS. The first byte picks the protocol, each further
 * chunk is led by its length: a server decides how its words are cut.
 */
#include <stdlib.h>
#include <string.h>

#include "kinds/starttls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct starttls_talk talk;
    struct bytes send;
    if (size == 0)
        return 0;
    starttls_begin(&talk, (enum starttls)(1 + data[0] % STARTTLS_POSTGRESQL), &send);
    size_t total = 0;
    for (size_t at = 1; at < size;) {
        size_t n = 1 + data[at], left = size - ++at;
        n = n < left ? n : left;
        total += n;
        enum starttls_state state = starttls_feed(&talk, data + at, n, &send);
        at += n;
        if (total > STARTTLS_TOTAL_MAX && state != STARTTLS_REFUSED)
            abort();
        if (state == STARTTLS_REFUSED && (!talk.error[0] || strlen(talk.error) >= sizeof(talk.error)))
            abort();
        if (state == STARTTLS_READY && talk.n != 0)
            abort();
        if (state != STARTTLS_MORE)
            break;
    }
    return 0;
}
