/* clm-bootstrap init: what it makes, that it makes it once, and what is left when it was interrupted. */
#include "cmocka_all.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "ca.h"
#include "init.h"
#include "services/bootstrap/fixture.h"
#include "trust.h"

static struct db *db;
static struct arena *arena;
static char base[256], dir[300];
static struct init_order order;

static void run_sql(const char *sql)
{
    if (db_query(db, sql, NULL, NULL, &why) != CODE_OK)
        fail_msg("%s: %s", sql, why.msg);
}

static int setup(void **state)
{
    (void)state;
    db = fixture_open_db();
    run_sql("DELETE FROM ca");
    arena = arena_new();
    fixture_temp_dir(base);
    (void)snprintf(dir, sizeof(dir), "%s/pki", base);
    order = (struct init_order){.dir = dir, .trust_domain = TRUST_DOMAIN};
    assert_ok(server_names_add(&order.gateway_names, "GW.test.example", &why));
    assert_ok(server_names_add(&order.gateway_names, "127.0.0.1", &why));
    assert_ok(server_names_add(&order.bus_names, "nats.test.example", &why));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pki_names_done(&order.gateway_names);
    pki_names_done(&order.bus_names);
    arena_free(arena);
    db_close(db);
    return 0;
}

static enum code run_init(enum init_result *ret)
{
    enum code code = init_run(db, &order, ret, &why);
    run_sql("SELECT pg_advisory_unlock_all()"); /* what the end of the process does */
    return code;
}

static const char *path_of(const char *name)
{
    return arena_printf(arena, "%s/%s", dir, name);
}

static void read_certs(const char *name, struct der_list *ret)
{
    AUTO_BUF struct buf pem = {0};
    assert_ok(file_read(path_of(name), 65536, &pem, &why));
    assert_ok(pem_to_certs((struct bytes){pem.data, pem.len}, ret, &why));
}

