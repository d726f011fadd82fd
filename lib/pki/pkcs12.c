/*
 * PKCS#12 through OpenSSL's parts rather than PKCS12_parse: the cost of each password-based cipher is held
 * against a limit before it is paid, private keys are opened only when asked for, and what else is in the
 * file is counted.
 */
#include <openssl/pkcs12.h>

#include <stdatomic.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/provider.h>

#include "pki/keystore.h"
#include "pki/ossl.h"

/* Rounds of all ciphers and the MAC of one file together: seconds, on any machine. */
#define ROUNDS_MAX  4000000
#define DEPTH_MAX   4
#define ID_MAX      64
#define KEYS_MAX    32
#define CERTS_MAX   1024
#define MAKE_ROUNDS 10000
/* Java marks what it takes for a trust anchor. */
#define JAVA_TRUSTED_OID "2.16.840.1.113894.746875.1.1"

DEFINE_CLEANUP(pkcs12_file, PKCS12 *, PKCS12_free)
DEFINE_CLEANUP(p8, PKCS8_PRIV_KEY_INFO *, PKCS8_PRIV_KEY_INFO_free)

static inline void safes_free(STACK_OF(PKCS7) * safes)
{
    sk_PKCS7_pop_free(safes, PKCS7_free);
}
static inline void bags_free(STACK_OF(PKCS12_SAFEBAG) * bags)
{
    sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
}
DEFINE_CLEANUP(safes, STACK_OF(PKCS7) *, safes_free)
DEFINE_CLEANUP(bags, STACK_OF(PKCS12_SAFEBAG) *, bags_free)

struct found_cert {
    X509 *cert;
    char alias[KEYSTORE_ALIAS_SIZE];
    uint8_t id[ID_MAX];
    size_t id_len;
    bool trusted;
};

struct found_key {
    EVP_PKEY *pkey; /* NULL when keys are not opened */
    char alias[KEYSTORE_ALIAS_SIZE];
    uint8_t id[ID_MAX];
    size_t id_len;
};

struct walk {
    const char *password; /* NULL: none is known */
    int password_len;
    bool open_keys;
    long rounds, bags;
    struct found_cert *cert;
    size_t n_certs;
    struct found_key key[KEYS_MAX];
    size_t n_keys;
    struct keystore_info info;
};

static void walk_done(struct walk *walk)
{
    for (size_t i = 0; i < walk->n_certs; i++)
        X509_free(walk->cert[i].cert);
    for (size_t i = 0; i < walk->n_keys; i++)
        EVP_PKEY_free(walk->key[i].pkey);
    free(walk->cert);
}

static enum code damaged(struct status *st)
{
    return ossl_fail(st, CODE_INVALID_ARGUMENT, "the PKCS#12 file is damaged or cut short");
}

/* --- what a password costs ------------------------------------------------------------------------------ */

static enum code pay(struct walk *walk, const ASN1_INTEGER *rounds, struct status *st)
{
    int64_t n = 1;
    if (rounds && ASN1_INTEGER_get_int64(&n, rounds) != 1)
        n = -1;
    ossl_forget();
    if (n < 1 || n > ROUNDS_MAX - walk->rounds)
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          "the PKCS#12 file asks for more than %d rounds of its password", ROUNDS_MAX);
    walk->rounds += (long)n;
    return CODE_OK;
}

static enum code pay_pbes2(struct walk *walk, const X509_ALGOR *alg, struct status *st)
{
    PBE2PARAM *pbe = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), alg->parameter);
    PBKDF2PARAM *kdf = NULL;
    enum code code = CODE_OK;
    if (!pbe)
        return damaged(st);
    /* scrypt has OpenSSL's own limit of 32 MiB. */
    if (OBJ_obj2nid(pbe->keyfunc->algorithm) == NID_id_pbkdf2) {
        kdf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM), pbe->keyfunc->parameter);
        code = kdf ? pay(walk, kdf->iter, st) : damaged(st);
    }
    PBKDF2PARAM_free(kdf);
    PBE2PARAM_free(pbe);
    return code;
}

static enum code pay_cipher(struct walk *walk, const X509_ALGOR *alg, struct status *st)
{
    if (!alg || !alg->algorithm)
        return damaged(st);
    if (OBJ_obj2nid(alg->algorithm) == NID_pbes2)
        return pay_pbes2(walk, alg, st);
    PBEPARAM *pbe = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBEPARAM), alg->parameter);
    if (!pbe)
        return damaged(st);
    enum code code = pay(walk, pbe->iter, st);
    PBEPARAM_free(pbe);
    return code;
}

