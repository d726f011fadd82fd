/* What is said before TLS: the five protocols as their servers speak them, and what hostile ones try. */
#include "cmocka_all.h"

#include "kinds/starttls.h"
#include "proto/tasks.pb-c.h"

#define MAX_SAYS 6
struct play {
    enum starttls protocol;
    const char *says[MAX_SAYS]; /* in pieces as read from the socket; NULL: the end */
    enum starttls_state end;
    const char *error;   /* begins with */
    const char *sent[3]; /* by the client, in all */
};

static const struct play plays[] = {
    {STARTTLS_SMTP,
     {"220 mx.example.test ESMTP\r\n", "250-mx.example.test\r\n250-STARTTLS\r\n250 PIPELINING\r\n",
      "220 2.0.0 Ready to start TLS\r\n"},
     .end = STARTTLS_READY,
     .sent = {"EHLO [127.0.0.1]\r\n", "STARTTLS\r\n"}},
    /* cut anywhere; the last line may be the one that offers it, in any case */
    {STARTTLS_SMTP,
     {"220-wait", "\r\n220 hi\n", "250-x\r\n250 start", "tls\r\n", "220", " go\r\n"},
     .end = STARTTLS_READY,
     .sent = {"EHLO [127.0.0.1]\r\n", "STARTTLS\r\n"}},
    {STARTTLS_SMTP,
     {"220 hi\r\n", "250-x\r\n250 STARTTLSX\r\n"},
     .end = STARTTLS_REFUSED,
     .error = "the SMTP server does not offer STARTTLS"},
    {STARTTLS_SMTP,
     {"554 go away\r\n"},
     .end = STARTTLS_REFUSED,
     .error = "the SMTP server does not agree: \"554 go away\""},
    {STARTTLS_SMTP, {"22\r\n"}, .end = STARTTLS_REFUSED, .error = "the SMTP server does not agree: \"22\""},
    {STARTTLS_SMTP,
     {"220 hi\r\n", "250 STARTTLS\r\n", "454 not now\x01\xff\r\n"},
     .end = STARTTLS_REFUSED,
     .error = "the SMTP server does not agree: \"454 not now??\""},
    {STARTTLS_SMTP,
     {"220 hi\r\n", "250 STARTTLS\r\n", "220 go\r\n250 injected\r\n"},
     .end = STARTTLS_REFUSED,
     .error = "the server sends more than its answer ahead of TLS"},
    {STARTTLS_SMTP, {"220 hi\r\n", "250-a\r\n"}, .end = STARTTLS_MORE},
    {STARTTLS_IMAP,
     {"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", "* 3 EXISTS\r\na OK begin TLS\r\n"},
     .end = STARTTLS_READY,
     .sent = {"a STARTTLS\r\n"}},
    {STARTTLS_IMAP,
     {"* PREAUTH you are in\r\n"},
     .end = STARTTLS_REFUSED,
     .error = "the IMAP server does not greet with OK: \"* PREAUTH you are in\""},
    {STARTTLS_IMAP,
     {"* OK\r\n", "a BAD no\r\n"},
     .end = STARTTLS_REFUSED,
     .error = "the IMAP server refuses STARTTLS: \"a BAD no\""},
    {STARTTLS_POP3, {"+OK <1@x>\r\n", "+OK begin\r\n"}, .end = STARTTLS_READY, .sent = {"STLS\r\n"}},
    {STARTTLS_POP3,
     {"+OK\r\n", "-ERR no\r\n"},
     .end = STARTTLS_REFUSED,
     .error = "the POP3 server refuses: \"-ERR no\""},
    {STARTTLS_POSTGRESQL, {"S"}, .end = STARTTLS_READY},
    {STARTTLS_POSTGRESQL, {"N"}, .end = STARTTLS_REFUSED, .error = "the PostgreSQL server has ssl = off"},
    {STARTTLS_POSTGRESQL, {"E"}, .end = STARTTLS_REFUSED, .error = "this is no PostgreSQL server"},
    /* CVE-2021-23222: unencrypted bytes must not be taken for answers */
    {STARTTLS_POSTGRESQL,
     {"SR"},
     .end = STARTTLS_REFUSED,
     .error = "the server sends more than its answer ahead of TLS"},
};

static void servers_are_understood_and_refused_for_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(plays); i++) {
        const struct play *play = &plays[i];
        struct starttls_talk talk;
        struct bytes send;
        char sent[256] = "", wanted[256] = "";
        enum starttls_state end = STARTTLS_MORE;
        starttls_begin(&talk, play->protocol, &send);
        if (play->protocol == STARTTLS_POSTGRESQL)
            assert_int_equal(send.len, 8);
        else
            assert_int_equal(send.len, 0);
        for (size_t k = 0; k < MAX_SAYS && play->says[k]; k++) {
            assert_int_equal(end, STARTTLS_MORE);
            end = starttls_feed(&talk, play->says[k], strlen(play->says[k]), &send);
            (void)strncat(sent, send.data ? (const char *)send.data : "", send.len);
        }
        for (size_t k = 0; k < ARRAY_LEN(play->sent) && play->sent[k]; k++)
            (void)strcat(wanted, play->sent[k]);
        if (end != play->end || (play->error && strncmp(talk.error, play->error, strlen(play->error)) != 0))
            fail_msg("play %zu: %d, \"%s\"", i, (int)end, talk.error);
        if (play->end == STARTTLS_READY)
            assert_string_equal(sent, wanted);
    }
}

