/* clm-bootstrap renew-certificates: what it replaces, what it leaves, and what it refuses. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "ca.h"
#include "certificates.h"
#include "init.h"
#include "pki/issue.h"
#include "services/bootstrap/fixture.h"
#include "support/tree.h"

#define DAY_MS (24 * 60 * 60 * 1000LL)

static const char *const fresh[] = {"registry/service.key",  "registry/service.crt", "bootstrap/service.key",
                                    "bootstrap/service.crt", "tasks/service.key",    "tasks/service.crt",
                                    "gateway/service.key",   "gateway/service.crt",  "gateway/tls.key",
                                    "gateway/tls.crt",       "bus/server.key",       "bus/server.crt"};
static const char *const kept[] = {
    "roots.pem",         "intermediates.pem", "ca/root.crt",      "ca/root.key",
    "ca/services.crt",   "ca/services.key",   "ca/passphrase",    "ca/gateway-names",
    "ca/agents.key",     "bus/ca.crt",        "bus/users.conf",   "bus/admin.pass",
    "registry/bus.pass", "tasks/bus.pass",    "gateway/bus.pass", "bootstrap/bus.pass"};
#define FILES (ARRAY_LEN(fresh) + ARRAY_LEN(kept))

static struct arena *arena;
static char base[256], made[300], dir[300]; /* of one init, and the test's copy of it */
static struct buf before[FILES];
static struct stat before_stat[FILES];

static const char *path_of(const char *name)
{
    return arena_printf(arena, "%s/%s", dir, name);
}

static const char *file(size_t i)
{
    return path_of(i < ARRAY_LEN(fresh) ? fresh[i] : kept[i - ARRAY_LEN(fresh)]);
}

static void remember(void)
{
    for (size_t i = 0; i < FILES; i++) {
        buf_reset(&before[i]);
        assert_ok(file_read(file(i), 65536, &before[i], &why));
        assert_int_equal(stat(file(i), &before_stat[i]), 0);
    }
}

static bool same(size_t i)
{
    AUTO_BUF struct buf now = {0};
    assert_ok(file_read(file(i), 65536, &now, &why));
    return now.len == before[i].len && memcmp(now.data, before[i].data, now.len) == 0;
}

static bool nothing_changed(void)
{
    for (size_t i = 0; i < FILES; i++)
        if (!same(i))
            return false;
    return true;
}

static int make_once(void **state)
{
    (void)state;
    struct init_order order = {.dir = made, .trust_domain = TRUST_DOMAIN};
    enum init_result result;
    struct db *db = fixture_open_db();
    fixture_temp_dir(base);
    (void)snprintf(made, sizeof(made), "%s/made", base);
    (void)snprintf(dir, sizeof(dir), "%s/pki", base);
    assert_ok(server_names_add(&order.gateway_names, "gw.test.example", &why));
    assert_ok(server_names_add(&order.bus_names, "nats.test.example", &why));
    assert_ok(server_names_add(&order.bus_names, "127.0.0.1", &why));
    assert_ok(init_run(db, &order, &result, &why));
    pki_names_done(&order.gateway_names);
    pki_names_done(&order.bus_names);
    db_close(db);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    tree_remove(dir);
    tree_copy(made, dir);
    remember();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    clock_real();
    for (size_t i = 0; i < FILES; i++)
        buf_done(&before[i]);
    arena_free(arena);
    return 0;
}

static void read_certs(const char *name, struct der_list *ret)
{
    AUTO_BUF struct buf pem = {0};
    assert_ok(file_read(path_of(name), 65536, &pem, &why));
    assert_ok(pem_to_certs((struct bytes){pem.data, pem.len}, ret, &why));
}

/* Key and certificate belong together, and the chain leads to the root now. */
static void assert_good_pair(const char *key_name, const char *certs_name, enum pki_purpose purpose)
{
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_KEY struct key *key = NULL;
    read_certs(certs_name, &chain);
    read_certs("roots.pem", &roots);
    assert_true(chain.n >= 2);
    struct der_list rest = {.n = 1, .item = {chain.item[1]}};
    assert_ok(chain_verify(der_bytes(&chain.item[0]), &rest, &roots, purpose, clock_wall_ms(), &why));
    assert_ok(secret_read_file(path_of(key_name), 65536, false, &pem, &why));
    assert_ok(key_parse(pem, NULL, &key, &why));
    assert_true(key_matches_cert(key, der_bytes(&chain.item[0])));
}

