/* Reading nginx's configuration: which file serves which name on which socket. */
#include "reading.h"

static const Clm__Agent__Facts *parse(const char *dump)
{
    return reading(nginx_read, "/etc/nginx/nginx.conf", dump);
}

static void servers_are_found_with_names_and_sockets(void **state)
{
    (void)state;
    const Clm__Agent__Facts *facts =
        parse("# configuration file /etc/nginx/nginx.conf:\n"
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READING(a_path_that_is_no_text_hides_no_other_server),
        READING(servers_are_found_with_names_and_sockets),
        READING(includes_and_inheritance_are_followed),
        READING(variables_and_inline_data_are_no_files),
        READING(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
