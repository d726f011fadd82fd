/* Building CRLs. One thread an issuer at a time, as with certificates. */
#include "pki/crl.h"

#include "pki/issuer.h"

DEFINE_CLEANUP(crl, X509_CRL *, X509_CRL_free)
DEFINE_CLEANUP(revoked, X509_REVOKED *, X509_REVOKED_free)
DEFINE_CLEANUP(integer, ASN1_INTEGER *, ASN1_INTEGER_free)
DEFINE_CLEANUP(enumerated, ASN1_ENUMERATED *, ASN1_ENUMERATED_free)
DEFINE_CLEANUP(time, ASN1_TIME *, ASN1_TIME_free)

static enum code fail(struct status *st)
{
    return ossl_fail(st, CODE_INTERNAL, "cannot build a revocation list");
}

static enum code add_reason(X509_REVOKED *revoked, enum crl_reason reason, struct status *st)
{
    if (reason == CRL_UNSPECIFIED)
        return CODE_OK;
    CLEANUP(cleanup_enumerated) ASN1_ENUMERATED *value = MUST(ASN1_ENUMERATED_new());
    bool done = ASN1_ENUMERATED_set(value, (long)reason) == 1 &&
                X509_REVOKED_add1_ext_i2d(revoked, NID_crl_reason, value, 0, X509V3_ADD_DEFAULT) == 1;
    return done ? CODE_OK : fail(st);
}

static enum code add_entry(X509_CRL *crl, const struct crl_entry *entry, struct status *st)
{
    if (entry->serial_len == 0 || entry->serial_len > CRL_SERIAL_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "a serial of %zu octets: must be 1 to %u",
                          entry->serial_len, CRL_SERIAL_MAX);
    CLEANUP(cleanup_revoked) X509_REVOKED *revoked = MUST(X509_REVOKED_new());
    AUTO_BN BIGNUM *bn = MUST(BN_bin2bn(entry->serial, (int)entry->serial_len, NULL));
    CLEANUP(cleanup_integer) ASN1_INTEGER *serial = MUST(BN_to_ASN1_INTEGER(bn, NULL));
    CLEANUP(cleanup_time) ASN1_TIME *at = ASN1_TIME_set(NULL, (time_t)(entry->revoked_at_ms / 1000));
    if (!at || X509_REVOKED_set_serialNumber(revoked, serial) != 1 ||
        X509_REVOKED_set_revocationDate(revoked, at) != 1)
        return fail(st);
    TRY(add_reason(revoked, entry->reason, st));
    if (X509_CRL_add0_revoked(crl, revoked) != 1)
        return fail(st);
    revoked = NULL;
    return CODE_OK;
}

static enum code set_times(X509_CRL *crl, const struct crl_request *req, struct status *st)
{
    CLEANUP(cleanup_time) ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)(req->this_update_ms / 1000));
    CLEANUP(cleanup_time) ASN1_TIME *until = ASN1_TIME_set(NULL, (time_t)(req->next_update_ms / 1000));
    if (req->next_update_ms <= req->this_update_ms || !from || !until)
        return status_set(st, CODE_INVALID_ARGUMENT, "times of a revocation list out of range");
    bool done = X509_CRL_set1_lastUpdate(crl, from) == 1 && X509_CRL_set1_nextUpdate(crl, until) == 1;
    return done ? CODE_OK : fail(st);
}

static enum code add_extensions(X509_CRL *crl, const struct issuer *issuer, uint64_t number,
                                struct status *st)
{
    CLEANUP(cleanup_integer) ASN1_INTEGER *value = MUST(ASN1_INTEGER_new());
    bool done =
        ASN1_INTEGER_set_uint64(value, number) == 1 &&
        X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, issuer->akid, 0, X509V3_ADD_DEFAULT) == 1 &&
        X509_CRL_add1_ext_i2d(crl, NID_crl_number, value, 0, X509V3_ADD_DEFAULT) == 1;
    return done ? CODE_OK : fail(st);
}

enum code issuer_sign_crl(struct issuer *issuer, const struct crl_request *req, struct der *ret,
                          struct status *st)
{
    if (req->n > CRL_ENTRIES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "%zu revoked certificates: at most %u fit a list",
                          req->n, CRL_ENTRIES_MAX);
    CLEANUP(cleanup_crl) X509_CRL *crl = MUST(X509_CRL_new());
    if (X509_CRL_set_version(crl, X509_CRL_VERSION_2) != 1 ||
        X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->cert)) != 1)
        return fail(st);
    TRY(set_times(crl, req, st));
    for (size_t i = 0; i < req->n; i++)
        TRY(add_entry(crl, &req->entries[i], st));
    TRY(add_extensions(crl, issuer, req->number, st));
    (void)X509_CRL_sort(crl);
    if (X509_CRL_sign(crl, key_evp(issuer->key), issuer_digest(issuer)) <= 0)
        return fail(st);
    unsigned char *der = NULL;
    int len = i2d_X509_CRL(crl, &der);
    if (len <= 0)
        return fail(st);
    *ret = der_dup((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    return CODE_OK;
}
