/* What the tests of lib/http share: a loop turned by hand, raw client sockets, certificates made on the spot.
 */
#ifndef CLM_TESTS_HTTP_SUPPORT_H
#define CLM_TESTS_HTTP_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/secret.h"
#include "loop/loop.h"

/* Turns the loop until done(arg), at most 10 s; false if it never was. */
bool spin_until(struct loop *loop, bool (*done)(void *arg), void *arg);
/* Turns it while there is something to do at once. */
void spin(struct loop *loop);

struct raw {
    struct loop *loop;
    int fd;
    char in[256 * 1024];
    size_t len, total; /* held in `in`; ever read */
    bool closed, reset;
};

struct raw *raw_connect(struct loop *loop, uint16_t port);
void raw_free(struct raw *raw);  /* closes with FIN */
void raw_reset(struct raw *raw); /* closes with RST, frees */
void raw_send(struct raw *raw, const char *text);
/* Turns the loop and reads once. When `in` runs full only its tail is kept. */
void raw_read(struct raw *raw);
/* Reads until the input holds text (true) or ends without it. */
bool raw_expect(struct raw *raw, const char *text);
/* Reads until the server closes; true if with FIN. */
bool raw_expect_close(struct raw *raw);
void raw_forget(struct raw *raw); /* drops what was read */

struct test_cert {
    char *pem;
    struct secret *key;
    void *x509, *pkey;
};

struct cert_spec {
    const char *name, *uri, *dns; /* NULL: none */
    bool ca;
    int64_t not_before_s, not_after_s; /* from now; 0, 0: an hour ago to an hour ahead */
};

struct test_cert *cert_make(const struct cert_spec *spec, const struct test_cert *issuer);
void cert_free(struct test_cert *cert);
void cert_spki_sha256(const struct test_cert *cert, uint8_t out[32]);
/* leaf and issuer in one PEM; free it. */
char *cert_bundle(const struct test_cert *first, const struct test_cert *second);

#endif