static void assert_all_good(void)
{
    for (size_t i = 0; platform_services[i]; i++)
        assert_good_pair(arena_printf(arena, "%s/service.key", platform_services[i]),
                         arena_printf(arena, "%s/service.crt", platform_services[i]), PURPOSE_SERVICE);
    assert_good_pair("gateway/tls.key", "gateway/tls.crt", PURPOSE_TLS_SERVER);
    assert_good_pair("bus/server.key", "bus/server.crt", PURPOSE_TLS_SERVER);
}

static void assert_nothing_staged(void)
{
    for (size_t i = 0; i < ARRAY_LEN(fresh); i++)
        assert_int_not_equal(access(path_of(arena_printf(arena, "%s.fresh", fresh[i])), F_OK), 0);
}

static bool covers(const char *certs_name, const char *host)
{
    AUTO_DER_LIST struct der_list chain = {0};
    read_certs(certs_name, &chain);
    return cert_matches_host(der_bytes(&chain.item[0]), host);
}

static void the_pairs_are_replaced_and_nothing_else(void **state)
{
    (void)state;
    struct left_alone left;
    assert_ok(certificates_renew_directory(dir, &left, &why));
    assert_false(left.gateway_tls || left.bus);
    for (size_t i = 0; i < FILES; i++) {
        struct stat info;
        if (same(i) != (i >= ARRAY_LEN(fresh)))
            fail_msg("%s: %s", file(i), same(i) ? "not replaced" : "changed");
        assert_int_equal(stat(file(i), &info), 0);
        assert_int_equal(info.st_mode, before_stat[i].st_mode);
        assert_int_equal(info.st_uid, before_stat[i].st_uid);
        assert_int_equal(info.st_gid, before_stat[i].st_gid);
    }
    assert_all_good();
    assert_true(covers("gateway/tls.crt", "gw.test.example"));
    assert_true(covers("bus/server.crt", "nats.test.example"));
    assert_true(covers("bus/server.crt", "127.0.0.1"));
    assert_nothing_staged();
}

static void what_has_ended_is_replaced(void **state)
{
    (void)state;
    struct left_alone left;
    clock_fake(clock_wall_ms() + 1000 * DAY_MS); /* beyond the bus's two years, too */
    assert_ok(certificates_renew_directory(dir, &left, &why));
    assert_false(left.gateway_tls || left.bus);
    assert_all_good();
}

