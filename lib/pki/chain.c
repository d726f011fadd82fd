/*
 * Chains: order and verification. OpenSSL builds and checks the path; what a certificate may be used for
 * under our own EKUs is checked here. Any thread.
 */
#include <string.h>

#include "base/clock.h"
#include "pki/ossl.h"

#define CHAIN_DEPTH_MAX 6
/* OpenSSL's level 2: 112 bits of security, so no SHA-1 signatures and no RSA below 2,048 bits. */
#define AUTH_LEVEL 2

static enum code check_key_usage(X509 *leaf, enum pki_purpose purpose, struct status *st)
{
    uint32_t usage = X509_get_key_usage(leaf);
    if (!(usage & KU_DIGITAL_SIGNATURE))
        return status_set(st, CODE_UNAUTHENTICATED, "certificate's key usage lacks digitalSignature");
    if (purpose == PURPOSE_AGENT_TASK && !(usage & KU_KEY_AGREEMENT))
        return status_set(st, CODE_UNAUTHENTICATED, "certificate's key usage lacks keyAgreement");
    return CODE_OK;
}

DEFINE_CLEANUP(eku, EXTENDED_KEY_USAGE *, EXTENDED_KEY_USAGE_free)

enum eku_result { EKU_ABSENT, EKU_HELD, EKU_LACKING, EKU_MALFORMED };

static enum eku_result eku_holds(const X509 *cert, enum pki_purpose purpose)
{
    int crit = -1;
    CLEANUP(cleanup_eku) EXTENDED_KEY_USAGE *eku = X509_get_ext_d2i(cert, NID_ext_key_usage, &crit, NULL);
    ossl_forget();
    if (!eku)
        return crit == -1 ? EKU_ABSENT : EKU_MALFORMED;
    AUTO_ASN1_OBJECT ASN1_OBJECT *wanted = oid_of_purpose(purpose);
    for (int i = 0; i < sk_ASN1_OBJECT_num(eku); i++)
        if (OBJ_cmp(sk_ASN1_OBJECT_value(eku, i), wanted) == 0)
            return EKU_HELD;
    return EKU_LACKING;
}

enum code purpose_check(X509 *leaf, enum pki_purpose purpose, struct status *st)
{
    if (!purpose_is_own(purpose))
        return CODE_OK; /* serverAuth is OpenSSL's check, made while it builds the chain */
    if (eku_holds(leaf, purpose) != EKU_HELD)
        return status_set(st, CODE_UNAUTHENTICATED, "certificate lacks extended key usage %s",
                          pki_purpose_oid(purpose));
    if (X509_get_extension_flags(leaf) & EXFLAG_CA)
        return status_set(st, CODE_UNAUTHENTICATED, "a CA certificate cannot act as an end entity");
    TRY(check_key_usage(leaf, purpose, st));
    struct spiffe_id id;
    if (spiffe_of_x509(leaf, &id, st) != CODE_OK) {
        if (st)
            st->code = CODE_UNAUTHENTICATED;
        return CODE_UNAUTHENTICATED;
    }
    return CODE_OK;
}

/* A CA that names extended key usages issues for these only (nested EKU, as CA/Browser Baseline
 * Requirements 7.1.2). */
static enum code check_issuers(const STACK_OF(X509) * chain, enum pki_purpose purpose, struct status *st)
{
    if (!purpose_is_own(purpose))
        return CODE_OK;
    for (int i = 1; i < sk_X509_num(chain); i++) {
        enum eku_result result = eku_holds(sk_X509_value(chain, i), purpose);
        if (result == EKU_HELD || result == EKU_ABSENT)
            continue;
        char subject[160];
        ossl_name_text(X509_get_subject_name(sk_X509_value(chain, i)), subject, sizeof(subject));
        return status_set(st, CODE_UNAUTHENTICATED, "CA %s may not issue for extended key usage %s", subject,
                          pki_purpose_oid(purpose));
    }
    return CODE_OK;
}

enum code validity_check(const X509 *cert, int64_t at_ms, struct status *st)
{
    int64_t from = 0;
    int64_t until = 0;
    char subject[160];
    char date[CLOCK_RFC3339_SIZE];
    ossl_name_text(X509_get_subject_name(cert), subject, sizeof(subject));
    if (!ossl_time_ms(X509_get0_notBefore(cert), &from) || !ossl_time_ms(X509_get0_notAfter(cert), &until))
        return status_set(st, CODE_UNAUTHENTICATED, "certificate's validity is malformed, subject %s",
                          subject);
    if (at_ms < from) {
        clock_format_rfc3339(from, date);
        return status_set(st, CODE_UNAUTHENTICATED, "certificate is not valid before %s, subject %s", date,
                          subject);
    }
    /* As OpenSSL reads it: over at the second that notAfter names. */
    if (at_ms >= until) {
        clock_format_rfc3339(until, date);
        return status_set(st, CODE_UNAUTHENTICATED, "certificate expired on %s, subject %s", date, subject);
    }
    return CODE_OK;
}

static enum code explain(X509_STORE_CTX *ctx, int64_t at_ms, struct status *st)
{
    int error = X509_STORE_CTX_get_error(ctx);
    int depth = X509_STORE_CTX_get_error_depth(ctx);
    const X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
    ossl_forget();
    char subject[160] = "(none)";
    if (cert)
        ossl_name_text(X509_get_subject_name(cert), subject, sizeof(subject));
    if (cert && (error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID)) {
        if (validity_check(cert, at_ms, st) != CODE_OK)
            return CODE_UNAUTHENTICATED;
    }
    return status_set(st, CODE_UNAUTHENTICATED,
                      "certificate chain does not verify: %s at depth %d, subject %s",
                      X509_verify_cert_error_string(error), depth, subject);
}