/* A cipher that OpenSSL does not have looks like a wrong password to whoever does not ask. */
static enum code cannot_open(const struct walk *walk, struct status *st)
{
    bool unsupported = false;
    for (unsigned long e; (e = ERR_get_error()) != 0;)
        unsupported = unsupported || ERR_GET_REASON(e) == ERR_R_UNSUPPORTED ||
                      ERR_GET_REASON(e) == EVP_R_UNKNOWN_PBE_ALGORITHM;
    if (unsupported)
        return status_set(st, CODE_UNIMPLEMENTED,
                          "the PKCS#12 file is encrypted with an algorithm that this OpenSSL does not have: "
                          "write it anew");
    if (!walk->password)
        return status_set(st, CODE_PERMISSION_DENIED,
                          "the PKCS#12 file is encrypted and no password was given");
    return status_set(st, CODE_PERMISSION_DENIED,
                      "the PKCS#12 file does not open: wrong password, or it was changed");
}

/* --- bags ----------------------------------------------------------------------------------------------- */

static void read_alias(const PKCS12_SAFEBAG *bag, char out[KEYSTORE_ALIAS_SIZE])
{
    char *name = PKCS12_get_friendlyname((PKCS12_SAFEBAG *)(uintptr_t)bag);
    size_t n = 0;
    for (const char *p = name; p && *p && n + 1 < KEYSTORE_ALIAS_SIZE; p++)
        out[n++] = (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f ? *p : '?';
    out[n] = 0;
    OPENSSL_free(name);
    ossl_forget();
}

static size_t read_id(const PKCS12_SAFEBAG *bag, uint8_t out[ID_MAX])
{
    const ASN1_TYPE *id = PKCS12_SAFEBAG_get0_attr(bag, NID_localKeyID);
    if (!id || id->type != V_ASN1_OCTET_STRING)
        return 0;
    int len = ASN1_STRING_length(id->value.octet_string);
    if (len <= 0 || len > ID_MAX)
        return 0;
    memcpy(out, ASN1_STRING_get0_data(id->value.octet_string), (size_t)len);
    return (size_t)len;
}

static bool is_java_anchor(const PKCS12_SAFEBAG *bag)
{
    const STACK_OF(X509_ATTRIBUTE) *attrs = PKCS12_SAFEBAG_get0_attrs(bag);
    for (int i = 0; i < sk_X509_ATTRIBUTE_num(attrs); i++) {
        char oid[64] = "";
        const ASN1_OBJECT *object = X509_ATTRIBUTE_get0_object(sk_X509_ATTRIBUTE_value(attrs, i));
        if (object && OBJ_obj2txt(oid, sizeof(oid), object, 1) > 0 && strcmp(oid, JAVA_TRUSTED_OID) == 0)
            return true;
    }
    return false;
}

static enum code add_cert(struct walk *walk, const PKCS12_SAFEBAG *bag, struct status *st)
{
    if (PKCS12_SAFEBAG_get_bag_nid(bag) != NID_x509Certificate)
        return CODE_OK;
    X509 *cert = PKCS12_SAFEBAG_get1_cert(bag);
    ossl_forget();
    if (!cert)
        return CODE_OK; /* one odd certificate does not hide the others */
    if (walk->n_certs == CERTS_MAX) {
        X509_free(cert);
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %d certificates in the PKCS#12 file",
                          CERTS_MAX);
    }
    if ((walk->n_certs & (walk->n_certs - 1)) == 0)
        walk->cert =
            MUST(reallocarray(walk->cert, walk->n_certs ? walk->n_certs * 2 : 1, sizeof(*walk->cert)));
    struct found_cert *found = &walk->cert[walk->n_certs++];
    memset(found, 0, sizeof(*found));
    found->cert = cert;
    found->trusted = is_java_anchor(bag);
    walk->info.trusted += found->trusted;
    read_alias(bag, found->alias);
    found->id_len = read_id(bag, found->id);
    return CODE_OK;
}

