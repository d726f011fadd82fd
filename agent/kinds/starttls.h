/*
 * STARTTLS: what a client and a server say to one another before TLS begins, as a pure state machine over
 * bytes. It sends nothing itself and reads no socket. Servers are hostile: what one may send is bounded, and
 * bytes that it sent ahead of the handshake refuse it (they would be taken for answers under TLS).
 * SMTP RFC 3207, IMAP RFC 3501 section 6.2.1, POP3 RFC 2595, LDAP RFC 4511 section 4.14, PostgreSQL
 * protocol 3.0 "SSL Session Encryption".
 */
#ifndef CLM_AGENT_KINDS_STARTTLS_H
#define CLM_AGENT_KINDS_STARTTLS_H

#include <stdbool.h>

#include "pki/der.h"

enum starttls {
    STARTTLS_NONE, /* TLS at once */
    STARTTLS_SMTP,
    STARTTLS_IMAP,
    STARTTLS_POP3,
    STARTTLS_LDAP,
    STARTTLS_POSTGRESQL,
};

#define STARTTLS_NAMES "none, smtp, imap, pop3, ldap, postgresql"
const char *starttls_name(enum starttls protocol); /* "smtp" */
bool starttls_find(const char *name, enum starttls *ret);
/* What a server on this port is used to speak: 25 and 587 SMTP, 110 POP3, 143 IMAP, 389 LDAP, 5432
 * PostgreSQL; NONE for any other. */
enum starttls starttls_of_port(unsigned port);

#define STARTTLS_IN_MAX    4096  /* of an answer that is not whole yet */
#define STARTTLS_TOTAL_MAX 16384 /* of everything that a server says */

struct starttls_talk {
    enum starttls protocol;
    unsigned step;
    bool offered;
    size_t total, n;
    uint8_t in[STARTTLS_IN_MAX];
    char error[160]; /* of STARTTLS_REFUSED */
};

enum starttls_state {
    STARTTLS_MORE,    /* the server has to say more */
    STARTTLS_READY,   /* TLS begins now */
    STARTTLS_REFUSED, /* error says why */
};

/* Zeroes talk; *ret_send is what to send before anything is read (it may be empty; static memory). */
void starttls_begin(struct starttls_talk *talk, enum starttls protocol, struct bytes *ret_send);
/* Takes what the server said; *ret_send is what to send next (static memory, may be empty). */
enum starttls_state starttls_feed(struct starttls_talk *talk, const void *data, size_t len,
                                  struct bytes *ret_send);

#endif
