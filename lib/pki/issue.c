/*
 * Building certificates. An issuer keeps its certificate parsed and its key ready; one thread at a time.
 * What goes into a certificate is decided by one table, by purpose.
 */
#include "pki/issue.h"

#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "pki/digest.h"
#include "pki/issuer.h"

#define SERIAL_SIZE 20
#define KEY_ID_SIZE 20

/* What an end entity of a purpose may do. CAs get the EKUs of their kind too, which binds what they issue. */
static const struct profile {
    uint32_t key_usage;
    bool client_auth, server_auth;
    enum pki_purpose also; /* of a CA: the other purpose that it issues for */
} profiles[] = {
    [PURPOSE_ANY] = {KU_DIGITAL_SIGNATURE, false, false, PURPOSE_ANY},
    [PURPOSE_TLS_SERVER] = {KU_DIGITAL_SIGNATURE, false, true, PURPOSE_ANY},
    [PURPOSE_AGENT_IDENTITY] = {KU_DIGITAL_SIGNATURE, true, false, PURPOSE_AGENT_TASK},
    [PURPOSE_AGENT_TASK] = {KU_DIGITAL_SIGNATURE | KU_KEY_AGREEMENT, false, false, PURPOSE_AGENT_IDENTITY},
    [PURPOSE_SERVICE] = {KU_DIGITAL_SIGNATURE, false, false, PURPOSE_ANY},
    [PURPOSE_ENVELOPE] = {KU_DIGITAL_SIGNATURE, false, false, PURPOSE_ANY},
};
_Static_assert(ARRAY_LEN(profiles) == PURPOSE_ENVELOPE + 1, "a row for each purpose");

DEFINE_CLEANUP(basic_constraints, BASIC_CONSTRAINTS *, BASIC_CONSTRAINTS_free)
DEFINE_CLEANUP(bit_string, ASN1_BIT_STRING *, ASN1_BIT_STRING_free)
DEFINE_CLEANUP(octet_string, ASN1_OCTET_STRING *, ASN1_OCTET_STRING_free)
DEFINE_CLEANUP(crl_points, CRL_DIST_POINTS *, CRL_DIST_POINTS_free)
DEFINE_CLEANUP(eku, EXTENDED_KEY_USAGE *, EXTENDED_KEY_USAGE_free)
DEFINE_CLEANUP(akid, AUTHORITY_KEYID *, AUTHORITY_KEYID_free)