static enum code open_key(struct walk *walk, const PKCS12_SAFEBAG *bag, EVP_PKEY **ret, struct status *st)
{
    if (PKCS12_SAFEBAG_get_nid(bag) == NID_keyBag) {
        *ret = EVP_PKCS82PKEY(PKCS12_SAFEBAG_get0_p8inf(bag));
        return *ret ? CODE_OK : damaged(st);
    }
    const X509_ALGOR *alg = NULL;
    const X509_SIG *sealed = PKCS12_SAFEBAG_get0_pkcs8(bag);
    if (!sealed)
        return damaged(st);
    X509_SIG_get0(sealed, &alg, NULL);
    TRY(pay_cipher(walk, alg, st));
    CLEANUP(cleanup_p8)
    PKCS8_PRIV_KEY_INFO *p8 = PKCS12_decrypt_skey(bag, walk->password, walk->password_len);
    if (!p8)
        return cannot_open(walk, st);
    *ret = EVP_PKCS82PKEY(p8);
    return *ret ? CODE_OK : damaged(st);
}

static enum code add_key(struct walk *walk, const PKCS12_SAFEBAG *bag, struct status *st)
{
    walk->info.keys++;
    if (walk->n_keys == KEYS_MAX)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %d private keys in the PKCS#12 file",
                          KEYS_MAX);
    EVP_PKEY *pkey = NULL;
    if (walk->open_keys)
        TRY(open_key(walk, bag, &pkey, st));
    struct found_key *key = &walk->key[walk->n_keys++];
    key->pkey = pkey;
    read_alias(bag, key->alias);
    key->id_len = read_id(bag, key->id);
    return CODE_OK;
}

static enum code walk_bags(struct walk *walk, const STACK_OF(PKCS12_SAFEBAG) * bags, unsigned depth,
                           struct status *st)
{
    for (int i = 0; i < sk_PKCS12_SAFEBAG_num(bags); i++) {
        const PKCS12_SAFEBAG *bag = sk_PKCS12_SAFEBAG_value(bags, i);
        if (++walk->bags > KEYSTORE_MAX_ENTRIES || depth > DEPTH_MAX)
            return status_set(st, CODE_RESOURCE_EXHAUSTED,
                              "the PKCS#12 file has too many or too deep entries");
        switch (PKCS12_SAFEBAG_get_nid(bag)) {
        case NID_keyBag:
        case NID_pkcs8ShroudedKeyBag:
            TRY(add_key(walk, bag, st));
            break;
        case NID_certBag:
            TRY(add_cert(walk, bag, st));
            break;
        case NID_safeContentsBag:
            TRY(walk_bags(walk, PKCS12_SAFEBAG_get0_safes(bag), depth + 1, st));
            break;
        default:
            break;
        }
    }
    return CODE_OK;
}

static enum code walk_safe(struct walk *walk, PKCS7 *safe, struct status *st)
{
    CLEANUP(cleanup_bags) STACK_OF(PKCS12_SAFEBAG) *bags = NULL;
    if (PKCS7_type_is_data(safe)) {
        bags = PKCS12_unpack_p7data(safe);
        if (!bags)
            return damaged(st);
        return walk_bags(walk, bags, 0, st);
    }
    if (!PKCS7_type_is_encrypted(safe) || !walk->password) {
        walk->info.sealed++;
        return CODE_OK;
    }
    if (!safe->d.encrypted || !safe->d.encrypted->enc_data)
        return damaged(st);
    TRY(pay_cipher(walk, safe->d.encrypted->enc_data->algorithm, st));
    bags = PKCS12_unpack_p7encdata(safe, walk->password, walk->password_len);
    if (!bags)
        return cannot_open(walk, st);
    return walk_bags(walk, bags, 0, st);
}

/* --- files ---------------------------------------------------------------------------------------------- */

static enum code parse_file(struct bytes content, PKCS12 **ret, struct status *st)
{
    if (content.len > KEYSTORE_MAX_BYTES)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, "a PKCS#12 file of %zu bytes: at most %d", content.len,
                          KEYSTORE_MAX_BYTES);
    const uint8_t *at = content.data;
    PKCS12 *p12 = content.len ? d2i_PKCS12(NULL, &at, (long)content.len) : NULL;
    if (!p12)
        return ossl_fail(st, CODE_INVALID_ARGUMENT, "not a PKCS#12 file");
    if (at != content.data + content.len) {
        PKCS12_free(p12);
        return status_set(st, CODE_INVALID_ARGUMENT, "not a PKCS#12 file: something follows it");
    }
    *ret = p12;
    return CODE_OK;
}

