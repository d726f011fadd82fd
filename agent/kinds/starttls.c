/* Who says what before TLS, one row a protocol: see starttls.h. */
#include "kinds/starttls.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

/* What a reader found at the front of the answer. */
enum verdict { MORE, TAKEN, DONE, NO };

typedef enum verdict reader_fn(struct starttls_talk *talk, const uint8_t *in, size_t n, size_t *ret_used);

struct exchange {
    const char *send;
    size_t send_len;
    reader_fn *read; /* called until it is DONE */
};

#define EXCHANGES_MAX 3
struct protocol {
    const char *name;
    unsigned ports[2];
    struct exchange exchange[EXCHANGES_MAX];
};

/* Foreign text in a message: printable, short. */
static enum verdict refuse(struct starttls_talk *talk, const char *what, const void *said, size_t n)
{
    char text[64];
    n = n < sizeof(text) - 1 ? n : sizeof(text) - 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = ((const unsigned char *)said)[i];
        text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    text[n] = 0;
    (void)snprintf(talk->error, sizeof(talk->error), "%s%s%s%s", what, n ? ": \"" : "", text, n ? "\"" : "");
    return NO;
}

/* One line, without its end; 0 when it is not whole yet. */
static size_t line_of(const uint8_t *in, size_t n, size_t *ret_used)
{
    const uint8_t *end = memchr(in, '\n', n);
    if (!end)
        return 0;
    *ret_used = (size_t)(end - in) + 1;
    size_t len = (size_t)(end - in);
    return len > 0 && in[len - 1] == '\r' ? len - 1 : len;
}

static bool line_begins(const uint8_t *line, size_t len, const char *with)
{
    size_t n = strlen(with);
    return len >= n && strncasecmp((const char *)line, with, n) == 0;
}

/* A reply of one code over several lines: "250-…" but for the last, "250 …". */
static enum verdict read_smtp(struct starttls_talk *talk, const uint8_t *in, size_t n, size_t *ret_used,
                              const char *code)
{
    size_t len = line_of(in, n, ret_used);
    if (*ret_used == 0)
        return MORE;
    if (len < 3 || memcmp(in, code, 3) != 0 || (len > 3 && in[3] != ' ' && in[3] != '-'))
        return refuse(talk, "the SMTP server does not agree", in, len);
    if (line_begins(in + 3, len - 3, "-STARTTLS") || line_begins(in + 3, len - 3, " STARTTLS"))
        talk->offered = talk->offered || len == 12;
    return len > 3 && in[3] == '-' ? TAKEN : DONE;
}

static enum verdict read_smtp_ready(struct starttls_talk *talk, const uint8_t *in, size_t n, size_t *ret_used)
{
    return read_smtp(talk, in, n, ret_used, "220");
}

static enum verdict read_smtp_ehlo(struct starttls_talk *talk, const uint8_t *in, size_t n, size_t *ret_used)
{
    enum verdict verdict = read_smtp(talk, in, n, ret_used, "250");
    if (verdict == DONE && !talk->offered)
        return refuse(talk, "the SMTP server does not offer STARTTLS", NULL, 0);
    return verdict;
}

static enum verdict read_imap_greeting(struct starttls_talk *talk, const uint8_t *in, size_t n,
                                       size_t *ret_used)
{
    size_t len = line_of(in, n, ret_used);
    if (*ret_used == 0)
        return MORE;
    if (line_begins(in, len, "* OK"))
        return DONE;
    return refuse(talk, "the IMAP server does not greet with OK", in, len);
}

static enum verdict read_imap_answer(struct starttls_talk *talk, const uint8_t *in, size_t n,
                                     size_t *ret_used)
{
    size_t len = line_of(in, n, ret_used);
    if (*ret_used == 0)
        return MORE;
    if (line_begins(in, len, "* "))
        return TAKEN; /* said to everybody */
    return line_begins(in, len, "a OK") ? DONE : refuse(talk, "the IMAP server refuses STARTTLS", in, len);
}

static enum verdict read_pop3(struct starttls_talk *talk, const uint8_t *in, size_t n, size_t *ret_used)
{
    size_t len = line_of(in, n, ret_used);
    if (*ret_used == 0)
        return MORE;
    return line_begins(in, len, "+OK") ? DONE : refuse(talk, "the POP3 server refuses", in, len);
}

/* Enters the BER element at *at, which must have this tag and class; false if it is not whole or another. */
static bool ber_enter(const uint8_t **at, const uint8_t *end, int tag, int class, long *ret_len)
{
    int found_tag, found_class;
    int how = ASN1_get_object(at, ret_len, &found_tag, &found_class, end - *at);
    ERR_clear_error();
    return !(how & 0x80) && !(how & 0x01) && found_tag == tag && found_class == class;
}