static enum code add_extension(X509_EXTENSIONS **list, int nid, void *value, bool critical, struct status *st)
{
    if (X509V3_add1_i2d(list, nid, value, critical, X509V3_ADD_DEFAULT) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot add extension %s", OBJ_nid2sn(nid));
    return CODE_OK;
}

static enum code add_basic_constraints(X509_EXTENSIONS **list, const struct cert_request *req,
                                       struct status *st)
{
    CLEANUP(cleanup_basic_constraints) BASIC_CONSTRAINTS *bc = MUST(BASIC_CONSTRAINTS_new());
    bc->ca = req->is_ca ? 0xff : 0;
    if (req->is_ca && req->path_len >= 0) {
        bc->pathlen = MUST(ASN1_INTEGER_new());
        if (ASN1_INTEGER_set(bc->pathlen, req->path_len) != 1)
            abort();
    }
    return add_extension(list, NID_basic_constraints, bc, true, st);
}

static enum code add_key_usage(X509_EXTENSIONS **list, const struct cert_request *req, bool rsa,
                               struct status *st)
{
    uint32_t usage = req->is_ca ? KU_KEY_CERT_SIGN | KU_CRL_SIGN : profiles[req->purpose].key_usage;
    /* TLS 1.2 clients without ECDHE encrypt to an RSA key. */
    if (!req->is_ca && req->purpose == PURPOSE_TLS_SERVER && rsa)
        usage |= KU_KEY_ENCIPHERMENT;
    CLEANUP(cleanup_bit_string) ASN1_BIT_STRING *bits = MUST(ASN1_BIT_STRING_new());
    /* OpenSSL's KU_ flags have the first bit of KeyUsage as 0x80, as it lies in the first octet. */
    for (int i = 0; i < 8; i++)
        if ((usage & (0x80u >> i)) && ASN1_BIT_STRING_set_bit(bits, i, 1) != 1)
            abort();
    return add_extension(list, NID_key_usage, bits, true, st);
}

static void push_oid(EXTENDED_KEY_USAGE *eku, ASN1_OBJECT *oid)
{
    if (sk_ASN1_OBJECT_push(eku, oid) <= 0)
        abort();
}

static enum code add_eku(X509_EXTENSIONS **list, const struct cert_request *req, struct status *st)
{
    const struct profile *profile = &profiles[req->purpose];
    CLEANUP(cleanup_eku) EXTENDED_KEY_USAGE *eku = MUST(sk_ASN1_OBJECT_new_null());
    bool pair = req->is_ca && purpose_is_own(profile->also);
    bool both = req->tls_client_and_server || (req->is_ca && req->purpose == PURPOSE_SERVICE);
    if (profile->client_auth || both || (pair && profiles[profile->also].client_auth))
        push_oid(eku, OBJ_nid2obj(NID_client_auth));
    if (profile->server_auth || both)
        push_oid(eku, OBJ_nid2obj(NID_server_auth));
    if (purpose_is_own(req->purpose))
        push_oid(eku, oid_of_purpose(req->purpose));
    if (pair)
        push_oid(eku, oid_of_purpose(profile->also));
    return sk_ASN1_OBJECT_num(eku) == 0 ? CODE_OK : add_extension(list, NID_ext_key_usage, eku, false, st);
}

/* Leftmost 160 bits of SHA-256 over the key (RFC 7093 section 2, method 1). */
static enum code key_id_of(struct bytes spki, uint8_t out[KEY_ID_SIZE], struct status *st)
{
    struct bytes whole, bits;
    uint8_t digest[SHA256_SIZE];
    if (!strict_next(&spki, DER_SEQUENCE, &whole, NULL) || !strict_next(&whole, DER_SEQUENCE, NULL, NULL) ||
        !strict_next(&whole, DER_BIT_STRING, &bits, NULL) || bits.len < 2)
        return status_set(st, CODE_INVALID_ARGUMENT, "not a public key");
    sha256((struct bytes){bits.data + 1, bits.len - 1}, digest);
    memcpy(out, digest, KEY_ID_SIZE);
    return CODE_OK;
}

static ASN1_OCTET_STRING *octets(const uint8_t *data, int len)
{
    ASN1_OCTET_STRING *string = MUST(ASN1_OCTET_STRING_new());
    if (ASN1_OCTET_STRING_set(string, data, len) != 1)
        abort();
    return string;
}

static AUTHORITY_KEYID *akid_of(const uint8_t *key_id, int len)
{
    AUTHORITY_KEYID *akid = MUST(AUTHORITY_KEYID_new());
    akid->keyid = octets(key_id, len);
    return akid;
}

static enum code add_key_ids(X509_EXTENSIONS **list, struct bytes spki, AUTHORITY_KEYID *akid,
                             struct status *st)
{
    uint8_t id[KEY_ID_SIZE];
    TRY(key_id_of(spki, id, st));
    CLEANUP(cleanup_octet_string) ASN1_OCTET_STRING *skid = octets(id, sizeof(id));
    CLEANUP(cleanup_akid) AUTHORITY_KEYID *own = akid ? NULL : akid_of(id, sizeof(id));
    TRY(add_extension(list, NID_subject_key_identifier, skid, false, st));
    return add_extension(list, NID_authority_key_identifier, akid ? akid : own, false, st);
}

static enum code add_names(X509_EXTENSIONS **list, const struct cert_request *req, bool subject_empty,
                           struct status *st)
{
    if (!req->names || req->names->n_uri + req->names->n_dns + req->names->n_ip == 0) {
        if (subject_empty)
            return status_set(st, CODE_INVALID_ARGUMENT,
                              "a certificate needs a common name or a subjectAltName");
        return CODE_OK;
    }
    AUTO_GENERAL_NAMES GENERAL_NAMES *san = NULL;
    TRY(names_to_san(req->names, &san, st));
    return add_extension(list, NID_subject_alt_name, san, subject_empty, st);
}

/* RFC 5280 section 4.2.1.13 */
static enum code add_crl_url(X509_EXTENSIONS **list, const char *url, struct status *st)
{
    if (!url)
        return CODE_OK;
    CLEANUP(cleanup_crl_points) CRL_DIST_POINTS *points = MUST(sk_DIST_POINT_new_null());
    DIST_POINT *point = MUST(DIST_POINT_new());
    if (sk_DIST_POINT_push(points, point) <= 0)
        abort();
    GENERAL_NAME *name = MUST(GENERAL_NAME_new());
    name->type = GEN_URI;
    name->d.uniformResourceIdentifier = MUST(ASN1_IA5STRING_new());
    point->distpoint = MUST(DIST_POINT_NAME_new());
    point->distpoint->type = 0; /* fullName */
    point->distpoint->name.fullname = MUST(sk_GENERAL_NAME_new_null());
    if (sk_GENERAL_NAME_push(point->distpoint->name.fullname, name) <= 0 ||
        ASN1_STRING_set(name->d.uniformResourceIdentifier, url, -1) != 1)
        abort();
    return add_extension(list, NID_crl_distribution_points, points, false, st);
}

static void set_serial(struct tbs *tbs)
{
    uint8_t serial[SERIAL_SIZE];
    random_bytes(serial, sizeof(serial));
    /* Positive, and always 20 octets long. */
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40);
    AUTO_BN BIGNUM *bn = MUST(BN_bin2bn(serial, sizeof(serial), NULL));
    (void)MUST(BN_to_ASN1_INTEGER(bn, tbs->serial));
}