/* The MAC under the password; without one, under the empty one, which then is the password. */
static enum code check_mac(struct walk *walk, PKCS12 *p12, struct status *st)
{
    const ASN1_INTEGER *rounds = NULL;
    if (!PKCS12_mac_present(p12))
        return CODE_OK;
    PKCS12_get0_mac(NULL, NULL, NULL, &rounds, p12);
    TRY(pay(walk, rounds, st));
    if (walk->password) {
        if (PKCS12_verify_mac(p12, walk->password, walk->password_len) != 1)
            return cannot_open(walk, st);
        walk->info.verified = true;
    } else {
        TRY(pay(walk, rounds, st));
        if (PKCS12_verify_mac(p12, "", 0) == 1 || PKCS12_verify_mac(p12, NULL, 0) == 1) {
            walk->password = "";
            walk->info.verified = true;
        }
    }
    ossl_forget();
    return CODE_OK;
}

static enum code walk_file(struct walk *walk, struct bytes content, const struct secret *password,
                           struct status *st)
{
    CLEANUP(cleanup_pkcs12_file) PKCS12 *p12 = NULL;
    CLEANUP(cleanup_safes) STACK_OF(PKCS7) *safes = NULL;
    if (password && password->len > KEYSTORE_PASSWORD_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, "the keystore's password is longer than %d bytes",
                          KEYSTORE_PASSWORD_MAX);
    if (password) {
        walk->password = (const char *)password->data;
        walk->password_len = (int)password->len;
    }
    TRY(parse_file(content, &p12, st));
    TRY(check_mac(walk, p12, st));
    safes = PKCS12_unpack_authsafes(p12);
    if (!safes)
        return damaged(st);
    for (int i = 0; i < sk_PKCS7_num(safes); i++)
        TRY(walk_safe(walk, sk_PKCS7_value(safes, i), st));
    ossl_forget();
    return CODE_OK;
}

static bool of_a_key(const struct walk *walk, const struct found_cert *cert)
{
    for (size_t i = 0; i < walk->n_keys; i++) {
        const struct found_key *key = &walk->key[i];
        if (cert->id_len > 0 && cert->id_len == key->id_len && memcmp(cert->id, key->id, key->id_len) == 0)
            return true;
    }
    return false;
}

enum code pkcs12_certs(struct bytes content, const struct secret *password, size_t max,
                       keystore_on_cert *on_cert, void *arg, struct keystore_info *ret, struct status *st)
{
    CLEANUP(walk_done) struct walk walk = {0};
    TRY(walk_file(&walk, content, password, st));
    *ret = walk.info;
    for (size_t i = 0; i < walk.n_certs; i++) {
        const struct found_cert *cert = &walk.cert[i];
        AUTO_DER struct der der = {0};
        if (i == max)
            return status_set(st, CODE_RESOURCE_EXHAUSTED, "more than %zu certificates in the PKCS#12 file",
                              max);
        if (ossl_cert_der(cert->cert, &der, NULL) == CODE_OK)
            on_cert(der_bytes(&der), cert->alias, of_a_key(&walk, cert), arg);
    }
    return CODE_OK;
}

/* --- with the key --------------------------------------------------------------------------------------- */

void pkcs12_done(struct pkcs12 *pkcs12)
{
    key_free(pkcs12->key);
    der_list_done(&pkcs12->chain);
    pkcs12->key = NULL;
}

static enum code choose_key(struct walk *walk, const char *alias, struct found_key **ret, struct status *st)
{
    struct found_key *found = NULL;
    for (size_t i = 0; i < walk->n_keys; i++) {
        if (alias && walk->n_keys > 1 && strcasecmp(alias, walk->key[i].alias) != 0)
            continue;
        if (found)
            return status_set(st, CODE_FAILED_PRECONDITION,
                              "the PKCS#12 file holds several private keys: give the target an alias");
        found = &walk->key[i];
    }
    if (!found)
        return status_set(st, CODE_NOT_FOUND, "the PKCS#12 file holds no private key%s%.60s",
                          alias && walk->n_keys ? " with the alias " : "",
                          alias && walk->n_keys ? alias : "");
    *ret = found;
    return CODE_OK;
}