static void it_makes_the_whole_directory(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        mode_t mode;
    } files[] = {
        {"roots.pem", 0644},
        {"intermediates.pem", 0644},
        {"ca/root.crt", 0644},
        {"ca/root.key", 0600},
        {"ca/agents.key", 0600},
        {"ca/services.key", 0600},
        {"ca/envelope.key", 0600},
        {"ca/managed.key", 0600},
        {"ca/passphrase", 0600},
        {"registry/service.crt", 0644},
        {"registry/service.key", 0600},
        {"registry/bus.pass", 0600},
        {"bootstrap/service.key", 0600},
        {"bootstrap/bus.pass", 0600},
        {"tasks/service.key", 0600},
        {"tasks/bus.pass", 0600},
        {"gateway/service.key", 0600},
        {"gateway/tls.crt", 0644},
        {"gateway/tls.key", 0600},
        {"gateway/bus.pass", 0600},
        {"bus/server.crt", 0644},
        {"bus/server.key", 0600},
        {"bus/ca.crt", 0644},
        {"bus/users.conf", 0600},
        {"bus/admin.pass", 0600},
    };
    enum init_result result;
    struct stat info;

    assert_ok(run_init(&result));
    assert_int_equal(result, INIT_MADE);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (stat(path_of(files[i].name), &info) != 0)
            fail_msg("%s is missing", files[i].name);
        assert_int_equal(info.st_mode & 0777, files[i].mode);
        assert_true(info.st_size > 0);
    }
    assert_int_equal(stat(path_of("ca"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_not_equal(stat(arena_printf(arena, "%s.tmp", dir), &info), 0);
}

static void the_ca_keys_are_encrypted(void **state)
{
    (void)state;
    enum init_result result;
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_KEY struct key *key = NULL;
    assert_ok(run_init(&result));
    assert_ok(secret_read_file(path_of("ca/root.key"), 65536, false, &pem, &why));
    assert_non_null(strstr((const char *)pem->data, "BEGIN ENCRYPTED PRIVATE KEY"));
    assert_int_equal(key_parse(pem, NULL, &key, &why), CODE_PERMISSION_DENIED);
}

static void the_gateways_chain_ends_in_the_root_that_tokens_pin(void **state)
{
    (void)state;
    enum init_result result;
    AUTO_DER_LIST struct der_list chain = {0};
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_DER_LIST struct der_list middle = {0};

    assert_ok(run_init(&result));
    read_certs("gateway/tls.crt", &chain);
    read_certs("roots.pem", &roots);
    assert_int_equal(chain.n, 3);
    assert_int_equal(chain.item[2].len, roots.item[0].len);
    assert_memory_equal(chain.item[2].data, roots.item[0].data, roots.item[0].len);
    assert_ok(der_list_add(&middle, der_bytes(&chain.item[1]), &why));
    assert_ok(
        chain_verify(der_bytes(&chain.item[0]), &middle, &roots, PURPOSE_TLS_SERVER, clock_wall_ms(), &why));
    assert_true(cert_matches_host(der_bytes(&chain.item[0]), "gw.test.example"));
    assert_true(cert_matches_host(der_bytes(&chain.item[0]), "127.0.0.1"));
    assert_false(cert_matches_host(der_bytes(&chain.item[0]), "nats.test.example"));
}

static void each_service_has_its_own_name(void **state)
{
    (void)state;
    enum init_result result;
    AUTO_DER_LIST struct der_list roots = {0};
    assert_ok(run_init(&result));
    read_certs("roots.pem", &roots);
    for (size_t i = 0; platform_services[i]; i++) {
        AUTO_DER_LIST struct der_list chain = {0};
        AUTO_DER_LIST struct der_list middle = {0};
        AUTO_SECRET struct secret *pem = NULL;
        AUTO_KEY struct key *key = NULL;
        struct spiffe_id id;
        read_certs(arena_printf(arena, "%s/service.crt", platform_services[i]), &chain);
        assert_int_equal(chain.n, 2);
        assert_ok(cert_spiffe(der_bytes(&chain.item[0]), &id, &why));
        assert_string_equal(id.kind, "service");
        assert_string_equal(id.name, platform_services[i]);
        assert_ok(der_list_add(&middle, der_bytes(&chain.item[1]), &why));
        assert_ok(
            chain_verify(der_bytes(&chain.item[0]), &middle, &roots, PURPOSE_SERVICE, clock_wall_ms(), &why));
        assert_ok(secret_read_file(path_of(arena_printf(arena, "%s/service.key", platform_services[i])),
                                   65536, false, &pem, &why));
        assert_ok(key_parse(pem, NULL, &key, &why));
        assert_true(key_matches_cert(key, der_bytes(&chain.item[0])));
    }
}

static void a_second_run_changes_nothing(void **state)
{
    (void)state;
    enum init_result result;
    AUTO_BUF struct buf before = {0};
    AUTO_BUF struct buf after = {0};
    assert_ok(run_init(&result));
    assert_ok(file_read(path_of("bus/users.conf"), 65536, &before, &why));
    assert_ok(run_init(&result));
    assert_int_equal(result, INIT_ALREADY_DONE);
    assert_ok(file_read(path_of("bus/users.conf"), 65536, &after, &why));
    assert_string_equal(buf_text(&before), buf_text(&after));
}

static void a_run_that_was_killed_before_the_rename_counts_for_nothing(void **state)
{
    (void)state;
    enum init_result result;
    struct stat info;
    const char *tmp = arena_printf(arena, "%s.tmp", dir);
    assert_ok(dir_make(arena_printf(arena, "%s/ca", tmp), 0700, &why));
    assert_ok(file_write_atomic(arena_printf(arena, "%s/ca/root.key", tmp), "half", 4, 0600, &why));
    assert_ok(run_init(&result));
    assert_int_equal(result, INIT_MADE);
    assert_int_not_equal(stat(tmp, &info), 0);
}

static void a_run_that_was_killed_before_the_commit_is_finished_by_the_next(void **state)
{
    (void)state;
    enum init_result result;
    struct ca_row row;
    assert_ok(run_init(&result));
    assert_ok(store_ca_read(db, arena, &row, &why));
    run_sql("DELETE FROM ca");
    order.trust_domain = "forgotten.example"; /* what the files say counts */
    assert_ok(run_init(&result));
    assert_int_equal(result, INIT_FINISHED_EARLIER);
    struct ca_row again;
    assert_ok(store_ca_read(db, arena, &again, &why));
    assert_string_equal(again.root_sha256, row.root_sha256);
    assert_string_equal(again.trust_domain, TRUST_DOMAIN);
}

static void a_database_that_belongs_to_another_ca_is_refused(void **state)
{
    (void)state;
    enum init_result result;
    assert_ok(run_init(&result));
    run_sql("UPDATE ca SET root_sha256 = repeat('ab', 32)");
    assert_int_equal(run_init(&result), CODE_FAILED_PRECONDITION);
    assert_int_equal(rename(dir, arena_printf(arena, "%s.lost", dir)), 0);
    assert_int_equal(run_init(&result), CODE_FAILED_PRECONDITION);
    struct stat info;
    assert_int_not_equal(stat(dir, &info), 0);
}

static void two_at_once_is_one_too_many(void **state)
{
    (void)state;
    enum init_result result;
    bool held = false;
    struct db *other = fixture_open_db();
    assert_ok(store_init_lock(other, &held, &why));
    assert_true(held);
    assert_int_equal(run_init(&result), CODE_UNAVAILABLE);
    db_close(other);
}

static void names_are_sorted_and_checked(void **state)
{
    (void)state;
    AUTO_PKI_NAMES struct pki_names names = {0};
    assert_ok(server_names_add(&names, "2001:db8::1", &why));
    assert_ok(server_names_add(&names, "A.Example", &why));
    assert_int_equal(names.n_ip, 1);
    assert_string_equal(names.dns[0], "a.example");
    static const char *const wrong[] = {"", "a b", "https://a.example", "a.example:443", "192.0.2.300", "*"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(server_names_add(&names, wrong[i], &why), CODE_INVALID_ARGUMENT);
}

static void a_server_starts_only_on_the_ca_of_its_database(void **state)
{
    (void)state;
    enum init_result result;
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_DER_LIST struct der_list none = {0};
    AUTO_DER_LIST struct der_list foreign = {0};

    assert_ok(der_list_add(&foreign, fixture_settings()->root, &why));
    assert_int_equal(trust_check(db, der_bytes(&foreign.item[0]), TRUST_DOMAIN, &foreign, &why),
                     CODE_FAILED_PRECONDITION);
    assert_ok(run_init(&result));
    read_certs("roots.pem", &roots);
    struct bytes root = der_bytes(&roots.item[0]);
    assert_ok(trust_check(db, root, TRUST_DOMAIN, &roots, &why));
    assert_int_equal(trust_check(db, root, "other.example", &roots, &why), CODE_FAILED_PRECONDITION);
    assert_int_equal(trust_check(db, root, TRUST_DOMAIN, &none, &why), CODE_FAILED_PRECONDITION);
    assert_int_equal(trust_check(db, der_bytes(&foreign.item[0]), TRUST_DOMAIN, &foreign, &why),
                     CODE_FAILED_PRECONDITION);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_makes_the_whole_directory),
        TEST(the_ca_keys_are_encrypted),
        TEST(the_gateways_chain_ends_in_the_root_that_tokens_pin),
        TEST(each_service_has_its_own_name),
        TEST(a_second_run_changes_nothing),
        TEST(a_run_that_was_killed_before_the_rename_counts_for_nothing),
        TEST(a_run_that_was_killed_before_the_commit_is_finished_by_the_next),
        TEST(a_database_that_belongs_to_another_ca_is_refused),
        TEST(two_at_once_is_one_too_many),
        TEST(names_are_sorted_and_checked),
        TEST(a_server_starts_only_on_the_ca_of_its_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
