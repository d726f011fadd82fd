/* The signer as a process: what it refuses, how it is confined, and that its death is noticed and mended. */
#include "cmocka_all.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "ca.h"
#include "frame.h"
#include "services/bootstrap/fixture.h"
#include "services/bootstrap/signer.pb-c.h"
#include "signer.h"
#include "wire/wire.h"

#define AGENT_ID "019abcde-0000-7000-8000-000000000001"

static struct key *key;
static struct der csr;

static int setup(void **state)
{
    (void)state;
    assert_ok(key_generate(KEY_EC_P256, &key, &why));
    fixture_csr(key, NULL, NULL, NULL, &csr);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    key_free(key);
    der_done(&csr);
    return 0;
}

static enum code issue(struct signer *signer, enum profile profile, const char *subject)
{
    AUTO_DER struct der cert = {0};
    size_t failed;
    const struct profile_request request = {
        .profile = profile, .csr = der_bytes(&csr), .subject = subject, .life_sec = 3600};
    return signer_issue(signer, &request, 1, &cert, &failed, &why);
}

static void what_the_signer_issues_chains_to_the_root_it_named(void **state)
{
    (void)state;
    AUTO_DER struct der cert = {0};
    size_t failed;
    AUTO_DER_LIST struct der_list roots = {0};
    AUTO_DER_LIST struct der_list issuers = {0};
    struct signer *signer = fixture_signer();
    const struct profile_request request = {
        .profile = PROFILE_AGENT_IDENTITY, .csr = der_bytes(&csr), .subject = AGENT_ID, .life_sec = 3600};

    assert_ok(signer_issue(signer, &request, 1, &cert, &failed, &why));
    assert_ok(der_list_add(&roots, signer_root(signer), &why));
    assert_ok(der_list_add(&issuers, signer_issuer(signer, PROFILE_AGENT_IDENTITY), &why));
    assert_ok(
        chain_verify(der_bytes(&cert), &issuers, &roots, PURPOSE_AGENT_IDENTITY, clock_wall_ms(), &why));
    assert_string_equal(signer_trust_domain(signer), TRUST_DOMAIN);
    assert_int_equal(signer_issuers(signer)->n, ISSUING_CA_COUNT);
}

/* An agent's two certificates are one question: all or none, and who asked hears which was wrong. */
static void two_certificates_are_issued_or_none(void **state)
{
    (void)state;
    struct der made[2] = {0};
    size_t failed = 9;
    struct signer *signer = fixture_signer();
    struct profile_request requests[] = {
        {.profile = PROFILE_AGENT_IDENTITY, .csr = der_bytes(&csr), .subject = AGENT_ID, .life_sec = 3600},
        {.profile = PROFILE_AGENT_TASK, .csr = der_bytes(&csr), .subject = AGENT_ID, .life_sec = 3600},
    };
    assert_ok(signer_issue(signer, requests, 2, made, &failed, &why));
    assert_int_not_equal(made[0].len, 0);
    assert_int_not_equal(made[1].len, 0);
    for (size_t i = 0; i < 2; i++)
        der_done(&made[i]);
    requests[1].csr.len--;
    assert_int_equal(signer_issue(signer, requests, 2, made, &failed, &why), CODE_INVALID_ARGUMENT);
    assert_int_equal(failed, 1);
    assert_int_equal(made[0].len + made[1].len, 0);
    requests[0].life_sec = INT32_MAX;
    assert_int_equal(signer_issue(signer, requests, 2, made, &failed, &why), CODE_PERMISSION_DENIED);
    assert_int_equal(failed, 0);
}

static void profiles_of_init_and_forged_ones_are_refused(void **state)
{
    (void)state;
    struct signer *signer = fixture_signer();
    assert_int_equal(issue(signer, PROFILE_BUS_TLS, ""), CODE_PERMISSION_DENIED);
    assert_int_equal(issue(signer, (enum profile)99, AGENT_ID), CODE_INVALID_ARGUMENT);
    assert_int_equal(issue(signer, (enum profile)0, AGENT_ID), CODE_INVALID_ARGUMENT);
    assert_int_equal(issue(signer, PROFILE_AGENT_TASK, "not an id"), CODE_PERMISSION_DENIED);
    assert_int_equal(issue(signer, PROFILE_AGENT_TASK, AGENT_ID), CODE_OK);
}