/* The leaf, then whatever issued it, as far as the file goes. */
static enum code follow_chain(struct walk *walk, const EVP_PKEY *pkey, struct der_list *ret,
                              struct status *st)
{
    const X509 *at = NULL;
    for (size_t i = 0; i < walk->n_certs && !at; i++) {
        EVP_PKEY *public = X509_get0_pubkey(walk->cert[i].cert);
        if (public && EVP_PKEY_eq(pkey, public) == 1)
            at = walk->cert[i].cert;
    }
    while (at && ret->n < DER_LIST_MAX) {
        AUTO_DER struct der der = {0};
        TRY(ossl_cert_der(at, &der, st));
        TRY(der_list_add(ret, der_bytes(&der), st));
        const X509 *next = NULL;
        for (size_t i = 0; i < walk->n_certs && !next; i++) {
            X509 *cert = walk->cert[i].cert;
            if (cert != at && X509_check_issued(cert, (X509 *)(uintptr_t)at) == X509_V_OK)
                next = cert;
        }
        at = next;
    }
    ossl_forget();
    return CODE_OK;
}

enum code pkcs12_read(struct bytes content, const struct secret *password, const char *alias,
                      struct pkcs12 *ret, struct status *st)
{
    CLEANUP(walk_done) struct walk walk = {.open_keys = true};
    CLEANUP(pkcs12_done) struct pkcs12 read = {0};
    struct found_key *key = NULL;
    TRY(walk_file(&walk, content, password, st));
    if (walk.info.sealed > 0)
        return cannot_open(&walk, st);
    TRY(choose_key(&walk, alias, &key, st));
    TRY(follow_chain(&walk, key->pkey, &read.chain, st));
    memcpy(read.alias, key->alias, sizeof(read.alias));
    read.others = walk.info.keys - 1 + walk.info.trusted;
    read.key = key_wrap(TAKE(key->pkey));
    *ret = read;
    read = (struct pkcs12){0};
    return CODE_OK;
}

/* --- writing -------------------------------------------------------------------------------------------- */

static const struct {
    int cipher;
    const EVP_MD *(*mac)(void);
} encryptions[] = {
    [PKCS12_MODERN] = {NID_aes_256_cbc, EVP_sha256},
    [PKCS12_LEGACY] = {NID_pbe_WithSHA1And3_Key_TripleDES_CBC, EVP_sha1},
};

enum code pkcs12_make(const struct key *key, const struct der_list *chain, const char *alias,
                      const struct secret *password, enum pkcs12_encryption encryption, struct secret **ret,
                      struct status *st)
{
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    const char *text = (const char *)password->data;
    if (password->len == 0 || password->len > KEYSTORE_PASSWORD_MAX || strlen(text) != password->len)
        return status_set(st, CODE_INVALID_ARGUMENT, "a keystore's password must have 1 to %d characters",
                          KEYSTORE_PASSWORD_MAX);
    TRY(ossl_parse_certs(chain, &certs, st));
    if (sk_X509_num(certs) == 0)
        return status_set(st, CODE_INVALID_ARGUMENT, "a keystore needs a certificate");
    AUTO_X509 X509 *leaf = sk_X509_shift(certs);
    int cipher = encryptions[encryption].cipher;
    CLEANUP(cleanup_pkcs12_file)
    PKCS12 *p12 = PKCS12_create(text, alias, key_evp(key), leaf, certs, cipher, cipher, MAKE_ROUNDS, -1, 0);
    if (!p12 || PKCS12_set_mac(p12, text, (int)password->len, NULL, 0, MAKE_ROUNDS,
                               encryptions[encryption].mac()) != 1)
        return ossl_fail(st, CODE_INTERNAL, "cannot make a PKCS#12 file");
    AUTO_DER struct der der = {0};
    if (!OSSL_TO_DER(i2d_PKCS12, p12, &der))
        return ossl_fail(st, CODE_INTERNAL, "cannot encode a PKCS#12 file");
    *ret = secret_dup(der.data, der.len);
    return CODE_OK;
}

static OSSL_PROVIDER *providers[2]; /* default, legacy */

/* OpenSSL's own end forgets what the modules have of their own. */
static void unload(void)
{
    (void)(providers[1] && OSSL_PROVIDER_unload(providers[1]));
    (void)(providers[0] && OSSL_PROVIDER_unload(providers[0]));
}

void pkcs12_load_legacy(void)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;
    /* Naming one provider would end the implicit loading of the default one. */
    if (atomic_flag_test_and_set(&done))
        return;
    if ((providers[0] = OSSL_PROVIDER_load(NULL, "default")))
        providers[1] = OSSL_PROVIDER_load(NULL, "legacy");
    (void)OPENSSL_atexit(unload);
    ossl_forget();
}
