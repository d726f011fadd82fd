/* PKCS#10: making and verifying. Pure functions, any thread. */
#include "pki/csr.h"

#include <string.h>

#include "pki/ossl.h"

#define CSR_MAX_BYTES  (16 * 1024)
#define CSR_EXTENSIONS 16

DEFINE_CLEANUP(x509_algor, X509_ALGOR *, X509_ALGOR_free)

void csr_info_done(struct csr_info *info)
{
    pki_names_done(&info->names);
    der_done(&info->spki);
    key_free(info->key);
    memset(info, 0, sizeof(*info));
}

static enum code add_san(X509_REQ *req, const struct pki_names *names, struct status *st)
{
    AUTO_GENERAL_NAMES GENERAL_NAMES *san = NULL;
    TRY(names_to_san(names, &san, st));
    AUTO_EXTENSIONS X509_EXTENSIONS *list = NULL;
    bool critical = X509_NAME_entry_count(X509_REQ_get_subject_name(req)) == 0;
    if (X509V3_add1_i2d(&list, NID_subject_alt_name, san, critical, 0) != 1 ||
        X509_REQ_add_extensions(req, list) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot put names into a CSR");
    return CODE_OK;
}

enum code csr_make(const struct key *key, const char *common_name, const struct pki_names *names,
                   struct der *ret, struct status *st)
{
    EVP_PKEY *pkey = key_evp(key);
    AUTO_X509_REQ X509_REQ *req = MUST(X509_REQ_new());
    if (common_name &&
        X509_NAME_add_entry_by_NID(X509_REQ_get_subject_name(req), NID_commonName, MBSTRING_UTF8,
                                   (const uint8_t *)common_name, -1, -1, 0) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "common name \"%.80s\"", common_name);
    if (names && names->n_uri + names->n_dns + names->n_ip > 0)
        TRY(add_san(req, names, st));
    if (X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1 || X509_REQ_set_pubkey(req, pkey) != 1 ||
        X509_REQ_sign(req, pkey, ossl_key_digest(pkey)) <= 0 || !OSSL_TO_DER(i2d_X509_REQ, req, ret))
        return ossl_fail(st, CODE_INTERNAL, "cannot make a CSR");
    return CODE_OK;
}

/* A CSR taken apart without decoding its key: OpenSSL's X509_REQ does that on the way in, in 115 µs. */
struct parts {
    struct bytes info;       /* CertificationRequestInfo: what is signed */
    struct bytes subject;    /* Name */
    struct bytes spki;       /* SubjectPublicKeyInfo */
    struct bytes attributes; /* body of the SET OF Attribute; empty if there is none */
    struct bytes algorithm;  /* AlgorithmIdentifier */
    struct bytes signature;
};

static bool split(struct bytes csr, struct parts *ret)
{
    static const uint8_t version_0[] = {0x02, 0x01, 0x00};
    struct bytes outer;
    struct bytes info;
    struct bytes bits;
    *ret = (struct parts){0};
    if (!strict_next(&csr, DER_SEQUENCE, &outer, NULL) ||
        !strict_next(&outer, DER_SEQUENCE, &info, &ret->info) ||
        !strict_next(&outer, DER_SEQUENCE, NULL, &ret->algorithm) ||
        !strict_next(&outer, DER_BIT_STRING, &bits, NULL) || outer.len != 0 || bits.len < 2 ||
        bits.data[0] != 0)
        return false;
    ret->signature = (struct bytes){bits.data + 1, bits.len - 1};
    if (!strict_exact(&info, version_0, sizeof(version_0)) ||
        !strict_next(&info, DER_SEQUENCE, NULL, &ret->subject) ||
        !strict_next(&info, DER_SEQUENCE, NULL, &ret->spki))
        return false;
    (void)strict_next(&info, DER_CONTEXT_0_CONSTRUCTED, &ret->attributes, NULL);
    return info.len == 0;
}

static enum code read_common_name(struct bytes der, char out[256], struct status *st)
{
    const uint8_t *begin = der.data;
    AUTO_X509_NAME X509_NAME *subject = d2i_X509_NAME(NULL, &begin, (long)der.len);
    if (!subject || begin != der.data + der.len)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "subject of the CSR is malformed");
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0)
        return CODE_OK;
    if (X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "CSR has more than one common name");
    AUTO_OSSL_MEM uint8_t *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (len < 0)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "common name of the CSR is no text");
    for (int i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] == 0x7f)
            return status_set(st, CODE_INVALID_ARGUMENT, "common name of the CSR holds control characters");
    if (len > 255)
        return status_set(st, CODE_INVALID_ARGUMENT, "common name of the CSR is longer than 255 bytes");
    memcpy(out, text, (size_t)len);
    out[len] = '\0';
    return CODE_OK;
}

/* Finds the one extension request among the attributes; ret->len 0 if there is none. */
static enum code find_extensions(struct bytes attributes, struct bytes *ret, struct status *st)
{
    /* extensionRequest 1.2.840.113549.1.9.14 (RFC 2985), and what Microsoft's tools write for it */
    static const uint8_t requests[][12] = {
        {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e},
        {0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e},
    };
    *ret = (struct bytes){0};
    while (attributes.len > 0) {
        struct bytes attribute;
        struct bytes oid;
        struct bytes values;
        if (!strict_next(&attributes, DER_SEQUENCE, &attribute, NULL) ||
            !strict_next(&attribute, DER_OID, NULL, &oid) ||
            !strict_next(&attribute, DER_SET, &values, NULL) || attribute.len != 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "attributes of the CSR are malformed");
        bool wanted = false;
        for (size_t i = 0; i < ARRAY_LEN(requests); i++)
            wanted =
                wanted || (oid.len == requests[i][1] + 2u && memcmp(oid.data, requests[i], oid.len) == 0);
        if (!wanted)
            continue;
        if (ret->len > 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "CSR has more than one extension request");
        if (!strict_next(&values, DER_SEQUENCE, NULL, ret) || values.len != 0)
            return status_set(st, CODE_INVALID_ARGUMENT, "extension request of the CSR is malformed");
    }
    return CODE_OK;
}

