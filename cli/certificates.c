/* `clmctl certificates …`. */
#include "cli/view.h"
#include "proto/registry.pb-c.h"

static const struct cli_option list_options[] = {
    {"expires-before", "TIME", "only those that end before: 2027-01-31T00:00:00Z", OPTION_TEXT,
     .param = "expiresBeforeAt"},
    {"issuer", "TEXT", "only with this in the issuer's name", OPTION_TEXT, .param = "issuer"},
    {"key", "TYPE", "only of this key: RSA, \"RSA 2048\", \"EC P-256\", Ed25519", OPTION_TEXT,
     .param = "keyType"},
    {"name", "NAME", "only with this DNS name, or with this in the subject", OPTION_TEXT, .param = "name"},
    {"agent", "ID", "only on this agent's host", OPTION_TEXT, .param = "agentId"},
    {"served", "true|false", "only those that are served, or that are not", OPTION_TEXT, .param = "served"},
    {"fingerprint", "SHA256", "only this certificate", OPTION_TEXT, .param = "fingerprintSha256"},
    LIST_OPTIONS,
    {.name = NULL},
};

static const struct column columns[] = {
    {"UNTIL", "certificate.not_after_at_ms", false},
    {"SERVED", "served", false},
    {"PLACES", "place_count", false},
    {"HOSTS", "agent_count", false},
    {"SUBJECT", "certificate.subject", false},
    {"ISSUER", "certificate.issuer", false},
    {"SHA-256", "certificate.fingerprint_sha256", false},
    {"NAMES", "certificate.dns_names", true},
    {"KEY", "certificate.key_type", true},
    {.heading = NULL},
};

const struct command certificates_commands[] = {
    {.group = "certificates",
     .name = "list",
     .summary = "List the certificates that hosts have, those that end first come first; -o json says where",
     .options = list_options,
     .listing = &(const struct listing){"/api/v1/certificates", &clm__list_certificates_response__descriptor,
                                        "certificates", columns}},
    {.name = NULL},
};
