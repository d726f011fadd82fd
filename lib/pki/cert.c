/* Reading certificates into plain structs. Pure functions, any thread. */
#include "pki/cert.h"

#include <ctype.h>
#include <string.h>

#include "base/endpoint.h"
#include "base/id.h"
#include "pki/digest.h"
#include "pki/ossl.h"

void cert_info_done(struct cert_info *info)
{
    pki_names_done(&info->names);
    memset(info, 0, sizeof(*info));
}

static enum code read_serial(const ASN1_INTEGER *serial, char out[65], struct status *st)
{
    AUTO_BN BIGNUM *bn = ASN1_INTEGER_to_BN(serial, NULL);
    AUTO_OSSL_MEM uint8_t *hex = bn ? (uint8_t *)BN_bn2hex(bn) : NULL;
    if (!hex || strlen((char *)hex) > 64)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "serial number is malformed or longer than 32 octets");
    size_t i = 0;
    for (; hex[i]; i++)
        out[i] = (char)tolower(hex[i]);
    out[i] = '\0';
    return CODE_OK;
}

static void read_key(const X509 *cert, struct cert_info *ret)
{
    const EVP_PKEY *pkey = X509_get0_pubkey(cert);
    ossl_forget();
    ret->key_type = KEY_OTHER;
    if (!pkey) {
        (void)snprintf(ret->key_name, sizeof(ret->key_name), "unknown");
        return;
    }
    ossl_key_name(pkey, ret->key_name);
    ret->key_type = ossl_key_type(pkey);
    ret->key_bits = (unsigned)EVP_PKEY_get_bits(pkey);
}

static void read_signature_algorithm(const X509 *cert, char *out, size_t out_size)
{
    const X509_ALGOR *alg = X509_get0_tbs_sigalg(cert);
    const ASN1_OBJECT *oid = NULL;
    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    if (OBJ_obj2txt(out, (int)out_size, oid, 0) <= 0)
        (void)snprintf(out, out_size, "unknown");
    ossl_forget();
}

/* Of the kinds that nearly all certificates have; false for others. */
static bool read_undecoded_key(const X509 *cert, struct cert_info *ret)
{
    ASN1_OBJECT *oid = NULL;
    X509_ALGOR *algorithm = NULL;
    const uint8_t *bits;
    int len = 0, type = 0;
    const void *parameter = NULL;
    if (X509_PUBKEY_get0_param(&oid, &bits, &len, &algorithm, X509_get_X509_PUBKEY(cert)) != 1 || len <= 0)
        return false;
    X509_ALGOR_get0(NULL, &type, &parameter, algorithm);
    struct bytes key = {bits, (size_t)len}, body, modulus;
    switch (OBJ_obj2nid(oid)) {
    case NID_X9_62_id_ecPublicKey: {
        int curve = type == V_ASN1_OBJECT ? OBJ_obj2nid(parameter) : NID_undef;
        bool p256 = curve == NID_X9_62_prime256v1;
        if (!p256 && curve != NID_secp384r1)
            return false;
        (void)snprintf(ret->key_name, sizeof(ret->key_name), p256 ? "EC P-256" : "EC P-384");
        ret->key_type = p256 ? KEY_EC_P256 : KEY_EC_P384;
        ret->key_bits = p256 ? 256 : 384;
        return true;
    }
    case NID_rsaEncryption: {
        if (!strict_next(&key, DER_SEQUENCE, &body, NULL) ||
            !strict_next(&body, V_ASN1_INTEGER, &modulus, NULL))
            return false;
        AUTO_BN BIGNUM *n = BN_bin2bn(modulus.data, (int)modulus.len, NULL);
        int size = n ? BN_num_bits(n) : 0;
        (void)snprintf(ret->key_name, sizeof(ret->key_name), "RSA %d", size);
        ret->key_type = size == 2048 ? KEY_RSA_2048 : size == 3072 ? KEY_RSA_3072 : KEY_OTHER;
        ret->key_bits = (unsigned)size;
        return true;
    }
    default:
        return false;
    }
}

DEFINE_CLEANUP(eku, EXTENDED_KEY_USAGE *, EXTENDED_KEY_USAGE_free)

/* OpenSSL's own answer needs a digest that an undecoded certificate cannot have. */
static bool is_for_servers(const X509 *cert)
{
    int found = 0;
    CLEANUP(cleanup_eku) EXTENDED_KEY_USAGE *eku = X509_get_ext_d2i(cert, NID_ext_key_usage, &found, NULL);
    for (int i = 0; eku && i < sk_ASN1_OBJECT_num(eku); i++) {
        int usage = OBJ_obj2nid(sk_ASN1_OBJECT_value(eku, i));
        if (usage == NID_server_auth || usage == NID_anyExtendedKeyUsage)
            return true;
    }
    return found == -1; /* absent */
}

/* Its issuer is itself by name, and by key where it says which. */
static bool says_self_signed(X509 *cert)
{
    const ASN1_OCTET_STRING *own = X509_get0_subject_key_id(cert), *above = X509_get0_authority_key_id(cert);
    bool same_key = !own || !above || ASN1_OCTET_STRING_cmp(own, above) == 0;
    return (X509_get_extension_flags(cert) & EXFLAG_SI) && same_key;
}

