/*
 * The child's half of probe.c: TLS handshakes with foreign servers, many at once in one event loop. Runs in a
 * confined child and nowhere else. What it writes is a row of answers: a look_answer 'A' as soon as a server
 * is connected, a look_answer 'Z' at the end of a look, then n_certs times a length (uint32_t) and as many
 * bytes of DER.
 */
#ifndef CLM_AGENT_KINDS_LOOK_H
#define CLM_AGENT_KINDS_LOOK_H

#include "kinds/probe.h"

struct look_answer {
    char kind;
    char protocol[16];
    char error[160];
    uint8_t connected, tls, n_certs;
    uint32_t index; /* of the probe */
};

/* Looks at all of them, `parallel` at a time and begun at most `rate` in a second (0: no limit), and writes
 * to out (blocking); ends when each was answered or nobody listens any more. With more than one, hosts must
 * be addresses: names are resolved while all wait. */
void look_all(const struct probe *probes, size_t n, size_t parallel, unsigned rate, int out);

#endif