static enum code set_validity(struct tbs *tbs, int64_t from_ms, int64_t until_ms, struct status *st)
{
    if (from_ms < 0 || until_ms - from_ms < 1000)
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "certificate would end before it begins: is the issuer's certificate expired?");
    if (!ASN1_TIME_set(tbs->validity->notBefore, (time_t)(from_ms / 1000)) ||
        !ASN1_TIME_set(tbs->validity->notAfter, (time_t)(until_ms / 1000)))
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "validity outside the range of X.509 times");
    return CODE_OK;
}

static enum code add_attribute(struct tbs *tbs, int nid, const char *text, struct status *st)
{
    if (!text || text[0] == '\0')
        return CODE_OK;
    if (X509_NAME_add_entry_by_NID(tbs->subject, nid, MBSTRING_UTF8, (const uint8_t *)text, -1, -1, 0) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "%s \"%.80s\"", OBJ_nid2ln(nid), text);
    return CODE_OK;
}

static enum code set_subject(struct tbs *tbs, const struct cert_request *req, struct status *st)
{
    TRY(add_attribute(tbs, NID_commonName, req->common_name, st));
    return add_attribute(tbs, NID_serialNumber, req->subject_serial, st);
}

static enum code add_extensions(struct tbs *tbs, const struct cert_request *req, struct bytes spki, bool rsa,
                                AUTHORITY_KEYID *akid, struct status *st)
{
    AUTO_EXTENSIONS X509_EXTENSIONS *list = NULL;
    TRY(add_basic_constraints(&list, req, st));
    TRY(add_key_usage(&list, req, rsa, st));
    TRY(add_eku(&list, req, st));
    TRY(add_key_ids(&list, spki, akid, st));
    TRY(add_crl_url(&list, req->crl_url, st));
    TRY(add_names(&list, req, X509_NAME_entry_count(tbs->subject) == 0, st));
    return tbs_set_extensions(tbs, list, st);
}

static enum code fill(struct tbs *tbs, const struct cert_request *req, struct bytes spki, EVP_PKEY *pkey,
                      AUTHORITY_KEYID *akid, int64_t until_ms, struct status *st)
{
    tbs_set_der(tbs->spki, spki);
    set_serial(tbs);
    TRY(set_validity(tbs, req->not_before_ms, until_ms, st));
    return add_extensions(tbs, req, spki, EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA, akid, st);
}

static const EVP_MD *signing_digest(const EVP_PKEY *pkey)
{
    return ossl_key_type(pkey) == KEY_EC_P384 ? EVP_sha384() : ossl_key_digest(pkey);
}

const EVP_MD *issuer_digest(const struct issuer *issuer)
{
    return signing_digest(key_evp(issuer->key));
}

