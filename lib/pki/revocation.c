/* See revocation.h. */
#include "pki/revocation.h"

#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <string.h>

#include "base/clock.h"
#include "ossl.h"

#define SKEW_SEC 300

DEFINE_CLEANUP(ocsp_request, OCSP_REQUEST *, OCSP_REQUEST_free)
DEFINE_CLEANUP(ocsp_response, OCSP_RESPONSE *, OCSP_RESPONSE_free)
DEFINE_CLEANUP(ocsp_basic, OCSP_BASICRESP *, OCSP_BASICRESP_free)
DEFINE_CLEANUP(ocsp_id, OCSP_CERTID *, OCSP_CERTID_free)
DEFINE_CLEANUP(x509_crl, X509_CRL *, X509_CRL_free)
DEFINE_CLEANUP(access, AUTHORITY_INFO_ACCESS *, AUTHORITY_INFO_ACCESS_free)
DEFINE_CLEANUP(points, CRL_DIST_POINTS *, CRL_DIST_POINTS_free)

/* ---- where to ask ---- */

static void add_url(const GENERAL_NAME *name, char urls[][REVOCATION_URL_SIZE], size_t *n)
{
    if (name->type != GEN_URI || *n >= REVOCATION_URLS_MAX)
        return;
    const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
    int len = ASN1_STRING_length(uri);
    const char *text = (const char *)ASN1_STRING_get0_data(uri);
    if (len < 8 || len >= REVOCATION_URL_SIZE || strncasecmp(text, "http://", 7) != 0)
        return;
    for (int i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return;
    }
    memcpy(urls[*n], text, (size_t)len);
    urls[(*n)++][len] = 0;
}

enum code revocation_sources(struct bytes cert, struct revocation_sources *ret, struct status *st)
{
    memset(ret, 0, sizeof(*ret));
    AUTO_X509 X509 *x509 = NULL;
    TRY(ossl_parse_cert(cert, &x509, st));
    CLEANUP(cleanup_access)
    AUTHORITY_INFO_ACCESS *access = X509_get_ext_d2i(x509, NID_info_access, NULL, NULL);
    for (int i = 0; access && i < sk_ACCESS_DESCRIPTION_num(access); i++) {
        const ACCESS_DESCRIPTION *row = sk_ACCESS_DESCRIPTION_value(access, i);
        if (OBJ_obj2nid(row->method) == NID_ad_OCSP)
            add_url(row->location, ret->ocsp, &ret->n_ocsp);
    }
    CLEANUP(cleanup_points)
    CRL_DIST_POINTS *points = X509_get_ext_d2i(x509, NID_crl_distribution_points, NULL, NULL);
    for (int i = 0; points && i < sk_DIST_POINT_num(points); i++) {
        const DIST_POINT_NAME *name = sk_DIST_POINT_value(points, i)->distpoint;
        for (int k = 0; name && name->type == 0 && k < sk_GENERAL_NAME_num(name->name.fullname); k++)
            add_url(sk_GENERAL_NAME_value(name->name.fullname, k), ret->crl, &ret->n_crl);
    }
    ossl_forget();
    return CODE_OK;
}

/* ---- OCSP ---- */

enum code ocsp_request_make(struct bytes cert, struct bytes issuer, struct der *ret, struct status *st)
{
    AUTO_X509 X509 *subject = NULL;
    AUTO_X509 X509 *ca = NULL;
    TRY(ossl_parse_cert(cert, &subject, st));
    TRY(ossl_parse_cert(issuer, &ca, st));
    CLEANUP(cleanup_ocsp_request) OCSP_REQUEST *request = OCSP_REQUEST_new();
    CLEANUP(cleanup_ocsp_id) OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), subject, ca);
    if (!request || !id || !OCSP_request_add0_id(request, id))
        return ossl_fail(st, CODE_INTERNAL, "cannot make an OCSP request");
    id = NULL;
    if (!OSSL_TO_DER(i2d_OCSP_REQUEST, request, ret))
        return ossl_fail(st, CODE_INTERNAL, "cannot make an OCSP request");
    return CODE_OK;
}

/* Is this moment between the two, give or take a few minutes? */
static bool is_current(const ASN1_TIME *from, const ASN1_TIME *until, int64_t at_ms)
{
    int64_t from_ms, until_ms;
    if (!from || !ossl_time_ms(from, &from_ms) || from_ms > at_ms + SKEW_SEC * 1000)
        return false;
    return !until || (ossl_time_ms(until, &until_ms) && until_ms >= at_ms - SKEW_SEC * 1000);
}

static void say_when(const ASN1_TIME *when, const char *reason, char text[128])
{
    int64_t when_ms;
    char at[CLOCK_RFC3339_SIZE] = "an unknown time";
    if (when && ossl_time_ms(when, &when_ms))
        clock_format_rfc3339(when_ms, at);
    (void)snprintf(text, 128, "since %s%s%.60s", at, reason ? ", " : "", reason ? reason : "");
}

