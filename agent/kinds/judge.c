/* What is looked at, and what it means: see judge.h. */
#include "kinds/judge.h"

#include <dirent.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "pki/digest.h"
#include "pki/revocation.h"

#define PASS CLM__CHECK__OUTCOME__PASS
#define WARN CLM__CHECK__OUTCOME__WARN
#define FAIL CLM__CHECK__OUTCOME__FAIL

#define SYSTEM_BUNDLE "/etc/ssl/certs/ca-certificates.crt"
#define TRUST_CERTS   2000
#define DAY_MS        (24 * 3600 * 1000ll)

/* --- known roots: read here, parsed in the child ------------------------------------------------------- */

void trust_load(const char *state_dir, struct buf *ret)
{
    char path[4096];
    ret->limit = TRUST_MAX;
    (void)!file_read(SYSTEM_BUNDLE, TRUST_MAX / 2, ret, NULL);
    (void)snprintf(path, sizeof(path), "%s/issuers", state_dir);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/issuers/%s", state_dir, entry->d_name);
        (void)!file_read(path, CERT_MAX_BYTES * 2, ret, NULL);
        (void)!buf_puts(ret, "\n");
    }
    if (dir)
        (void)closedir(dir);
}

void trust_remember(const char *state_dir, struct bytes root_der)
{
    char name[SHA256_HEX_SIZE], path[4096];
    AUTO_DER_LIST struct der_list list = {0};
    AUTO_BUF struct buf pem = {0};
    sha256_hex(root_der, name);
    (void)snprintf(path, sizeof(path), "%s/issuers", state_dir);
    if (der_list_add(&list, root_der, NULL) != CODE_OK || certs_to_pem(&list, &pem, NULL) != CODE_OK ||
        dir_make(path, 0755, NULL) != CODE_OK)
        return;
    (void)snprintf(path, sizeof(path), "%s/issuers/%s.pem", state_dir, name);
    if (access(path, F_OK) != 0)
        (void)!file_write_atomic(path, pem.data, pem.len, 0644, NULL);
}

/* --- chains -------------------------------------------------------------------------------------------- */

enum chain_state { CHAIN_TRUSTED, CHAIN_UNKNOWN_ROOT, CHAIN_SELF_SIGNED, CHAIN_BROKEN };

struct roots {
    const char *subject;
    struct bytes name; /* the same, as DER */
    struct der_list list;
};

static void consider_root(struct bytes der, void *arg)
{
    struct roots *roots = arg;
    AUTO_CERT_INFO struct cert_info info = {0};
    /* Reading a root costs a verification of its own signature, and a bundle holds more than a hundred. */
    if (!memmem(der.data, der.len, roots->name.data, roots->name.len))
        return;
    if (cert_read(der, &info, NULL) == CODE_OK && strcmp(info.subject, roots->subject) == 0)
        (void)!der_list_add(&roots->list, der, NULL);
}

static void find_roots(struct bytes trust, struct bytes top, const char *subject, struct roots *ret)
{
    AUTO_DER struct der name = {0};
    if (cert_issuer_name(top, &name, NULL) != CODE_OK)
        return;
    ret->subject = subject;
    ret->name = der_bytes(&name);
    (void)!certs_sniff(trust, TRUST_CERTS, consider_root, ret, NULL);
}