static void set_rules(X509_STORE_CTX *ctx, enum pki_purpose purpose, int64_t at_ms)
{
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)(at_ms / 1000));
    X509_VERIFY_PARAM_set_depth(param, CHAIN_DEPTH_MAX);
    X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
    /* Other people's public hierarchies have old roots that fail the strict reading; ours have none. */
    if (purpose_is_own(purpose))
        (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    if (purpose == PURPOSE_TLS_SERVER)
        (void)X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
}

static int64_t earliest_end(const STACK_OF(X509) * chain)
{
    int64_t earliest = INT64_MAX;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        int64_t until = 0;
        if (ossl_time_ms(X509_get0_notAfter(sk_X509_value(chain, i)), &until) && until < earliest)
            earliest = until;
    }
    return earliest;
}

enum code chain_verify_x509(X509 *leaf, STACK_OF(X509) * intermediates, const STACK_OF(X509) * roots,
                            enum pki_purpose purpose, int64_t at_ms, int64_t *ret_until_ms, struct status *st)
{
    if (sk_X509_num(roots) <= 0)
        return status_set(st, CODE_UNAUTHENTICATED, "no trusted root certificate to verify against");
    TRY(purpose_check(leaf, purpose, st));
    AUTO_X509_STORE X509_STORE *store = MUST(X509_STORE_new());
    for (int i = 0; i < sk_X509_num(roots); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(roots, i)) != 1)
            return ossl_fail(st, CODE_INTERNAL, "cannot use root certificate %d", i + 1);
    AUTO_X509_STORE_CTX X509_STORE_CTX *ctx = MUST(X509_STORE_CTX_new());
    if (X509_STORE_CTX_init(ctx, store, leaf, intermediates) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot verify a certificate chain");
    set_rules(ctx, purpose, at_ms);
    if (X509_verify_cert(ctx) != 1)
        return explain(ctx, at_ms, st);
    ossl_forget();
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    TRY(check_issuers(chain, purpose, st));
    if (ret_until_ms)
        *ret_until_ms = earliest_end(chain);
    return CODE_OK;
}

enum code chain_verify(struct bytes leaf, const struct der_list *intermediates, const struct der_list *roots,
                       enum pki_purpose purpose, int64_t at_ms, struct status *st)
{
    AUTO_X509 X509 *cert = NULL;
    AUTO_X509_STACK STACK_OF(X509) *middle = NULL;
    AUTO_X509_STACK STACK_OF(X509) *top = NULL;
    TRY(ossl_parse_cert(leaf, &cert, st));
    if (ossl_parse_certs(intermediates, &middle, st) != CODE_OK)
        return status_wrap(st, "intermediates");
    if (ossl_parse_certs(roots, &top, st) != CODE_OK)
        return status_wrap(st, "roots");
    return chain_verify_x509(cert, middle, top, purpose, at_ms, NULL, st);
}

static bool issued(X509 *issuer, X509 *subject)
{
    bool yes = issuer != subject && X509_check_issued(issuer, subject) == X509_V_OK;
    ossl_forget();
    return yes;
}

/* Position of the only certificate that issued none of the others; -1 if there is no such one, or several. */
static int find_leaf(const STACK_OF(X509) * certs)
{
    int leaf = -1;
    for (int i = 0; i < sk_X509_num(certs); i++) {
        bool issuer = false;
        for (int j = 0; j < sk_X509_num(certs); j++)
            issuer = issuer || issued(sk_X509_value(certs, i), sk_X509_value(certs, j));
        if (issuer)
            continue;
        if (leaf >= 0)
            return -1;
        leaf = i;
    }
    return leaf;
}

static void drop_duplicates(STACK_OF(X509) * certs)
{
    for (int i = 0; i < sk_X509_num(certs); i++) {
        for (int j = sk_X509_num(certs) - 1; j > i; j--) {
            if (X509_cmp(sk_X509_value(certs, i), sk_X509_value(certs, j)) == 0)
                X509_free(sk_X509_delete(certs, j));
        }
    }
}

static X509 *take_issuer(STACK_OF(X509) * certs, X509 *subject)
{
    for (int i = 0; i < sk_X509_num(certs); i++)
        if (issued(sk_X509_value(certs, i), subject))
            return sk_X509_delete(certs, i);
    return NULL;
}

enum code chain_order(const struct der_list *certs, struct der_list *ret, struct status *st)
{
    AUTO_X509_STACK STACK_OF(X509) *rest = NULL;
    AUTO_X509_STACK STACK_OF(X509) *chain = MUST(sk_X509_new_null());
    TRY(ossl_parse_certs(certs, &rest, st));
    drop_duplicates(rest);
    int leaf = find_leaf(rest);
    if (leaf < 0)
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "%zu certificates form no chain: there is not exactly one leaf", certs->n);
    for (X509 *next = sk_X509_delete(rest, leaf); next; next = take_issuer(rest, next))
        if (sk_X509_push(chain, next) <= 0)
            abort();
    if (sk_X509_num(rest) > 0) {
        char subject[160];
        ossl_name_text(X509_get_subject_name(sk_X509_value(rest, 0)), subject, sizeof(subject));
        return status_set(st, CODE_INVALID_ARGUMENT, "certificate %s is no part of the chain", subject);
    }
    AUTO_DER_LIST struct der_list ordered = {0};
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *cert = sk_X509_value(chain, i);
        if (i > 0 && X509_self_signed(cert, 0) == 1)
            continue;
        AUTO_DER struct der der = {0};
        TRY(ossl_cert_der(cert, &der, st));
        TRY(der_list_add(&ordered, der_bytes(&der), st));
    }
    ossl_forget();
    *ret = ordered;
    ordered.n = 0;
    return CODE_OK;
}
