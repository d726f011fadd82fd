/* Reading nginx's configuration: which file serves which name on which socket. */
#include "harness.h"

#include <sys/stat.h>

#include "kinds/confine.h"
#include "presets/nginx.h"

static struct arena *arena;
static struct status st;

static int arena_setup(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

static int arena_teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static const Clm__Agent__Facts *parse(const char *dump)
{
    const Clm__Agent__Facts *facts = NULL;
    struct bytes bytes = {(const uint8_t *)dump, strlen(dump)};
    if (confine_run(nginx_parse, &bytes, arena, &facts, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return facts;
}

static void servers_are_found_with_names_and_sockets(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("nginx: the configuration file syntax is ok\n"
              "# configuration file /etc/nginx/nginx.conf:\n"
              "http { # a comment { with braces ;\n"
              "  log_format main '$remote_addr \"${x}\" {';\n"
              "  map $host $y { default \"a;b\"; }\n"
              "  server { listen 80; server_name plain.example.test; return 301 https://$host; }\n"
              "  server { listen 443 ssl http2; listen [::]:443 ssl; listen unix:/run/x ssl;\n"
              "    server_name www.example.test *.example.test .deep.test ~^re$ _ \"\";\n"
              "    ssl_certificate /etc/ssl/a.pem; ssl_certificate_key \"/etc/ssl/a key.pem\";\n"
              "    location / { if ($a) { return 200 'x}'; } proxy_pass http://up; } }\n"
              "  upstream up { server 10.0.0.1:80; }\n"
              "}\n");
    assert_int_equal(facts->n_servers, 1);
    const Clm__Agent__ServerFacts *server = facts->servers[0];
    assert_string_equal(server->certificate, "/etc/ssl/a.pem");
    assert_string_equal(server->key, "/etc/ssl/a key.pem");
    assert_int_equal(server->n_listens, 2);
    assert_string_equal(server->listens[0], "127.0.0.1:443");
    assert_string_equal(server->listens[1], "[::1]:443");
    assert_int_equal(server->n_names, 4);
    assert_string_equal(server->names[0], "www.example.test");
    assert_string_equal(server->names[2], "deep.test");
    assert_string_equal(server->names[3], "*.deep.test");
}

static void a_path_that_is_no_text_hides_no_other_server(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("# configuration file /etc/nginx/nginx.conf:\n"
              "http { server { listen 443 ssl; ssl_certificate /a\xe9.pem; ssl_certificate_key /a.key; }\n"
              "  server { listen 444 ssl; ssl_certificate /b.pem; ssl_certificate_key /b.key; } }\n");
    assert_int_equal(facts->n_servers, 1);
    assert_string_equal(facts->servers[0]->certificate, "/b.pem");
}

static void includes_and_inheritance_are_followed(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("# configuration file /c/nginx.conf:\n"
              "http { include sites/*.conf; ssl_certificate_key http.key;\n"
              " ssl_certificate http.pem; }\n"
              "# configuration file /c/sites/a.conf:\n"
              "server { listen 8443 ssl; server_name a.test; }\n"
              "server { listen 8443; server_name b.test; include /c/pair.inc; }\n"
              "# configuration file /c/sites/x/no.conf:\n"
              "server { listen 1 ssl; }\n"
              "# configuration file /c/pair.inc:\n"
              "ssl_certificate b.pem; ssl_certificate_key b.key;\n"
              "ssl_certificate b2.pem; ssl_certificate_key b2.key;\n");
    assert_int_equal(facts->n_servers, 3);
    assert_string_equal(facts->servers[0]->certificate, "/c/http.pem");
    assert_string_equal(facts->servers[0]->key, "/c/http.key");
    assert_string_equal(facts->servers[1]->certificate, "/c/b.pem");
    assert_string_equal(facts->servers[1]->listens[0], "127.0.0.1:8443");
    assert_string_equal(facts->servers[2]->key, "/c/b2.key");
}

static void variables_and_inline_data_are_no_files(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("# configuration file /c/nginx.conf:\nhttp { server { listen 1 ssl; ssl_certificate $cert;\n"
              "ssl_certificate_key data:$key; } }\n");
    assert_int_equal(facts->n_servers, 0);
}

static void nonsense_is_survived(void **state)
{
    (void)state;
    static const char *const dumps[] = {
        "# configuration file /c:\n}}}};;;{{{",
        "# configuration file /c:\nhttp { server { listen 443 ssl; ssl_certificate 'open",
        "# configuration file /c:\nhttp { include /c*; include *; }\n# configuration file /c2:\ninclude /c*;",
        "# configuration file /c:\n\\",
        "# configuration file /c:\nhttp{server{listen ;listen :;listen ]:;listen [;ssl_certificate a;}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++)
        assert_int_equal(parse(dumps[i])->n_servers, 0);
    AUTO_BUF struct buf deep = {0};
    assert_true(buf_puts(&deep, "# configuration file /c:\n"));
    for (int i = 0; i < 20000; i++)
        assert_true(buf_puts(&deep, "http{"));
    assert_int_equal(parse(buf_text(&deep))->n_servers, 0);
    const Clm__Agent__Facts *facts;
    struct bytes nothing = {(const uint8_t *)"nope", 4};
    assert_int_equal(confine_run(nginx_parse, &nothing, arena, &facts, &st), CODE_INVALID_ARGUMENT);
}

static void own_dump_of_nginx_is_understood(void **state)
{
    struct host *host = *state;
    int64_t now = 0;
    struct issued pair = issue(host, NULL, now, 4102444800000);
    put_pair(host, &pair);
    write_nginx_conf(host, "include more/*.conf;\n");
    assert_int_equal(mkdir(host_path(host, "more"), 0700), 0);
    assert_int_equal(mkdir(host_path(host, "available"), 0700), 0);
    write_text(host_path(host, "available/b"),
               "server { listen 127.0.0.1:4443 ssl; server_name b.example.test; ssl_certificate cert.pem;\n"
               " ssl_certificate_key key.pem; }\n",
               0600);
    assert_int_equal(symlink("../available/b", host_path(host, "more/b.conf")), 0);
    char prefix[80];
    (void)snprintf(prefix, sizeof(prefix), "%s/", host->dir);
    char *argv[] = {(char[]){"/usr/sbin/nginx"},
                    (char[]){"-T"},
                    (char[]){"-p"},
                    prefix,
                    (char[]){"-c"},
                    host_path(host, "nginx.conf"),
                    NULL};
    struct arena *own = arena_new();
    const Clm__Agent__Facts *dumped, *read;
    if (nginx_look_dump(argv, own, &dumped, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_int_equal(dumped->n_servers, 2);
    assert_string_equal(dumped->servers[0]->certificate, host_path(host, "cert.pem"));
    assert_string_equal(dumped->servers[1]->names[0], "b.example.test");
    /* The same without running nginx; a pipe among the files holds nobody up. */
    assert_int_equal(mkfifo(host_path(host, "more/pipe.conf"), 0600), 0);
    if (nginx_look_files(host_path(host, "nginx.conf"), own, &read, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    assert_int_equal(read->n_servers, 2);
    assert_string_equal(read->servers[1]->names[0], "b.example.test");
    assert_int_equal(nginx_look_files(host_path(host, "none.conf"), own, &read, &st), CODE_NOT_FOUND);
    arena_free(own);
    issued_done(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_path_that_is_no_text_hides_no_other_server, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(servers_are_found_with_names_and_sockets, arena_setup,
                                        arena_teardown),
        cmocka_unit_test_setup_teardown(includes_and_inheritance_are_followed, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(variables_and_inline_data_are_no_files, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_survived, arena_setup, arena_teardown),
        cmocka_unit_test_setup_teardown(own_dump_of_nginx_is_understood, host_setup, host_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