/* ordered: leaf first. The root given, if any, else whichever is known. */
static enum chain_state judge_chain(const struct der_list *ordered, struct bytes root, struct bytes trust,
                                    int64_t at_ms, struct status *why)
{
    AUTO_CERT_INFO struct cert_info top = {0};
    AUTO_DER_LIST struct der_list intermediates = {0};
    if (cert_read(der_bytes(&ordered->item[ordered->n - 1]), &top, why) != CODE_OK)
        return CHAIN_BROKEN;
    for (size_t i = 1; i < ordered->n; i++)
        (void)!der_list_add(&intermediates, der_bytes(&ordered->item[i]), NULL);
    struct roots roots = {0};
    if (root.len > 0)
        (void)!der_list_add(&roots.list, root, NULL);
    else
        find_roots(trust, der_bytes(&ordered->item[ordered->n - 1]), top.issuer, &roots);
    enum chain_state state = CHAIN_TRUSTED;
    if (roots.list.n > 0) {
        if (chain_verify(der_bytes(&ordered->item[0]), &intermediates, &roots.list, PURPOSE_TLS_SERVER, at_ms,
                         why) != CODE_OK)
            state = CHAIN_BROKEN;
    } else if (ordered->n == 1 && top.self_signed) {
        state = CHAIN_SELF_SIGNED;
    } else {
        status_set(why, CODE_NOT_FOUND, "its issuer is not known to this host: %.160s", top.issuer);
        state = CHAIN_UNKNOWN_ROOT;
    }
    der_list_done(&roots.list);
    return state;
}

static bool covers(const struct cert_info *info, struct bytes der, const char *name)
{
    for (size_t i = 0; i < info->names.n_dns; i++) {
        if (strcasecmp(info->names.dns[i], name) == 0)
            return true; /* a wildcard asked for by that name, too */
    }
    return cert_matches_host(der, name);
}

/* --- may it be installed? ------------------------------------------------------------------------------ */

static enum code check_key(const struct secret *encoded, struct bytes leaf, struct status *st)
{
    AUTO_KEY struct key *key = NULL;
    if (key_parse(encoded, NULL, &key, st) != CODE_OK)
        return status_wrap(st, "the private key");
    if (!key_matches_cert(key, leaf))
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "the certificate is for another key than the one on this host");
    return CODE_OK;
}

static enum code check_dates(const struct cert_info *info, const struct judge_install *in, struct status *st)
{
    char at[CLOCK_RFC3339_SIZE];
    if (in->now_ms >= info->not_after_ms) {
        clock_format_rfc3339(info->not_after_ms, at);
        return status_set(st, CODE_FAILED_PRECONDITION, "the certificate expired at %s", at);
    }
    if (in->now_ms < info->not_before_ms) {
        clock_format_rfc3339(info->not_before_ms, at);
        return status_set(st, CODE_FAILED_PRECONDITION, "the certificate is not valid before %s", at);
    }
    AUTO_CERT_INFO struct cert_info before = {0};
    if (in->old.len == 0 || cert_read(in->old, &before, NULL) != CODE_OK)
        return CODE_OK; /* what is in place is no certificate: anything is newer */
    /* Issuers date back by minutes, so a later end makes up for an earlier start. */
    if (info->not_before_ms < before.not_before_ms && info->not_after_ms < before.not_after_ms) {
        clock_format_rfc3339(before.not_before_ms, at);
        return status_set(st, CODE_FAILED_PRECONDITION,
                          "the certificate is older than the one in place, of %s", at);
    }
    return CODE_OK;
}

static enum code check_install(const struct judge_install *in, struct der_list *ordered,
                               enum chain_state *ret_state, struct status *st)
{
    AUTO_DER_LIST struct der_list given = {0};
    AUTO_CERT_INFO struct cert_info info = {0};
    TRY(pem_to_certs(in->chain_pem, &given, st));
    TRY(chain_order(&given, ordered, st));
    struct bytes leaf = der_bytes(&ordered->item[0]);
    TRY(cert_read(leaf, &info, st));
    TRY(check_key(in->key, leaf, st));
    for (size_t i = 0; i < in->n_names; i++) {
        if (!covers(&info, leaf, in->names[i]))
            return status_set(st, CODE_FAILED_PRECONDITION, "the certificate does not cover %.120s",
                              in->names[i]);
    }
    TRY(check_dates(&info, in, st));
    if (!info.server_auth)
        return status_set(st, CODE_FAILED_PRECONDITION, "the certificate is not for TLS servers (EKU)");
    *ret_state = judge_chain(ordered, in->root, in->trust, in->now_ms, st);
    return *ret_state == CHAIN_BROKEN ? status_wrap(st, "the chain") : CODE_OK;
}

