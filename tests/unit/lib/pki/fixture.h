/* A small PKI as the platform has it: one root, a CA a purpose, and end entities; keys are made at run time.
 */
#ifndef CLM_TESTS_PKI_FIXTURE_H
#define CLM_TESTS_PKI_FIXTURE_H

#include "cmocka_all.h"

#include "pki/cms.h"
#include "pki/issue.h"

#define HOUR_MS ((int64_t)3600 * 1000)
#define DAY_MS  (24 * HOUR_MS)

struct ca {
    struct issuer *issuer;
    struct der cert;
    struct der_list chain; /* what its end entities send along: its own certificate */
};

struct entity {
    struct key *key;
    struct der cert;
};

struct pki {
    int64_t now_ms;
    struct ca root, agents, services, envelopes, managed;
    struct der_list roots;
};

void pki_init(struct pki *pki, int64_t now_ms);
void pki_done(struct pki *pki);

/* A root of its own, or a CA under `parent`. */
void ca_init(struct ca *ca, struct ca *parent, const char *name, enum pki_purpose purpose, int64_t now_ms);
void ca_done(struct ca *ca);

/* An end entity named spiffe://test.example/<kind>/<name>, valid from an hour ago for 30 days. */
void entity_init(struct entity *entity, struct ca *ca, enum pki_purpose purpose, const char *kind,
                 const char *name, int64_t now_ms);
void entity_done(struct entity *entity);

#define assert_ok(expr, st)                                                                                  \
    do {                                                                                                     \
        if ((expr) != CODE_OK)                                                                               \
            fail_msg("%s: %s", #expr, (st)->msg);                                                            \
    } while (0)
#define assert_code(wanted, expr, st)                                                                        \
    do {                                                                                                     \
        enum code got_ = (expr);                                                                             \
        if (got_ != (wanted))                                                                                \
            fail_msg("%s: %s instead of %s: %s", #expr, code_name(got_), code_name(wanted),                  \
                     got_ == CODE_OK ? "-" : (st)->msg);                                                     \
    } while (0)
#define assert_says(st, text)                                                                                \
    do {                                                                                                     \
        if (!strstr((st)->msg, (text)))                                                                      \
            fail_msg("\"%s\" does not say \"%s\"", (st)->msg, (text));                                       \
    } while (0)

static inline struct bytes text_bytes(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

#endif
