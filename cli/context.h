/*
 * Which platform, trusted how, and as whom. From ~/.config/clmctl/config (or $CLMCTL_CONFIG):
 *
 *   [clmctl]
 *   context = dev
 *   [context dev]
 *   url = https://localhost:8443
 *   ca = roots.pem                 relative to the file
 *   api_key_file = admin.key       0600
 *
 * $CLMCTL_CONTEXT, $CLMCTL_URL, $CLMCTL_CA, $CLMCTL_API_KEY_FILE and $CLMCTL_API_KEY win over the file. The
 * key is never an argument: other users of the machine can read those.
 */
#ifndef CLM_CLI_CONTEXT_H
#define CLM_CLI_CONTEXT_H

#include <stdbool.h>

#include "base/secret.h"
#include "base/status.h"

struct context {
    char *url;              /* without a slash at the end */
    char *ca;               /* NULL: the system's roots */
    struct secret *api_key; /* NULL: none is known */
};

/* name NULL: $CLMCTL_CONTEXT, else the file's own choice. FAILED_PRECONDITION says what to write where. */
enum code context_load(const char *name, struct context *ret, struct status *st) MUST_CHECK;
void context_done(struct context *context);

/* Calls each for every context of the file, in its order. */
enum code contexts_each(void (*each)(const char *name, const char *url, bool current, void *arg), void *arg,
                        struct status *st) MUST_CHECK;
/* Makes it the file's choice; the rest of the file stays as it is. NOT_FOUND. */
enum code context_use(const char *name, struct status *st) MUST_CHECK;

#endif
