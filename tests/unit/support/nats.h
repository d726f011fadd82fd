/*
 * A private nats-server for one test binary: JetStream, TLS with a certificate of its own for 127.0.0.1, the
 * users of lib/bus/users.c; a free port on loopback, a temporary directory. Started at the first call,
 * stopped and removed when the process ends. A server that does not start fails the run.
 */
#ifndef CLM_TESTS_SUPPORT_NATS_H
#define CLM_TESTS_SUPPORT_NATS_H

#include "bus/bus.h"

const char *nats_url(void);                              /* "tls://127.0.0.1:port" */
const char *nats_ca_file(void);                          /* PEM */
const char *nats_other_ca_file(void);                    /* of another CA */
const char *nats_password_file(const char *user);        /* 0600 */
void nats_setup(void);                                   /* the stream and its durables */
void nats_kill_server(void);                             /* SIGKILL and wait */
void nats_start_server(void);                            /* again, same port, same store */
void nats_wipe_store(void);                              /* while it is stopped: all streams are gone */
struct bus *nats_bus(const char *user);                  /* connected */
void nats_wait_ready(const struct bus *bus, bool ready); /* bounded */

#endif