static void a_dead_signer_is_noticed_and_started_again(void **state)
{
    (void)state;
    struct signer *signer = fixture_signer();
    siginfo_t info;
    pid_t first = signer_pid(signer);

    assert_true(signer_ready(signer));
    assert_int_equal(kill(first, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)first, &info, WEXITED | WNOWAIT), 0);
    assert_false(signer_ready(signer));
    assert_int_equal(issue(signer, PROFILE_AGENT_TASK, AGENT_ID), CODE_UNAVAILABLE);

    assert_ok(signer_ensure(signer, &why));
    assert_true(signer_ready(signer));
    assert_int_not_equal(signer_pid(signer), first);
    assert_int_equal(issue(signer, PROFILE_AGENT_TASK, AGENT_ID), CODE_OK);
}

static void the_signer_runs_under_a_seccomp_filter(void **state)
{
    (void)state;
    char path[64], line[128];
    bool filtered = false, no_new_privs = false;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)signer_pid(fixture_signer()));
    AUTO_FCLOSE FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        filtered = filtered || strcmp(line, "Seccomp:\t2\n") == 0;
        no_new_privs = no_new_privs || strcmp(line, "NoNewPrivs:\t1\n") == 0;
    }
    assert_true(filtered);
    assert_true(no_new_privs);
}

/* A signer on a socket of our own; *ret_pid to wait for. */
static int raw_signer(pid_t *ret_pid)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const char *dir = fixture_ca_dir();
    *ret_pid = fork();
    assert_true(*ret_pid >= 0);
    if (*ret_pid == 0) {
        int high = dup(pair[1]); /* without FD_CLOEXEC, and never SIGNER_FD itself */
        if (high == SIGNER_FD || dup2(high, SIGNER_FD) == SIGNER_FD)
            (void)execl(CLM_BOOTSTRAP, "clm-bootstrap", "signer", "--dir", dir, (char *)NULL);
        _exit(127);
    }
    (void)close(pair[1]);

    AUTO_ARENA struct arena *arena = arena_new();
    const uint8_t *data;
    size_t len;
    assert_ok(frame_receive(pair[0], arena, &data, &len, &why)); /* Hello */
    return pair[0];
}

static int wait_for_exit(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void garbage_in_a_frame_is_answered_and_survived(void **state)
{
    (void)state;
    pid_t pid;
    AUTO_ARENA struct arena *arena = arena_new();
    int fd = raw_signer(&pid);
    static const char *const garbage[] = {"", "\xff\xff\xff\xff\xff\xff", "\x08\x63",
                                          "\x12\x7f"
                                          "abc"};

    for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
        const uint8_t *data;
        size_t len;
        ProtobufCMessage *message;
        assert_ok(frame_send(fd, garbage[i], strlen(garbage[i]), &why));
        assert_ok(frame_receive(fd, arena, &data, &len, &why));
        assert_ok(wire_unpack(&clm__signer__response__descriptor, data, len, arena, &message, &why));
        const Clm__Signer__Response *response = (const Clm__Signer__Response *)message;
        assert_int_equal(response->code, CODE_INVALID_ARGUMENT);
        assert_int_equal(response->n_certificate, 0);
    }
    (void)close(fd);
    assert_int_equal(wait_for_exit(pid), 0); /* and it leaves when the service does */
}

static void more_requests_than_an_agent_has_certificates_are_refused(void **state)
{
    (void)state;
    pid_t pid;
    AUTO_ARENA struct arena *arena = arena_new();
    int fd = raw_signer(&pid);
    Clm__Signer__IssueRequest one = CLM__SIGNER__ISSUE_REQUEST__INIT, *three[] = {&one, &one, &one};
    Clm__Signer__Request request = CLM__SIGNER__REQUEST__INIT;
    const uint8_t *data;
    size_t len;
    ProtobufCMessage *message;
    request.issue = three;
    request.n_issue = ARRAY_LEN(three);
    wire_pack(&request.base, arena, &data, &len);
    assert_ok(frame_send(fd, data, len, &why));
    assert_ok(frame_receive(fd, arena, &data, &len, &why));
    assert_ok(wire_unpack(&clm__signer__response__descriptor, data, len, arena, &message, &why));
    assert_int_equal(((const Clm__Signer__Response *)message)->code, CODE_INVALID_ARGUMENT);
    assert_non_null(strstr(((const Clm__Signer__Response *)message)->message, "more than 2"));
    (void)close(fd);
    assert_int_equal(wait_for_exit(pid), 0);
}