/* Signed by the issuer, or by whom it delegated to. */
static enum code verify_answer(OCSP_BASICRESP *basic, X509 *ca, int64_t at_ms, struct status *st)
{
    AUTO_X509_STORE X509_STORE *store = X509_STORE_new();
    AUTO_X509_STACK STACK_OF(X509) *certs = sk_X509_new_null();
    if (!store || !certs || X509_up_ref(ca) != 1 || !sk_X509_push(certs, ca) ||
        X509_STORE_add_cert(store, ca) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot verify an OCSP answer");
    X509_VERIFY_PARAM_set_time(X509_STORE_get0_param(store), (time_t)(at_ms / 1000));
    (void)X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    if (OCSP_basic_verify(basic, certs, store, 0) != 1)
        return ossl_fail(st, CODE_UNAUTHENTICATED, "the OCSP answer is not signed by the issuer");
    return CODE_OK;
}

enum code ocsp_answer_read(struct bytes answer, struct bytes cert, struct bytes issuer, int64_t at_ms,
                           enum revocation *ret, char text[128], struct status *st)
{
    AUTO_X509 X509 *subject = NULL;
    AUTO_X509 X509 *ca = NULL;
    text[0] = 0;
    if (answer.len > OCSP_ANSWER_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "the OCSP answer is too long");
    TRY(ossl_parse_cert(cert, &subject, st));
    TRY(ossl_parse_cert(issuer, &ca, st));
    const uint8_t *at = answer.data;
    CLEANUP(cleanup_ocsp_response) OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)answer.len);
    if (!response)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "this is no OCSP answer");
    if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        return status_set(st, CODE_INVALID_ARGUMENT, "the OCSP responder answers \"%s\"",
                          OCSP_response_status_str(OCSP_response_status(response)));
    CLEANUP(cleanup_ocsp_basic) OCSP_BASICRESP *basic = OCSP_response_get1_basic(response);
    CLEANUP(cleanup_ocsp_id) OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), subject, ca);
    if (!basic || !id)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "this is no OCSP answer");
    TRY(verify_answer(basic, ca, at_ms, st));
    int status, reason = -1;
    ASN1_GENERALIZEDTIME *since = NULL, *from = NULL, *until = NULL;
    if (OCSP_resp_find_status(basic, id, &status, &reason, &since, &from, &until) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "the OCSP answer is not about this certificate");
    if (!is_current(from, until, at_ms))
        return status_set(st, CODE_UNAUTHENTICATED, "the OCSP answer is not of this time");
    *ret = status == V_OCSP_CERTSTATUS_GOOD      ? REVOCATION_GOOD
           : status == V_OCSP_CERTSTATUS_REVOKED ? REVOCATION_REVOKED
                                                 : REVOCATION_UNKNOWN;
    if (*ret == REVOCATION_REVOKED)
        say_when(since, reason >= 0 ? OCSP_crl_reason_str(reason) : NULL, text);
    ossl_forget();
    return CODE_OK;
}

/* ---- CRLs ---- */

static X509_CRL *parse_crl(struct bytes crl)
{
    const uint8_t *at = crl.data;
    if (crl.len > 11 && memcmp(crl.data, "-----BEGIN ", 11) == 0) {
        AUTO_BIO BIO *bio = BIO_new_mem_buf(crl.data, (int)crl.len);
        return bio ? PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL) : NULL;
    }
    return d2i_X509_CRL(NULL, &at, (long)crl.len);
}

enum code crl_read(struct bytes crl, struct bytes cert, struct bytes issuer, int64_t at_ms,
                   enum revocation *ret, char text[128], struct status *st)
{
    AUTO_X509 X509 *subject = NULL;
    AUTO_X509 X509 *ca = NULL;
    text[0] = 0;
    if (crl.len > CRL_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "the CRL is too long");
    TRY(ossl_parse_cert(cert, &subject, st));
    TRY(ossl_parse_cert(issuer, &ca, st));
    CLEANUP(cleanup_x509_crl) X509_CRL *list = parse_crl(crl);
    if (!list)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "this is no CRL");
    if (X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_subject_name(ca)) != 0 ||
        X509_CRL_verify(list, X509_get0_pubkey(ca)) != 1)
        return ossl_fail(st, CODE_UNAUTHENTICATED, "the CRL is not signed by the issuer");
    if (!is_current(X509_CRL_get0_lastUpdate(list), X509_CRL_get0_nextUpdate(list), at_ms))
        return status_set(st, CODE_UNAUTHENTICATED, "the CRL is not of this time");
    X509_REVOKED *row = NULL;
    int found = X509_CRL_get0_by_cert(list, &row, subject);
    bool part = X509_CRL_get_ext_by_NID(list, NID_issuing_distribution_point, -1) >= 0 ||
                X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0;
    *ret = found == 1 ? REVOCATION_REVOKED : part ? REVOCATION_UNKNOWN : REVOCATION_GOOD;
    if (*ret == REVOCATION_REVOKED)
        say_when(X509_REVOKED_get0_revocationDate(row), NULL, text);
    ossl_forget();
    return CODE_OK;
}