struct ldap_play {
    uint8_t says[24];
    size_t len;
    enum starttls_state end;
    const char *error;
};

static const struct ldap_play ldap_plays[] = {
    {"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", 14, STARTTLS_READY, ""},
    /* lengths of four bytes, as Active Directory writes them */
    {"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00", 22,
     STARTTLS_READY, ""},
    {"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00", 14, STARTTLS_REFUSED, "result code 52"},
    {"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00", 14, STARTTLS_REFUSED, "another request"},
    {"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00", 14, STARTTLS_REFUSED, "cannot be read"},
    {"\x30\x0c\x02\x01\x01\x78\x7f\x0a\x01\x00\x04\x00\x04\x00", 14, STARTTLS_REFUSED, "cannot be read"},
    {"\x30\x03\x02\x01\x01", 5, STARTTLS_REFUSED, "cannot be read"},
    {"\x30\x00", 2, STARTTLS_REFUSED, "another request"},
    {"\x30\x80", 2, STARTTLS_REFUSED, "cannot be read"},
    {"\x30\x85\x01", 3, STARTTLS_REFUSED, "cannot be read"},
    {"\x30\x84\xff\xff\xff\xff", 6, STARTTLS_REFUSED, "too long"},
    {"\x30\x82\xff\xff", 4, STARTTLS_REFUSED, "too long"},
    {"HTTP/1.1 400", 12, STARTTLS_REFUSED, "no LDAP server"},
    {"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00\x16", 15, STARTTLS_REFUSED, "ahead of TLS"},
};

static void ldap_answers_are_read_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ldap_plays); i++) {
        const struct ldap_play *play = &ldap_plays[i];
        /* Whole, and byte by byte: the last byte decides, but for what can be refused before. */
        for (unsigned by_bytes = 0; by_bytes < 2; by_bytes++) {
            struct starttls_talk talk;
            struct bytes send;
            enum starttls_state end = STARTTLS_MORE;
            size_t step = by_bytes ? 1 : play->len;
            starttls_begin(&talk, STARTTLS_LDAP, &send);
            assert_int_equal(send.len, 31);
            for (size_t at = 0; at < play->len && end == STARTTLS_MORE; at += step)
                end = starttls_feed(&talk, play->says + at, step, &send);
            if (by_bytes && strcmp(play->error, "ahead of TLS") == 0)
                assert_int_equal(end, STARTTLS_READY); /* the byte behind was not there yet */
            else if (end != play->end || !strstr(talk.error, play->error))
                fail_msg("play %zu (%u): %d, \"%s\"", i, by_bytes, (int)end, talk.error);
        }
    }
}

static void what_a_server_may_say_is_bounded(void **state)
{
    (void)state;
    char line[1000];
    memset(line, 'x', sizeof(line));
    for (int lines = 0; lines < 2; lines++) { /* one line without end, and lines without end */
        struct starttls_talk talk;
        struct bytes send;
        size_t total = 0;
        enum starttls_state end = STARTTLS_MORE;
        memcpy(line, "220-", 4);
        memcpy(line + sizeof(line) - 2, lines ? "\r\n" : "xx", 2);
        starttls_begin(&talk, STARTTLS_SMTP, &send);
        for (; end == STARTTLS_MORE && total < 100000; total += sizeof(line))
            end = starttls_feed(&talk, line, sizeof(line), &send);
        assert_int_equal(end, STARTTLS_REFUSED);
        assert_string_equal(talk.error, "the server says too much before TLS");
        assert_true(total <= STARTTLS_TOTAL_MAX + sizeof(line));
    }
}

static void names_ports_and_contract_agree(void **state)
{
    (void)state;
    static const unsigned ports[][2] = {
        {25, STARTTLS_SMTP},  {587, STARTTLS_SMTP}, {110, STARTTLS_POP3},
        {143, STARTTLS_IMAP}, {389, STARTTLS_LDAP}, {5432, STARTTLS_POSTGRESQL},
        {443, STARTTLS_NONE}, {465, STARTTLS_NONE}, {0, STARTTLS_NONE}};
    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        assert_int_equal(starttls_of_port(ports[i][0]), ports[i][1]);
    const ProtobufCEnumDescriptor *desc = &clm__validate_spec__starttls__descriptor;
    assert_int_equal(desc->n_values, STARTTLS_POSTGRESQL + 1);
    for (unsigned i = 0; i < desc->n_values; i++) {
        enum starttls found;
        assert_true(starttls_find(desc->values[i].name, &found));
        assert_int_equal(found, desc->values[i].value);
        assert_int_equal(strcasecmp(starttls_name(found), desc->values[i].name), 0);
        assert_non_null(strstr(STARTTLS_NAMES, starttls_name(found)));
    }
    enum starttls found;
    assert_false(starttls_find("ftp", &found));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_are_understood_and_refused_for_a_reason),
        cmocka_unit_test(ldap_answers_are_read_in_any_pieces),
        cmocka_unit_test(what_a_server_may_say_is_bounded),
        cmocka_unit_test(names_ports_and_contract_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