static void an_oversized_frame_ends_the_signer(void **state)
{
    (void)state;
    pid_t pid;
    int fd = raw_signer(&pid);
    static const uint8_t head[4] = {0x7f, 0xff, 0xff, 0xff};
    assert_ok(fd_write_all(fd, head, sizeof(head), &why));
    assert_int_equal(wait_for_exit(pid), 1);
    (void)close(fd);
}

/* ---- directories that must not be loaded ------------------------------------------------------------------
 */

static void copy_file(const char *from_dir, const char *to_dir, const char *name, mode_t mode)
{
    char path[512];
    AUTO_BUF struct buf content = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", from_dir, name);
    assert_ok(file_read(path, 65536, &content, &why));
    (void)snprintf(path, sizeof(path), "%s/%s", to_dir, name);
    assert_ok(file_write_atomic(path, content.data, content.len, mode, &why));
}

static void copy_ca(char to[256])
{
    static const char *const files[] = {"trust-domain", "root.crt",    "agents.crt", "services.crt",
                                        "envelope.crt", "managed.crt", "agents.key", "services.key",
                                        "envelope.key", "managed.key", "passphrase"};
    fixture_temp_dir(to);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        copy_file(fixture_ca_dir(), to, files[i], 0600);
}

static enum code start_on(const char *dir)
{
    struct signer *signer = NULL;
    const struct signer_config config = {.executable = CLM_BOOTSTRAP, .ca_dir = dir};
    enum code code = signer_start(&config, &signer, &why);
    signer_stop(signer);
    return code;
}

static void the_root_key_may_be_kept_elsewhere(void **state)
{
    (void)state;
    char dir[256];
    copy_ca(dir);
    assert_int_equal(start_on(dir), CODE_OK);
}

static void a_wrong_passphrase_is_refused(void **state)
{
    (void)state;
    char dir[256], path[512];
    copy_ca(dir);
    (void)snprintf(path, sizeof(path), "%s/passphrase", dir);
    assert_ok(file_write_atomic(path, "guess", 5, 0600, &why));
    assert_int_equal(start_on(dir), CODE_PERMISSION_DENIED);
}

static void a_key_that_is_not_its_certificates_is_refused(void **state)
{
    (void)state;
    char dir[256], from[512], to[512];
    copy_ca(dir);
    (void)snprintf(from, sizeof(from), "%s/managed.key", dir);
    (void)snprintf(to, sizeof(to), "%s/services.key", dir);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(start_on(dir), CODE_DATA_LOSS);
}

static void a_foreign_root_is_refused(void **state)
{
    (void)state;
    char dir[256], other[256];
    copy_ca(dir);
    fixture_temp_dir(other);
    assert_ok(ca_make(other, TRUST_DOMAIN, &why));
    copy_file(other, dir, "root.crt", 0644);
    assert_int_not_equal(start_on(dir), CODE_OK);
}

static void a_key_that_others_may_read_is_refused(void **state)
{
    (void)state;
    char dir[256], path[512];
    copy_ca(dir);
    (void)snprintf(path, sizeof(path), "%s/agents.key", dir);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(start_on(dir), CODE_PERMISSION_DENIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_signer_issues_chains_to_the_root_it_named),
        cmocka_unit_test(two_certificates_are_issued_or_none),
        cmocka_unit_test(profiles_of_init_and_forged_ones_are_refused),
        cmocka_unit_test(a_dead_signer_is_noticed_and_started_again),
        cmocka_unit_test(the_signer_runs_under_a_seccomp_filter),
        cmocka_unit_test(garbage_in_a_frame_is_answered_and_survived),
        cmocka_unit_test(more_requests_than_an_agent_has_certificates_are_refused),
        cmocka_unit_test(an_oversized_frame_ends_the_signer),
        cmocka_unit_test(the_root_key_may_be_kept_elsewhere),
        cmocka_unit_test(a_wrong_passphrase_is_refused),
        cmocka_unit_test(a_key_that_is_not_its_certificates_is_refused),
        cmocka_unit_test(a_foreign_root_is_refused),
        cmocka_unit_test(a_key_that_others_may_read_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