static enum code add_pem(struct arena *arena, const struct der_list *ordered, size_t from, size_t to,
                         ProtobufCBinaryData *ret, protobuf_c_boolean *ret_has, struct status *st)
{
    AUTO_BUF struct buf pem = {0};
    AUTO_DER_LIST struct der_list part = {0};
    for (size_t i = from; i < to; i++)
        TRY(der_list_add(&part, der_bytes(&ordered->item[i]), st));
    TRY(certs_to_pem(&part, &pem, st));
    *ret = confine_bytes(arena, pem.data, pem.len);
    *ret_has = true;
    return CODE_OK;
}

void judge_install(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct judge_install *in = arg;
    AUTO_DER_LIST struct der_list ordered = {0};
    struct status st = {0};
    enum chain_state state;
    enum code code = check_install(in, &ordered, &state, &st);
    if (code == CODE_OK)
        code = confine_add_cert(facts, arena, der_bytes(&ordered.item[0]), 0, false, &st);
    if (code == CODE_OK)
        code = add_pem(arena, &ordered, 0, 1, &facts->leaf_pem, &facts->has_leaf_pem, &st);
    if (code == CODE_OK)
        code = add_pem(arena, &ordered, 1, ordered.n, &facts->intermediates_pem,
                       &facts->has_intermediates_pem, &st);
    if (code != CODE_OK)
        confine_fail(facts, arena, code, "%s", st.msg);
    else if (state != CHAIN_TRUSTED)
        confine_add_check(facts, arena, "chain", WARN, NULL, "%s",
                          state == CHAIN_SELF_SIGNED ? "it is self-signed"
                                                     : "no root that this host knows stands above it");
}

/* --- is it sound? -------------------------------------------------------------------------------------- */

struct sound {
    const struct judge_sound *in;
    struct arena *arena;
    Clm__Agent__Facts *facts;
};
#define CHECK(sound, id, outcome, remedy, ...)                                                               \
    confine_add_check((sound)->facts, (sound)->arena, (id), (outcome), (remedy), __VA_ARGS__)

static void check_chain(struct sound *s, const char *id, const struct der_list *given,
                        const struct cert_info *leaf)
{
    static const char remedy[] = "install the certificate with all its intermediates, leaf first";
    AUTO_DER_LIST struct der_list ordered = {0};
    struct status st = {0};
    /* An expired leaf is the validity check's to report. */
    int64_t at_ms = s->in->now_ms;
    if (at_ms >= leaf->not_after_ms)
        at_ms = leaf->not_after_ms - 1000;
    if (at_ms < leaf->not_before_ms)
        at_ms = leaf->not_before_ms;
    if (chain_order(given, &ordered, &st) != CODE_OK) {
        CHECK(s, id, FAIL, remedy, "%s", st.msg);
        return;
    }
    switch (judge_chain(&ordered, (struct bytes){0}, s->in->trust, at_ms, &st)) {
    case CHAIN_TRUSTED:
        CHECK(s, id, PASS, NULL, "builds to a root that this host knows");
        break;
    case CHAIN_SELF_SIGNED:
        CHECK(s, id, WARN, "renew it from an issuer", "self-signed");
        break;
    case CHAIN_UNKNOWN_ROOT:
        CHECK(s, id, WARN, "add the intermediates, or the root to the host's trust store", "%s", st.msg);
        break;
    case CHAIN_BROKEN:
        CHECK(s, id, FAIL, remedy, "%s", st.msg);
        break;
    }
}

