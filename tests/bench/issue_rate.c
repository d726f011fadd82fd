/*
 * issue_rate CLM_BOOTSTRAP CA_DIR COUNT: issues COUNT certificates, two for an agent at once, as
 * clm-bootstrap does, by its own code: the CSRs are taken apart in the service, go to a signer process over
 * its socket, are verified there, held against the profile, signed, and the answer is read. One pair after
 * the other; what the database does is not in it. Prints the processor time that service and signer took, in
 * microseconds a certificate, and the wall time. Different keys in turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/id.h"
#include "need.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "signer_client.h"

#define KEYS 64

static double cpu_us(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* What issue_pair.c does: an agent's two certificates. */
static void issue(struct signer *signer, struct bytes identity, struct bytes task, const char *agent_id)
{
    struct status st = {0};
    struct cert_brief made;
    struct der certs[2] = {0};
    size_t failed;
    struct profile_request requests[] = {{.profile = PROFILE_AGENT_IDENTITY, .csr = identity},
                                         {.profile = PROFILE_AGENT_TASK, .csr = task}};
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct bytes key;
        uint8_t spki[SHA256_SIZE];
        need(csr_p256_spki(requests[i].csr, &key, &st), &st);
        sha256(key, spki);
        requests[i].subject = agent_id;
        requests[i].generation = 1;
        requests[i].life_sec = 30LL * 24 * 3600;
    }
    need(signer_issue(signer, requests, ARRAY_LEN(requests), certs, &failed, &st), &st);
    need(cert_read_brief(der_bytes(&certs[0]), &made, &st), &st);
    for (size_t i = 0; i < ARRAY_LEN(certs); i++)
        der_done(&certs[i]);
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
    need(signer_start(&config, &signer, &st), &st);
    uuid_v7(agent_id);
    for (size_t i = 0; i < KEYS; i++) {
        AUTO_KEY struct key *key = NULL;
        need(key_generate(KEY_EC_P256, &key, &st), &st);
        need(csr_make(key, "host.example.com", NULL, &csr[i], &st), &st);
    }
    if (clock_getcpuclockid(signer_pid(signer), &signer_clock) != 0)
        return 1;
    for (size_t i = 0; i < KEYS; i += 2)
        issue(signer, der_bytes(&csr[i]), der_bytes(&csr[i + 1]), agent_id);

    long count = strtol(argv[3], NULL, 10);
    double wall = cpu_us(CLOCK_MONOTONIC), own = cpu_us(CLOCK_PROCESS_CPUTIME_ID), its = cpu_us(signer_clock);
    for (long i = 0; i < count; i += 2)
        issue(signer, der_bytes(&csr[i % KEYS]), der_bytes(&csr[i % KEYS + 1]), agent_id);
    own = cpu_us(CLOCK_PROCESS_CPUTIME_ID) - own;
    its = cpu_us(signer_clock) - its;
    wall = cpu_us(CLOCK_MONOTONIC) - wall;
    printf("%.1f %.1f %.1f\n", own / (double)count, its / (double)count, wall / (double)count);
    signer_stop(signer);
    for (size_t i = 0; i < KEYS; i++)
        der_done(&csr[i]);
    return 0;
}
