/* What `clmctl tasks run` asks for: options of the command line, by a table, into the request. Pure but for
 * the chain's file. */
#ifndef CLM_CLI_ORDER_H
#define CLM_CLI_ORDER_H

#include "cli/command.h"

struct Clm__CreateTaskRequest;

#define ORDER_OPTIONS                                                                                        \
    {"agent", "ID", "the agent that shall do it", .type = OPTION_TEXT},                                      \
        {"target", "NAME", "renew, validate, deploy: a [target …] of the host's local policy",               \
         .type = OPTION_TEXT},                                                                               \
        {"dns", "NAME", "renew: the names of the new certificate (default: those of the present one)",       \
         .type = OPTION_LIST},                                                                               \
        {"key-type", "TYPE", "renew: ec_p256 (the default), ec_p384, rsa_2048, rsa_3072",                    \
         .type = OPTION_TEXT},                                                                               \
        {"reuse-key", NULL, "renew: keep the present key", .type = OPTION_FLAG},                             \
        {"life", "SECONDS", "renew: a wish; the issuer's profile decides", .type = OPTION_TEXT},             \
        {"chain", "FILE", "deploy: the certificate chain to install, PEM, leaf first", .type = OPTION_TEXT}, \
        {"key-path", "PATH", "deploy: the key on the host (default: the target's present one)",              \
         .type = OPTION_TEXT},                                                                               \
        {"certificate", "PATH", "validate: a certificate file on the host", .type = OPTION_TEXT},            \
        {"endpoint", "HOST:PORT", "validate: an endpoint that the host can reach", .type = OPTION_TEXT},     \
        {"server-name", "NAME",                                                                              \
         "validate: the name to ask the endpoint for (default: the certificate's first); discover: of "      \
         "ranges, beside none",                                                                              \
         .type = OPTION_LIST},                                                                               \
        {"fingerprint", "SHA-256", "validate: what should be served", .type = OPTION_TEXT},                  \
        {"starttls", "PROTOCOL",                                                                             \
         "validate: spoken before TLS: none, smtp, imap, pop3, ldap, postgresql (default: by the port)",     \
         .type = OPTION_TEXT},                                                                               \
        {"root", "DIR", "discover: a directory to search (default: the policy's discovery roots)",           \
         .type = OPTION_LIST},                                                                               \
        {"range", "NETWORK", "discover: addresses to look at: 10.1.0.0/24, 2001:db8::1, a name",             \
         .type = OPTION_LIST},                                                                               \
        {"port", "PORT", "discover: ports of the ranges", .type = OPTION_LIST},                              \
        {"no-files", NULL, "discover: leave out files", .type = OPTION_FLAG},                                \
        {"no-listening", NULL, "discover: leave out listening sockets", .type = OPTION_FLAG},                \
        {"no-configurations", NULL, "discover: leave out the configuration of known servers",                \
         .type = OPTION_FLAG},                                                                               \
        {"max-certificates", "N", "discover: at most so many (default 10000)", .type = OPTION_TEXT},         \
        {"priority", "N", "0 to 9, higher first (default 5)", .type = OPTION_TEXT},                          \
        {"deadline", "SECONDS", "after that it is not begun any more (default a day)", .type = OPTION_TEXT}, \
        {"max-attempts", "N", "executions, when it fails for a reason that may pass (default 3)",            \
         .type = OPTION_TEXT},                                                                               \
        {"not-before", "TIME", "not begun before this, RFC 3339", .type = OPTION_TEXT},                      \
        {"after", "TASK", "only after this task succeeded", .type = OPTION_LIST},                            \
        {"idempotency-key", "KEY", "the same key gives the same task", .type = OPTION_TEXT},                 \
    {                                                                                                        \
        "break-glass", NULL,                                                                                 \
            "the one change for an agent in safe mode; needs the role admin, and the host's policy",         \
            .type = OPTION_FLAG                                                                              \
    }

/* Memory from the arena. INVALID_ARGUMENT names the option that is missing, does not go with the kind, or is
 * wrong. */
enum code order_read(const struct cli_args *args, struct arena *arena, struct Clm__CreateTaskRequest **ret,
                     struct status *st) MUST_CHECK;

#endif