static enum code read_names(struct bytes attributes, struct pki_names *ret, struct status *st)
{
    struct bytes der;
    TRY(find_extensions(attributes, &der, st));
    if (der.len == 0)
        return CODE_OK;
    const uint8_t *at = der.data;
    AUTO_EXTENSIONS X509_EXTENSIONS *list = d2i_X509_EXTENSIONS(NULL, &at, (long)der.len);
    if (!list || at != der.data + der.len || sk_X509_EXTENSION_num(list) > CSR_EXTENSIONS)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "extension request of the CSR is malformed");
    int crit = -1;
    AUTO_GENERAL_NAMES GENERAL_NAMES *san = X509V3_get_d2i(list, NID_subject_alt_name, &crit, NULL);
    if (!san && crit == -1)
        return CODE_OK;
    if (!san)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "subjectAltName of the CSR is malformed or there twice");
    return names_from_san_strict(san, ret, st);
}

/* Digest for the CSR's algorithm, which must be one for this kind of key; *ret NULL for Ed25519. */
static enum code signature_digest(struct bytes algorithm, const EVP_PKEY *pkey, const EVP_MD **ret,
                                  struct status *st)
{
    const uint8_t *at = algorithm.data;
    CLEANUP(cleanup_x509_algor) X509_ALGOR *alg = d2i_X509_ALGOR(NULL, &at, (long)algorithm.len);
    if (!alg || at != algorithm.data + algorithm.len)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "signature algorithm of the CSR is malformed");
    const ASN1_OBJECT *oid = NULL;
    int parameters = V_ASN1_UNDEF;
    X509_ALGOR_get0(&oid, &parameters, NULL, alg);
    int md = NID_undef;
    int kind = NID_undef;
    bool known = OBJ_find_sigid_algs(OBJ_obj2nid(oid), &md, &kind) == 1 &&
                 kind == EVP_PKEY_get_base_id(pkey) &&
                 (parameters == V_ASN1_UNDEF || parameters == V_ASN1_NULL);
    ossl_forget();
    if (known && md == NID_undef && kind == EVP_PKEY_ED25519)
        *ret = NULL;
    else if (known && md == NID_sha256)
        *ret = ossl_sha256();
    else if (known && md == NID_sha384)
        *ret = EVP_sha384();
    else if (known && md == NID_sha512)
        *ret = EVP_sha512();
    else
        return status_set(st, CODE_INVALID_ARGUMENT,
                          "CSR is signed with an algorithm or digest that is not accepted: use SHA-256");
    return CODE_OK;
}

static enum code verify_signature(const struct parts *parts, EVP_PKEY *pkey, struct status *st)
{
    const EVP_MD *md = NULL;
    TRY(signature_digest(parts->algorithm, pkey, &md, st));
    AUTO_EVP_MD_CTX EVP_MD_CTX *ctx = MUST(EVP_MD_CTX_new());
    if (EVP_DigestVerifyInit(ctx, NULL, md, NULL, pkey) != 1 ||
        EVP_DigestVerify(ctx, parts->signature.data, parts->signature.len, parts->info.data,
                         parts->info.len) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "signature of the CSR does not verify");
    return CODE_OK;
}

static enum code verify(const struct parts *parts, struct csr_info *ret, struct status *st)
{
    AUTO_EVP_PKEY EVP_PKEY *pkey = NULL;
    if (ossl_parse_spki(parts->spki, &pkey, st) != CODE_OK)
        return status_wrap(st, "CSR");
    TRY(ossl_key_acceptable(pkey, st));
    TRY(verify_signature(parts, pkey, st));
    TRY(read_common_name(parts->subject, ret->common_name, st));
    TRY(read_names(parts->attributes, &ret->names, st));
    ret->spki = der_dup(parts->spki);
    ret->key_type = ossl_key_type(pkey);
    ret->key = key_wrap(TAKE(pkey));
    ossl_forget();
    return CODE_OK;
}

static enum code take_apart(struct bytes csr, struct parts *ret, struct status *st)
{
    if (csr.len == 0 || csr.len > CSR_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "CSR of %zu bytes: must be 1 to %d", csr.len,
                          CSR_MAX_BYTES);
    TRY(strict_check(csr, "CSR", st));
    if (!split(csr, ret))
        return status_set(st, CODE_INVALID_ARGUMENT, "not a CSR (PKCS#10)");
    return CODE_OK;
}

enum code csr_p256_spki(struct bytes csr, struct bytes *ret, struct status *st)
{
    struct parts parts;
    struct bytes point;
    TRY(take_apart(csr, &parts, st));
    if (!ossl_p256_point(parts.spki, &point))
        return status_set(st, CODE_INVALID_ARGUMENT, "the key must be EC P-256, as an uncompressed point");
    *ret = parts.spki;
    return CODE_OK;
}

enum code csr_verify(struct bytes csr, struct csr_info *ret, struct status *st)
{
    struct parts parts;
    memset(ret, 0, sizeof(*ret));
    TRY(take_apart(csr, &parts, st));
    enum code code = verify(&parts, ret, st);
    if (code != CODE_OK)
        csr_info_done(ret);
    return code;
}
