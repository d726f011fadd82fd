/* PKCS#10: making and verifying. Pure functions, any thread. */
#include "pki/csr.h"

#include <string.h>

#include "pki/ossl.h"

#define CSR_MAX_BYTES  (16 * 1024)
#define CSR_EXTENSIONS 16

static void x509_extensions_free(STACK_OF(X509_EXTENSION) * list)
{
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

DEFINE_CLEANUP(extensions, STACK_OF(X509_EXTENSION) *, x509_extensions_free)

void csr_info_done(struct csr_info *info)
{
    pki_names_done(&info->names);
    der_done(&info->spki);
    memset(info, 0, sizeof(*info));
}

static enum code add_san(X509_REQ *req, const struct pki_names *names, struct status *st)
{
    AUTO_GENERAL_NAMES GENERAL_NAMES *san = NULL;
    TRY(names_to_san(names, &san, st));
    CLEANUP(cleanup_extensions) STACK_OF(X509_EXTENSION) *list = NULL;
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

static enum code read_common_name(X509_REQ *req, char out[256], struct status *st)
{
    const X509_NAME *subject = X509_REQ_get_subject_name(req);
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

static enum code read_names(X509_REQ *req, struct pki_names *ret, struct status *st)
{
    int requests = 0;
    for (int i = 0; i < X509_REQ_get_attr_count(req); i++) {
        int nid = OBJ_obj2nid(X509_ATTRIBUTE_get0_object(X509_REQ_get_attr(req, i)));
        requests += nid == NID_ext_req || nid == NID_ms_ext_req;
    }
    if (requests == 0)
        return CODE_OK;
    if (requests > 1)
        return status_set(st, CODE_INVALID_ARGUMENT, "CSR has more than one extension request");
    CLEANUP(cleanup_extensions) STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(req);
    if (!list || sk_X509_EXTENSION_num(list) > CSR_EXTENSIONS)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "extension request of the CSR is malformed");
    int crit = -1;
    AUTO_GENERAL_NAMES GENERAL_NAMES *san = X509V3_get_d2i(list, NID_subject_alt_name, &crit, NULL);
    if (!san && crit == -1)
        return CODE_OK;
    if (!san)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "subjectAltName of the CSR is malformed or there twice");
    return names_from_san_strict(san, ret, st);
}

static enum code verify(X509_REQ *req, struct csr_info *ret, struct status *st)
{
    EVP_PKEY *pkey = X509_REQ_get0_pubkey(req);
    if (!pkey)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "CSR holds no usable public key");
    TRY(ossl_key_acceptable(pkey, st));
    if (X509_REQ_get_version(req) != X509_REQ_VERSION_1)
        return status_set(st, CODE_INVALID_ARGUMENT, "CSR has an unknown version");
    int md = NID_undef;
    if (OBJ_find_sigid_algs(X509_REQ_get_signature_nid(req), &md, NULL) != 1 || md == NID_sha1 ||
        md == NID_md5)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "CSR is signed with a digest that is no longer accepted");
    if (X509_REQ_verify(req, pkey) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "signature of the CSR does not verify");
    TRY(read_common_name(req, ret->common_name, st));
    TRY(read_names(req, &ret->names, st));
    if (!OSSL_TO_DER(i2d_X509_PUBKEY, X509_REQ_get_X509_PUBKEY(req), &ret->spki))
        return ossl_fail(st, CODE_INTERNAL, "cannot encode the public key of a CSR");
    ret->key_type = ossl_key_type(pkey);
    ossl_forget();
    return CODE_OK;
}

enum code csr_verify(struct bytes csr, struct csr_info *ret, struct status *st)
{
    memset(ret, 0, sizeof(*ret));
    if (csr.len == 0 || csr.len > CSR_MAX_BYTES)
        return status_set(st, CODE_INVALID_ARGUMENT, "CSR of %zu bytes: must be 1 to %d", csr.len,
                          CSR_MAX_BYTES);
    TRY(strict_check(csr, "CSR", st));
    const uint8_t *at = csr.data;
    AUTO_X509_REQ X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)csr.len);
    if (!req)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "not a DER CSR (PKCS#10)");
    if (at != csr.data + csr.len)
        return status_set(st, CODE_INVALID_ARGUMENT, "CSR followed by stray bytes");
    enum code code = verify(req, ret, st);
    if (code != CODE_OK)
        csr_info_done(ret);
    return code;
}
