/*
 * envelope_rate ROUNDS COUNT: in each round seals COUNT task envelopes as clm-tasks does for a lease
 * (encrypted to an agent's task certificate, another one each time, and signed with a chain of two), then
 * does as often only what no way to do that can save: a P-256 signature and an ECDH, with keys and contexts
 * that are ready. One thread. Prints a line a round: microseconds of processor time an envelope, and a bare
 * pair.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#include "base/clock.h"
#include "need.h"
#include "pki/cms.h"
#include "pki/issue.h"
#include "pki/key.h"

#define AGENTS      64
#define ORDER_BYTES 1000
#define DAY_MS      (24LL * 3600 * 1000)

static void must_bare(bool done)
{
    if (done)
        return;
    (void)fputs("envelope_rate: OpenSSL failed\n", stderr);
    exit(1);
}

static double cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct key *certify(struct issuer *issuer, enum pki_purpose purpose, bool is_ca, struct der *ret)
{
    struct status st = {0};
    struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    int64_t now_ms = clock_wall_ms();
    need(key_generate(KEY_EC_P256, &key, &st), &st);
    need(key_spki(key, &spki, &st), &st);
    const struct cert_request request = {.spki = der_bytes(&spki),
                                         .common_name = "018f0000-0000-7000-8000-000000000000",
                                         .purpose = purpose,
                                         .is_ca = is_ca,
                                         .path_len = -1,
                                         .not_before_ms = now_ms - DAY_MS,
                                         .not_after_ms = now_ms + DAY_MS};
    if (issuer)
        need(issuer_sign(issuer, &request, ret, &st), &st);
    else
        need(issuer_self_sign(key, &request, ret, &st), &st);
    return key;
}

struct world {
    struct issuer *issuer;
    struct der_list intermediates;
    struct der signer_cert, agent_cert[AGENTS];
    struct key *signer, *agent[AGENTS];
    struct cms_signer *cms;
};

static void make_world(struct world *w)
{
    struct status st = {0};
    AUTO_DER struct der ca = {0};
    struct key *key = certify(NULL, PURPOSE_ENVELOPE, true, &ca);
    need(issuer_new(key, der_bytes(&ca), &w->issuer, &st), &st);
    need(der_list_add(&w->intermediates, der_bytes(&ca), &st), &st);
    w->signer = certify(w->issuer, PURPOSE_ENVELOPE, false, &w->signer_cert);
    need(cms_signer_new(w->signer, der_bytes(&w->signer_cert), &w->intermediates, &w->cms, &st), &st);
    for (size_t i = 0; i < AGENTS; i++)
        w->agent[i] = certify(w->issuer, PURPOSE_AGENT_TASK, false, &w->agent_cert[i]);
}

static void free_world(struct world *w)
{
    issuer_free(w->issuer);
    cms_signer_free(w->cms);
    der_list_done(&w->intermediates);
    der_done(&w->signer_cert);
    key_free(w->signer);
    for (size_t i = 0; i < AGENTS; i++) {
        der_done(&w->agent_cert[i]);
        key_free(w->agent[i]);
    }
}

static double seal(const struct world *w, struct bytes order, long count)
{
    struct status st = {0};
    double began = cpu_us();
    for (long i = 0; i < count; i++) {
        AUTO_DER struct der sealed = {0};
        need(envelope_seal(order, der_bytes(&w->agent_cert[i % AGENTS]), w->cms, &sealed, &st), &st);
    }
    return (cpu_us() - began) / (double)count;
}

static double bare(const struct world *w, long count)
{
    uint8_t digest[32] = {1}, signature[128], secret[64];
    EVP_PKEY_CTX *sign = EVP_PKEY_CTX_new(key_evp(w->signer), NULL);
    EVP_PKEY_CTX *derive = EVP_PKEY_CTX_new(key_evp(w->signer), NULL);
    must_bare(sign && derive && EVP_PKEY_sign_init(sign) == 1 && EVP_PKEY_derive_init(derive) == 1);
    double began = cpu_us();
    for (long i = 0; i < count; i++) {
        size_t signature_len = sizeof(signature), secret_len = sizeof(secret);
        must_bare(EVP_PKEY_sign(sign, signature, &signature_len, digest, sizeof(digest)) == 1 &&
                  EVP_PKEY_derive_set_peer_ex(derive, key_evp(w->agent[i % AGENTS]), 0) == 1 &&
                  EVP_PKEY_derive(derive, secret, &secret_len) == 1);
    }
    double took = (cpu_us() - began) / (double)count;
    EVP_PKEY_CTX_free(sign);
    EVP_PKEY_CTX_free(derive);
    return took;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fputs("usage: envelope_rate ROUNDS COUNT\n", stderr);
        return 2;
    }
    long rounds = strtol(argv[1], NULL, 10), count = strtol(argv[2], NULL, 10);
    uint8_t order[ORDER_BYTES];
    struct world world = {0};
    memset(order, 'o', sizeof(order));
    make_world(&world);
    for (long i = 0; i < rounds; i++) {
        double ours = seal(&world, (struct bytes){order, sizeof(order)}, count);
        printf("%.1f %.1f\n", ours, bare(&world, count));
    }
    free_world(&world);
    return 0;
}