static void check_names(struct sound *s, const struct cert_info *info, struct bytes leaf)
{
    const char *name = s->in->server_name;
    if (!name && info->names.n_dns == 0 && info->names.n_ip == 0)
        CHECK(s, "names", FAIL, "renew it with subject alternative names", "has no DNS name and no address");
    else if (!name)
        CHECK(s, "names", PASS, NULL, "%s and %zu more",
              info->names.n_dns ? info->names.dns[0] : info->names.ip[0],
              info->names.n_dns + info->names.n_ip - 1);
    else if (covers(info, leaf, name))
        CHECK(s, "names", PASS, NULL, "covers %s", name);
    else
        CHECK(s, "names", FAIL, "renew it with that name", "does not cover %.200s", name);
}

static void check_validity(struct sound *s, const struct cert_info *info)
{
    char at[CLOCK_RFC3339_SIZE];
    int64_t life_ms = info->not_after_ms - info->not_before_ms, left_ms = info->not_after_ms - s->in->now_ms;
    clock_format_rfc3339(info->not_after_ms, at);
    if (left_ms <= 0) {
        CHECK(s, "validity", FAIL, "renew it now", "expired at %s", at);
    } else if (s->in->now_ms < info->not_before_ms) {
        clock_format_rfc3339(info->not_before_ms, at);
        CHECK(s, "validity", FAIL, "look at the host's clock", "not valid before %s", at);
    } else if (left_ms < life_ms / (life_ms <= 10 * DAY_MS ? 2 : 3)) {
        CHECK(s, "validity", WARN, "renew it", "ends at %s, in %lld hours", at,
              (long long)(left_ms / 3600000));
    } else {
        CHECK(s, "validity", PASS, NULL, "until %s", at);
    }
}

static void check_strength(struct sound *s, const struct cert_info *info)
{
    bool rsa = strncmp(info->key_name, "RSA", 3) == 0;
    unsigned least = rsa ? 2048 : 224;
    if ((rsa || strncmp(info->key_name, "EC", 2) == 0) && info->key_bits < least)
        CHECK(s, "weak-key", FAIL, "renew it with a new key", "%s with %u bits", info->key_name,
              info->key_bits);
    else if (strncmp(info->key_name, "DSA", 3) == 0)
        CHECK(s, "weak-key", FAIL, "renew it with a new key", "%s", info->key_name);
    else
        CHECK(s, "weak-key", PASS, NULL, "%s", info->key_name);
    const char *sig = info->signature_algorithm;
    if (strcasestr(sig, "md5") || strcasestr(sig, "md2") || strcasestr(sig, "md4") || strcasestr(sig, "sha1"))
        CHECK(s, "weak-signature", FAIL, "renew it", "signed with %s", sig);
    else
        CHECK(s, "weak-signature", PASS, NULL, "%s", sig);
    if (info->server_auth)
        CHECK(s, "eku", PASS, NULL, "may be used by TLS servers");
    else
        CHECK(s, "eku", FAIL, "renew it as a server certificate",
              "its extended key usage leaves TLS servers out");
}

static void check_key_file(struct sound *s, struct bytes leaf)
{
    const struct judge_sound *in = s->in;
    AUTO_KEY struct key *key = NULL;
    struct status st = {0};
    if (!in->key) {
        CHECK(s, "key-match", FAIL, "put the key back, or renew", "there is no key file");
        return;
    }
    if (key_parse(in->key, NULL, &key, &st) != CODE_OK)
        CHECK(s, "key-match", FAIL, "put the key back, or renew", "%s", st.msg);
    else if (!key_matches_cert(key, leaf))
        CHECK(s, "key-match", FAIL, "renew, or restore the pair from its backup",
              "the key is not this certificate's");
    else
        CHECK(s, "key-match", PASS, NULL, "the key is this certificate's");
    if (in->key_mode & 007)
        CHECK(s, "permissions", FAIL, "chmod 600 the key's file",
              "the key's file has mode %04o: everybody can use it", in->key_mode);
    else if (in->key_mode & 020)
        CHECK(s, "permissions", FAIL, "chmod g-w the key's file", "the key's file has mode %04o",
              in->key_mode);
    else if (!in->key_owner_ok)
        CHECK(s, "permissions", WARN, "chown root the key's file", "the key's file does not belong to root");
    else if (in->key_mode & 040)
        CHECK(s, "permissions", WARN, "chmod 600 the key's file if its server starts as root",
              "the key's file has mode %04o: its group can read it", in->key_mode);
    else
        CHECK(s, "permissions", PASS, NULL, "mode %04o", in->key_mode);
}

