/*
 * issue_rate CLM_BOOTSTRAP CA_DIR COUNT: issues COUNT agent identity certificates as clm-bootstrap does, by
 * its own code: the CSR is taken apart in the service, goes to a signer process over its socket, is verified
 * there, held against the profile, signed, and the answer is read. One after the other; what the
 * database does is not in it. Prints the processor time that service and signer took, in microseconds a
 * certificate, and the wall time. Different keys in turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/id.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "signer_client.h"

#define KEYS 64

static void must(enum code code, const struct status *st)
{
    if (code == CODE_OK)
        return;
    (void)fprintf(stderr, "issue_rate: %s\n", st->msg);
    exit(1);
}

static double cpu_us(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* What issue_pair.c does for one of the two. */
static void issue(struct signer *signer, struct bytes csr, const char *agent_id)
{
    struct status st = {0};
    struct bytes key;
    struct cert_brief made;
    AUTO_DER struct der cert = {0}, issuer = {0};
    uint8_t spki[SHA256_SIZE];
    must(csr_p256_spki(csr, &key, &st), &st);
    sha256(key, spki);
    const struct profile_request request = {.profile = PROFILE_AGENT_IDENTITY,
                                            .csr = csr,
                                            .subject = agent_id,
                                            .generation = 1,
                                            .life_sec = 30LL * 24 * 3600};
    must(signer_issue(signer, &request, &cert, &issuer, &st), &st);
    must(cert_read_brief(der_bytes(&cert), &made, &st), &st);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fputs("usage: issue_rate CLM_BOOTSTRAP CA_DIR COUNT\n", stderr);
        return 2;
    }
    struct status st = {0};
    struct signer *signer = NULL;
    struct der csr[KEYS] = {0};
    char agent_id[UUID_TEXT_SIZE];
    clockid_t signer_clock;
    const struct signer_config config = {.executable = argv[1], .ca_dir = argv[2]};
    must(signer_start(&config, &signer, &st), &st);
    uuid_v7(agent_id);
    for (size_t i = 0; i < KEYS; i++) {
        AUTO_KEY struct key *key = NULL;
        must(key_generate(KEY_EC_P256, &key, &st), &st);
        must(csr_make(key, "host.example.com", NULL, &csr[i], &st), &st);
    }
    if (clock_getcpuclockid(signer_pid(signer), &signer_clock) != 0)
        return 1;
    for (size_t i = 0; i < KEYS; i++)
        issue(signer, der_bytes(&csr[i]), agent_id);

    long count = strtol(argv[3], NULL, 10);
    double wall = cpu_us(CLOCK_MONOTONIC), own = cpu_us(CLOCK_PROCESS_CPUTIME_ID), its = cpu_us(signer_clock);
    for (long i = 0; i < count; i++)
        issue(signer, der_bytes(&csr[i % KEYS]), agent_id);
    own = cpu_us(CLOCK_PROCESS_CPUTIME_ID) - own;
    its = cpu_us(signer_clock) - its;
    wall = cpu_us(CLOCK_MONOTONIC) - wall;
    printf("%.1f %.1f %.1f\n", own / (double)count, its / (double)count, wall / (double)count);
    signer_stop(signer);
    for (size_t i = 0; i < KEYS; i++)
        der_done(&csr[i]);
    return 0;
}