static void modes_that_the_deployer_set_stay(void **state)
{
    (void)state;
    struct left_alone left;
    struct stat info;
    assert_int_equal(chmod(path_of("tasks"), 0750), 0);
    assert_int_equal(chmod(path_of("tasks/service.key"), 0440), 0);
    assert_ok(certificates_renew_directory(dir, &left, &why));
    assert_int_equal(stat(path_of("tasks"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0750);
    assert_int_equal(stat(path_of("tasks/service.key"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0440);
}

static void what_an_interrupted_run_left_is_no_obstacle(void **state)
{
    (void)state;
    struct left_alone left;
    assert_ok(file_write_atomic(path_of("registry/service.key.fresh"), "half", 4, 0600, &why));
    /* Between the two renames of a pair. */
    assert_int_equal(rename(path_of("tasks/service.key"), path_of("bootstrap/service.key")), 0);
    assert_ok(certificates_renew_directory(dir, &left, &why));
    assert_all_good();
    assert_nothing_staged();
}

static void a_directory_that_cannot_be_written_leaves_all_as_it_was(void **state)
{
    (void)state;
    struct left_alone left;
    assert_ok(dir_make(path_of("bus/server.crt.fresh"), 0700, &why)); /* the last of them */
    assert_int_not_equal(certificates_renew_directory(dir, &left, &why), CODE_OK);
    assert_int_equal(rmdir(path_of("bus/server.crt.fresh")), 0);
    assert_true(nothing_changed());
    assert_nothing_staged();
}

static void the_gateway_gets_the_names_that_are_listed_now(void **state)
{
    (void)state;
    static const char names[] = "gw.test.example\nAgents.test.example\r\n\n192.0.2.7\n";
    struct left_alone left;
    assert_ok(file_write_atomic(path_of("ca/gateway-names"), names, sizeof(names) - 1, 0644, &why));
    assert_ok(certificates_renew_directory(dir, &left, &why));
    assert_true(covers("gateway/tls.crt", "gw.test.example"));
    assert_true(covers("gateway/tls.crt", "agents.test.example"));
    assert_true(covers("gateway/tls.crt", "192.0.2.7"));
    assert_false(covers("gateway/tls.crt", "nats.test.example"));
}

static void a_name_that_is_none_changes_nothing(void **state)
{
    (void)state;
    struct left_alone left;
    remember();
    assert_ok(file_write_atomic(path_of("ca/gateway-names"), "no name", 7, 0644, &why));
    assert_int_equal(certificates_renew_directory(dir, &left, &why), CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(why.msg, "gateway-names"));
    for (size_t i = 0; i < ARRAY_LEN(fresh); i++)
        assert_true(same(i));
}

static void write_foreign(const char *name)
{
    AUTO_KEY struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    AUTO_DER struct der cert = {0};
    AUTO_DER_LIST struct der_list list = {0};
    AUTO_BUF struct buf pem = {0};
    assert_ok(key_generate(KEY_EC_P256, &key, &why));
    assert_ok(key_spki(key, &spki, &why));
    const struct cert_request request = {
        .spki = der_bytes(&spki),
        .common_name = "somebody else's",
        .purpose = PURPOSE_TLS_SERVER,
        .path_len = -1,
        .not_before_ms = clock_wall_ms() - DAY_MS,
        .not_after_ms = clock_wall_ms() + DAY_MS,
    };
    assert_ok(issuer_self_sign(key, &request, &cert, &why));
    assert_ok(der_list_add(&list, der_bytes(&cert), &why));
    assert_ok(certs_to_pem(&list, &pem, &why));
    assert_ok(file_write_atomic(path_of(name), pem.data, pem.len, 0644, &why));
}

static void somebody_elses_certificate_is_left_alone(void **state)
{
    (void)state;
    struct left_alone left;
    write_foreign("gateway/tls.crt");
    write_foreign("bus/server.crt");
    remember();
    assert_ok(certificates_renew_directory(dir, &left, &why));
    assert_true(left.gateway_tls && left.bus);
    for (size_t i = 0; i < FILES; i++) {
        bool replaced = strstr(file(i), "/service.") != NULL;
        if (same(i) == replaced)
            fail_msg("%s: %s", file(i), replaced ? "not replaced" : "changed");
    }
}

static void another_installations_roots_are_refused(void **state)
{
    (void)state;
    struct left_alone left;
    write_foreign("roots.pem");
    remember();
    assert_int_equal(certificates_renew_directory(dir, &left, &why), CODE_FAILED_PRECONDITION);
    assert_true(nothing_changed());
}

static void keys_of_another_ca_are_refused(void **state)
{
    (void)state;
    struct left_alone left;
    AUTO_BUF struct buf other = {0};
    assert_ok(file_read(arena_printf(arena, "%s/services.key", fixture_ca_dir()), 65536, &other, &why));
    assert_ok(file_write_atomic(path_of("ca/services.key"), other.data, other.len, 0600, &why));
    remember();
    assert_int_not_equal(certificates_renew_directory(dir, &left, &why), CODE_OK);
    assert_true(nothing_changed());
}

static void without_a_ca_nothing_is_made(void **state)
{
    (void)state;
    struct left_alone left;
    remember();
    assert_int_equal(rename(path_of("ca"), path_of("elsewhere")), 0);
    assert_int_equal(certificates_renew_directory(dir, &left, &why), CODE_NOT_FOUND);
    assert_int_equal(rename(path_of("elsewhere"), path_of("ca")), 0);
    assert_true(nothing_changed());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_pairs_are_replaced_and_nothing_else),
        TEST(what_has_ended_is_replaced),
        TEST(modes_that_the_deployer_set_stay),
        TEST(what_an_interrupted_run_left_is_no_obstacle),
        TEST(a_directory_that_cannot_be_written_leaves_all_as_it_was),
        TEST(the_gateway_gets_the_names_that_are_listed_now),
        TEST(a_name_that_is_none_changes_nothing),
        TEST(somebody_elses_certificate_is_left_alone),
        TEST(another_installations_roots_are_refused),
        TEST(keys_of_another_ca_are_refused),
        TEST(without_a_ca_nothing_is_made),
    };
    return cmocka_run_group_tests(tests, make_once, NULL);
}