static void check_served(struct sound *s, const char *intended)
{
    const struct judge_sound *in = s->in;
    if (!in->connected || !in->tls) {
        CHECK(s, "reachable", FAIL, "start the server, or correct the endpoint", "%s: %s", in->endpoint,
              in->probe_error ? in->probe_error : "no answer");
        return;
    }
    CHECK(s, "reachable", PASS, NULL, "%s answers", in->endpoint);
    char served[SHA256_HEX_SIZE];
    sha256_hex(der_bytes(&in->served->item[0]), served);
    if (!intended)
        CHECK(s, "served", PASS, NULL, "serves %s", served);
    else if (strcmp(served, intended) == 0)
        CHECK(s, "served", PASS, NULL, "serves the intended certificate");
    else
        CHECK(s, "served", FAIL, "reload the server", "serves %.16s... and not %.16s...", served, intended);
    AUTO_CERT_INFO struct cert_info info = {0};
    struct status st = {0};
    if (cert_read(der_bytes(&in->served->item[0]), &info, &st) == CODE_OK)
        check_chain(s, "served-chain", in->served, &info);
    else
        CHECK(s, "served-chain", FAIL, "install another certificate", "%s", st.msg);
    if (strcmp(in->protocol, "TLSv1.3") != 0 && strcmp(in->protocol, "TLSv1.2") != 0)
        CHECK(s, "protocol", FAIL, "allow TLS 1.2 and 1.3 only", "speaks %s at best", in->protocol);
    else if (in->legacy)
        CHECK(s, "protocol", WARN, "allow TLS 1.2 and 1.3 only", "also accepts TLS 1.1 or older");
    else
        CHECK(s, "protocol", PASS, NULL, "%s", in->protocol);
}

static void check_leaf(struct sound *s, const struct der_list *chain)
{
    struct bytes leaf = der_bytes(&chain->item[0]);
    AUTO_CERT_INFO struct cert_info info = {0};
    struct status st = {0};
    if (cert_read(leaf, &info, &st) != CODE_OK ||
        confine_add_cert(s->facts, s->arena, leaf, 0, false, &st) != CODE_OK) {
        CHECK(s, "file", FAIL, "put a certificate there", "%s", st.msg);
        return;
    }
    check_names(s, &info, leaf);
    check_validity(s, &info);
    check_strength(s, &info);
}

void judge_sound(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct judge_sound *in = arg;
    struct sound s = {in, arena, facts};
    AUTO_DER_LIST struct der_list chain = {0};
    struct status st = {0};
    const char *intended = in->expected;
    if (in->pem.len > 0 && pem_to_certs(in->pem, &chain, &st) != CODE_OK) {
        CHECK(&s, "file", FAIL, "put a PEM certificate there", "%s", st.msg);
    } else if (in->pem.len > 0) {
        CHECK(&s, "file", PASS, NULL, "%zu certificates", chain.n);
        AUTO_CERT_INFO struct cert_info info = {0};
        if (in->key_expected)
            check_key_file(&s, der_bytes(&chain.item[0]));
        if (cert_read(der_bytes(&chain.item[0]), &info, NULL) == CODE_OK)
            check_chain(&s, "chain", &chain, &info);
        check_leaf(&s, &chain);
        if (!intended && facts->n_certs > 0)
            intended = facts->certs[0]->certificate->fingerprint_sha256;
    }
    if (in->endpoint)
        check_served(&s, intended);
    if (facts->n_certs == 0 && in->tls && in->pem.len == 0)
        check_leaf(&s, in->served);
}