/* LDAPMessage { messageID 1, extendedResp [APPLICATION 24] { resultCode … } } */
static enum verdict read_ldap(struct starttls_talk *talk, const uint8_t *in, size_t n, size_t *ret_used)
{
    /* Whole first. Some servers write each length with four bytes. */
    size_t head = n >= 2 && in[1] >= 0x80 ? 2u + (in[1] & 0x7f) : 2, len = 0;
    if (n >= 1 && in[0] != 0x30)
        return refuse(talk, "this is no LDAP server", NULL, 0);
    if (n >= 2 && (in[1] == 0x80 || head > 6))
        return refuse(talk, "the LDAP server's answer cannot be read", NULL, 0);
    if (n < head)
        return MORE;
    for (size_t i = head == 2 ? 1 : 2; i < head; i++)
        len = len << 8 | in[i];
    if (len > STARTTLS_IN_MAX - head)
        return refuse(talk, "the LDAP server's answer is too long", NULL, 0);
    if (n < head + len)
        return MORE;
    const uint8_t *at = in + head, *end = at + len;
    long inner;
    *ret_used = head + len;
    if (!ber_enter(&at, end, V_ASN1_INTEGER, V_ASN1_UNIVERSAL, &inner) || inner != 1 || at[0] != 1)
        return refuse(talk, "the LDAP server answers another request", NULL, 0);
    at += inner;
    if (!ber_enter(&at, end, 24, V_ASN1_APPLICATION, &inner) ||
        !ber_enter(&at, at + inner, V_ASN1_ENUMERATED, V_ASN1_UNIVERSAL, &inner) || inner != 1)
        return refuse(talk, "the LDAP server's answer cannot be read", NULL, 0);
    if (at[0] == 0)
        return DONE;
    (void)snprintf(talk->error, sizeof(talk->error), "the LDAP server refuses StartTLS: result code %u",
                   at[0]);
    return NO;
}

static enum verdict read_postgresql(struct starttls_talk *talk, const uint8_t *in, size_t n, size_t *ret_used)
{
    if (n == 0)
        return MORE;
    *ret_used = 1;
    if (in[0] == 'S')
        return DONE;
    if (in[0] == 'N')
        return refuse(talk, "the PostgreSQL server has ssl = off", NULL, 0);
    return refuse(talk, "this is no PostgreSQL server, or it is overloaded", NULL, 0);
}

#define SAY(text) (text), sizeof(text) - 1
static const struct protocol protocols[] = {
    [STARTTLS_NONE] = {"none", {0}, {{NULL, 0, NULL}}},
    [STARTTLS_SMTP] = {"smtp",
                       {25, 587},
                       {{NULL, 0, read_smtp_ready},
                        {SAY("EHLO [127.0.0.1]\r\n"), read_smtp_ehlo},
                        {SAY("STARTTLS\r\n"), read_smtp_ready}}},
    [STARTTLS_IMAP] = {"imap",
                       {143},
                       {{NULL, 0, read_imap_greeting}, {SAY("a STARTTLS\r\n"), read_imap_answer}}},
    [STARTTLS_POP3] = {"pop3", {110}, {{NULL, 0, read_pop3}, {SAY("STLS\r\n"), read_pop3}}},
    [STARTTLS_LDAP] = {"ldap",
                       {389},
                       {{SAY("\x30\x1d\x02\x01\x01\x77\x18\x80\x16"
                             "1.3.6.1.4.1.1466.20037"),
                         read_ldap}}},
    [STARTTLS_POSTGRESQL] = {"postgresql",
                             {5432},
                             {{SAY("\x00\x00\x00\x08\x04\xd2\x16\x2f"), read_postgresql}}},
};

const char *starttls_name(enum starttls protocol)
{
    return protocols[protocol].name;
}

bool starttls_find(const char *name, enum starttls *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        if (strcasecmp(protocols[i].name, name) == 0) {
            *ret = (enum starttls)i;
            return true;
        }
    }
    return false;
}

enum starttls starttls_of_port(unsigned port)
{
    for (size_t i = 1; i < ARRAY_LEN(protocols); i++) {
        if (port != 0 && (protocols[i].ports[0] == port || protocols[i].ports[1] == port))
            return (enum starttls)i;
    }
    return STARTTLS_NONE;
}

static struct bytes next_words(const struct starttls_talk *talk)
{
    const struct exchange *exchange = &protocols[talk->protocol].exchange[talk->step];
    return (struct bytes){(const uint8_t *)exchange->send, exchange->send_len};
}

void starttls_begin(struct starttls_talk *talk, enum starttls protocol, struct bytes *ret_send)
{
    memset(talk, 0, sizeof(*talk));
    talk->protocol = protocol;
    *ret_send = next_words(talk);
}

static bool is_last(const struct starttls_talk *talk)
{
    return talk->step + 1 >= EXCHANGES_MAX || !protocols[talk->protocol].exchange[talk->step + 1].read;
}

enum starttls_state starttls_feed(struct starttls_talk *talk, const void *data, size_t len,
                                  struct bytes *ret_send)
{
    *ret_send = (struct bytes){NULL, 0};
    talk->total += len;
    if (len > sizeof(talk->in) - talk->n || talk->total > STARTTLS_TOTAL_MAX) {
        (void)refuse(talk, "the server says too much before TLS", NULL, 0);
        return STARTTLS_REFUSED;
    }
    memcpy(talk->in + talk->n, data, len);
    talk->n += len;
    for (;;) {
        size_t used = 0;
        enum verdict verdict =
            protocols[talk->protocol].exchange[talk->step].read(talk, talk->in, talk->n, &used);
        memmove(talk->in, talk->in + used, talk->n - used);
        talk->n -= used;
        if (verdict == NO)
            return STARTTLS_REFUSED;
        if (verdict == MORE)
            return STARTTLS_MORE;
        if (verdict == TAKEN)
            continue;
        if (is_last(talk) && talk->n > 0) {
            (void)refuse(talk, "the server sends more than its answer ahead of TLS", NULL, 0);
            return STARTTLS_REFUSED;
        }
        if (is_last(talk))
            return STARTTLS_READY;
        talk->step++;
        *ret_send = next_words(talk);
        return STARTTLS_MORE; /* what is there already waits until these words are out */
    }
}
