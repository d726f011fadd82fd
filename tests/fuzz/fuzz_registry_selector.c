/* An operator's label selector. What holds for it must hold term by term. */
#include <stdlib.h>
#include <string.h>

#include "selector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st = {0};
    AUTO_ARENA struct arena *arena = arena_new();
    char *text = arena_strndup(arena, (const char *)data, size);
    struct label_terms terms;
    const struct agent nobody = {0};
    if (label_terms_read(text, NULL, 0, arena, &terms, &st) != CODE_OK) {
        if (!st.msg[0])
            abort();
        return 0;
    }
    if (label_terms_hold(&terms, &nobody) != (terms.n_pairs + terms.n_present == 0))
        abort();
    return 0;
}