/* --- was it revoked? ----------------------------------------------------------------------------------- */

static void take_first(struct bytes der, void *arg)
{
    struct roots *roots = arg;
    if (roots->list.n == 0)
        consider_root(der, roots);
}

/* The certificate above the leaf: out of the chain, else of what this host trusts. */
static bool find_issuer(const struct der_list *chain, struct bytes trust, struct der *ret)
{
    AUTO_CERT_INFO struct cert_info leaf = {0};
    AUTO_DER struct der name = {0};
    struct bytes first = der_bytes(&chain->item[0]);
    if (cert_read(first, &leaf, NULL) != CODE_OK || leaf.self_signed ||
        cert_issuer_name(first, &name, NULL) != CODE_OK)
        return false;
    struct roots roots = {.subject = leaf.issuer, .name = der_bytes(&name)};
    for (size_t i = 1; i < chain->n; i++)
        take_first(der_bytes(&chain->item[i]), &roots);
    if (roots.list.n == 0)
        (void)!certs_sniff(trust, TRUST_CERTS, take_first, &roots, NULL);
    bool found = roots.list.n > 0;
    if (found)
        *ret = der_dup(der_bytes(&roots.list.item[0]));
    der_list_done(&roots.list);
    return found;
}

void judge_sources(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct judge_sources *in = arg;
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_DER struct der issuer = {0}, request = {0};
    struct revocation_sources sources;
    const struct der_list *list = in->served;
    if (in->pem.len > 0 && pem_to_certs(in->pem, &chain, NULL) == CODE_OK)
        list = &chain;
    if (!list || list->n == 0 || revocation_sources(der_bytes(&list->item[0]), &sources, NULL) != CODE_OK)
        return;
    struct bytes leaf = der_bytes(&list->item[0]);
    for (size_t i = 0; i < sources.n_ocsp; i++)
        ARENA_PUSH(arena, facts->ocsp_urls, facts->n_ocsp_urls, arena_strdup(arena, sources.ocsp[i]));
    for (size_t i = 0; i < sources.n_crl; i++)
        ARENA_PUSH(arena, facts->crl_urls, facts->n_crl_urls, arena_strdup(arena, sources.crl[i]));
    facts->has_leaf_der = true;
    facts->leaf_der = confine_bytes(arena, leaf.data, leaf.len);
    if (!find_issuer(list, in->trust, &issuer))
        return;
    facts->has_issuer_der = true;
    facts->issuer_der = confine_bytes(arena, issuer.data, issuer.len);
    if (ocsp_request_make(leaf, der_bytes(&issuer), &request, NULL) != CODE_OK)
        return;
    facts->has_ocsp_request = true;
    facts->ocsp_request = confine_bytes(arena, request.data, request.len);
}

void judge_answer(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct judge_answer *in = arg;
    struct sound s = {NULL, arena, facts};
    struct status st = {0};
    enum revocation found = REVOCATION_UNKNOWN;
    char text[128];
    enum code code = in->is_crl
                         ? crl_read(in->answer, in->leaf, in->issuer, in->now_ms, &found, text, &st)
                         : ocsp_answer_read(in->answer, in->leaf, in->issuer, in->now_ms, &found, text, &st);
    if (code != CODE_OK)
        confine_fail(facts, arena, code, "%s", st.msg);
    else if (found == REVOCATION_GOOD)
        CHECK(&s, "revocation", PASS, NULL, "not revoked, says %.250s", in->from);
    else if (found == REVOCATION_REVOKED)
        CHECK(&s, "revocation", FAIL, NULL, "revoked %s, says %.200s", text, in->from);
    else
        confine_fail(facts, arena, CODE_NOT_FOUND, "it does not know this certificate");
}