static enum code read_x509(X509 *cert, bool decoded, struct cert_info *ret, struct status *st)
{
    if (!ossl_time_ms(X509_get0_notBefore(cert), &ret->not_before_ms) ||
        !ossl_time_ms(X509_get0_notAfter(cert), &ret->not_after_ms))
        return status_set(st, CODE_INVALID_ARGUMENT, "validity of the certificate is malformed");
    TRY(read_serial(X509_get0_serialNumber(cert), ret->serial, st));
    ossl_name_text(X509_get_subject_name(cert), ret->subject, sizeof(ret->subject));
    (void)X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_serialNumber, ret->subject_serial,
                                    sizeof(ret->subject_serial));
    ossl_name_text(X509_get_issuer_name(cert), ret->issuer, sizeof(ret->issuer));
    if (decoded)
        read_key(cert, ret);
    else if (!read_undecoded_key(cert, ret))
        return CODE_UNIMPLEMENTED;
    read_signature_algorithm(cert, ret->signature_algorithm, sizeof(ret->signature_algorithm));

    AUTO_DER struct der spki = {0};
    if (!OSSL_TO_DER(i2d_X509_PUBKEY, X509_get_X509_PUBKEY(cert), &spki))
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "public key of the certificate is malformed");
    sha256_hex(der_bytes(&spki), ret->spki_sha256);

    AUTO_GENERAL_NAMES GENERAL_NAMES *san = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    if (san)
        names_from_san_lenient(san, &ret->names);
    /* Has the extensions read: where no digest can be had the first question fails, and only that one. */
    (void)X509_get_extension_flags(cert);
    ret->is_ca = X509_check_ca(cert) == 1;
    ret->self_signed = decoded ? X509_self_signed(cert, 1) == 1 : says_self_signed(cert);
    ret->server_auth = is_for_servers(cert);
    ossl_forget();
    return CODE_OK;
}

static enum code read_parsed(struct bytes der, X509 *cert, bool decoded, struct cert_info *ret,
                             struct status *st)
{
    sha256_hex(der, ret->fingerprint);
    enum code code = read_x509(cert, decoded, ret, st);
    if (code != CODE_OK)
        cert_info_done(ret);
    return code;
}

enum code cert_read(struct bytes der, struct cert_info *ret, struct status *st)
{
    memset(ret, 0, sizeof(*ret));
    AUTO_X509 X509 *cert = NULL;
    TRY(ossl_parse_cert(der, &cert, st));
    return read_parsed(der, cert, true, ret, st);
}

enum code cert_read_listed(struct bytes der, struct cert_info *ret, struct status *st)
{
    memset(ret, 0, sizeof(*ret));
    AUTO_X509 X509 *cert = NULL;
    TRY(ossl_parse_cert_undecoded(der, &cert, st));
    enum code code = read_parsed(der, cert, false, ret, st);
    return code == CODE_UNIMPLEMENTED ? cert_read(der, ret, st) : code;
}

DEFINE_CLEANUP(serial, ASN1_INTEGER *, ASN1_INTEGER_free)
DEFINE_CLEANUP(end, ASN1_TIME *, ASN1_TIME_free)

/* TBSCertificate: [0] version, serialNumber, signature, issuer, validity … (RFC 5280 section 4.1). */
static bool find_brief(struct bytes der, struct bytes *ret_serial, struct bytes *ret_end)
{
    struct bytes whole, tbs, validity;
    if (!strict_next(&der, DER_SEQUENCE, &whole, NULL) || !strict_next(&whole, DER_SEQUENCE, &tbs, NULL))
        return false;
    (void)strict_next(&tbs, DER_CONTEXT_0_CONSTRUCTED, NULL, NULL);
    if (!strict_next(&tbs, V_ASN1_INTEGER, NULL, ret_serial) ||
        !strict_next(&tbs, DER_SEQUENCE, NULL, NULL) || !strict_next(&tbs, DER_SEQUENCE, NULL, NULL) ||
        !strict_next(&tbs, DER_SEQUENCE, &validity, NULL))
        return false;
    if (!strict_next(&validity, V_ASN1_UTCTIME, NULL, NULL) &&
        !strict_next(&validity, V_ASN1_GENERALIZEDTIME, NULL, NULL))
        return false;
    *ret_end = validity;
    return true;
}

enum code cert_read_brief(struct bytes der, struct cert_brief *ret, struct status *st)
{
    struct bytes serial_der, end_der;
    if (der.len > CERT_MAX_BYTES || !find_brief(der, &serial_der, &end_der))
        return status_set(st, CODE_INVALID_ARGUMENT, "not a DER certificate");
    const uint8_t *at = serial_der.data, *end_at = end_der.data;
    CLEANUP(cleanup_serial) ASN1_INTEGER *serial = d2i_ASN1_INTEGER(NULL, &at, (long)serial_der.len);
    CLEANUP(cleanup_end) ASN1_TIME *end = d2i_ASN1_TIME(NULL, &end_at, (long)end_der.len);
    if (!serial || !ossl_time_ms(end, &ret->not_after_ms))
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "serial or validity of the certificate is malformed");
    TRY(read_serial(serial, ret->serial, st));
    sha256_hex(der, ret->fingerprint);
    return CODE_OK;
}

enum code cert_issuer_name(struct bytes der, struct der *ret, struct status *st)
{
    AUTO_X509 X509 *cert = NULL;
    TRY(ossl_parse_cert(der, &cert, st));
    const unsigned char *name;
    size_t len;
    if (X509_NAME_get0_der(X509_get_issuer_name(cert), &name, &len) != 1)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "issuer of the certificate is malformed");
    *ret = der_dup((struct bytes){name, len});
    return CODE_OK;
}

bool cert_matches_host(struct bytes der, const char *host)
{
    struct status ignored;
    AUTO_X509 X509 *cert = NULL;
    if (host[0] == '\0' || ossl_parse_cert(der, &cert, &ignored) != CODE_OK)
        return false;
    bool match;
    if (host_is_address(host))
        match = X509_check_ip_asc(cert, host, 0) == 1;
    else
        match = X509_check_host(cert, host, strlen(host),
                                X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
                                NULL) == 1;
    ossl_forget();
    return match;
}