enum code issuer_new(struct key *key, struct bytes cert, struct issuer **ret, struct status *st)
{
    AUTO_ISSUER struct issuer *issuer = MUST(calloc(1, sizeof(*issuer)));
    issuer->key = key;
    TRY(ossl_parse_cert(cert, &issuer->cert, st));
    if (X509_check_ca(issuer->cert) != 1)
        return status_set(st, CODE_INVALID_ARGUMENT, "the issuer's certificate is not that of a CA");
    if (X509_check_private_key(issuer->cert, key_evp(key)) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "the issuer's key does not belong to its certificate");
    if (!ossl_time_ms(X509_get0_notBefore(issuer->cert), &issuer->not_before_ms) ||
        !ossl_time_ms(X509_get0_notAfter(issuer->cert), &issuer->not_after_ms))
        return status_set(st, CODE_INVALID_ARGUMENT, "validity of the issuer's certificate is malformed");
    const ASN1_OCTET_STRING *skid = X509_get0_subject_key_id(issuer->cert);
    if (!skid)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "the issuer's certificate has no subjectKeyIdentifier");
    issuer->akid = akid_of(ASN1_STRING_get0_data(skid), ASN1_STRING_length(skid));
    issuer->path_len = X509_get_pathlen(issuer->cert);
    TRY(tbs_signing_init(&issuer->signing, key_evp(key), signing_digest(key_evp(key)), st));
    ossl_forget();
    *ret = TAKE(issuer);
    return CODE_OK;
}

void issuer_free(struct issuer *issuer)
{
    if (!issuer)
        return;
    key_free(issuer->key);
    X509_free(issuer->cert);
    AUTHORITY_KEYID_free(issuer->akid);
    tbs_signing_done(&issuer->signing);
    free(issuer);
}

static enum code name_der(const X509_NAME *name, struct bytes *ret, struct status *st)
{
    if (X509_NAME_get0_der(name, &ret->data, &ret->len) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a name");
    return CODE_OK;
}

/* As the CSR or the key has it. Only P-256's has one form alone; others are encoded anew. */
static enum code canonical_spki(struct bytes spki, EVP_PKEY *pkey, struct der *ret, struct status *st)
{
    struct bytes point;
    if (ossl_p256_point(spki, &point))
        *ret = der_dup(spki);
    else if (!OSSL_TO_DER(i2d_PUBKEY, pkey, ret))
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a public key");
    return CODE_OK;
}

enum code issuer_sign(struct issuer *issuer, const struct cert_request *req, struct der *ret,
                      struct status *st)
{
    struct bytes name;
    AUTO_DER struct der spki = {0};
    if (req->is_ca && issuer->path_len == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "the issuer's path length does not let it issue a CA");
    AUTO_EVP_PKEY EVP_PKEY *parsed = NULL;
    if (!req->key)
        TRY(ossl_parse_spki(req->spki, &parsed, st));
    EVP_PKEY *pkey = req->key ? key_evp(req->key) : parsed;
    TRY(ossl_key_acceptable(pkey, st));
    TRY(canonical_spki(req->spki, pkey, &spki, st));
    TRY(name_der(X509_get_subject_name(issuer->cert), &name, st));
    AUTO_TBS struct tbs *tbs = tbs_new();
    int64_t until = req->not_after_ms < issuer->not_after_ms ? req->not_after_ms : issuer->not_after_ms;
    tbs_set_der(tbs->issuer, name);
    TRY(set_subject(tbs, req, st));
    TRY(fill(tbs, req, der_bytes(&spki), pkey, issuer->akid, until, st));
    return tbs_sign(tbs, &issuer->signing, ret, st);
}

enum code issuer_self_sign(struct key *key, const struct cert_request *req, struct der *ret,
                           struct status *st)
{
    struct bytes name;
    EVP_PKEY *pkey = key_evp(key);
    AUTO_TBS struct tbs *tbs = tbs_new();
    TRY(set_subject(tbs, req, st));
    TRY(name_der(tbs->subject, &name, st));
    tbs_set_der(tbs->issuer, name);
    AUTO_DER struct der spki = {0};
    TRY(key_spki(key, &spki, st));
    TRY(fill(tbs, req, der_bytes(&spki), pkey, NULL, req->not_after_ms, st));
    CLEANUP(tbs_signing_done) struct tbs_signing signing = {0};
    TRY(tbs_signing_init(&signing, pkey, signing_digest(pkey), st));
    return tbs_sign(tbs, &signing, ret, st);
}
