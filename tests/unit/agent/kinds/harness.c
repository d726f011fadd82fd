/* See harness.h. */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "kinds/probe.h"
#include "support/port.h"
#include "support/tree.h"

unsigned sign_calls;
char last_spki[65];
enum code sign_answer;
bool (*run_stop)(struct task_run *run);
const struct der *sign_root;
static struct host *signing_host;
static struct arena *texts;

static void need(enum code code, const struct status *st)
{
    if (code != CODE_OK)
        fail_msg("%s", st->msg);
}

/* --- files and ports ---------------------------------------------------------------------------------- */

char *host_path(const struct host *host, const char *name)
{
    if (!texts)
        texts = arena_new();
    return arena_printf(texts, "%s/%s", host->dir, name);
}

void write_file(const char *path, const void *data, size_t len, mode_t mode)
{
    struct status st;
    need(file_write_atomic(path, data, len, mode, &st), &st);
}

void write_text(const char *path, const char *text, mode_t mode)
{
    write_file(path, text, strlen(text), mode);
}

char *read_text(const char *path)
{
    AUTO_BUF struct buf buf = {0};
    struct status st;
    if (!texts)
        texts = arena_new();
    need(file_read(path, 1024 * 1024, &buf, &st), &st);
    return arena_strdup(texts, buf_text(&buf));
}

/* --- certificates ------------------------------------------------------------------------------------- */

static void make_ca(struct host *host)
{
    struct status st;
    struct key *key = NULL;
    AUTO_DER struct der spki = {0};
    int64_t now = clock_wall_ms();
    need(key_generate(KEY_EC_P256, &key, &st), &st);
    need(key_spki(key, &spki, &st), &st);
    struct pki_names none = {0};
    struct cert_request req = {
        .spki = der_bytes(&spki),
        .common_name = "Test Root",
        .names = &none,
        .is_ca = true,
        .path_len = -1,
        .not_before_ms = now - 400 * DAY_MS,
        .not_after_ms = now + 400 * DAY_MS,
    };
    need(issuer_self_sign(key, &req, &host->root, &st), &st);
    need(issuer_new(key, der_bytes(&host->root), &host->ca, &st), &st);
    struct der_list list = {.item = {host->root}, .n = 1};
    need(certs_to_pem(&list, &host->root_pem, &st), &st);
}

static struct issued issue_spki(struct host *host, struct bytes spki, const struct pki_names *names,
                                int64_t from_ms, int64_t until_ms)
{
    struct status st;
    struct issued issued = {0};
    struct cert_request req = {
        .spki = spki,
        .common_name = names->n_dns ? names->dns[0] : "test",
        .names = names,
        .purpose = PURPOSE_TLS_SERVER,
        .path_len = -1,
        .not_before_ms = from_ms,
        .not_after_ms = until_ms,
    };
    need(issuer_sign(host->ca, &req, &issued.cert, &st), &st);
    struct der_list list = {.item = {issued.cert}, .n = 1};
    need(certs_to_pem(&list, &issued.cert_pem, &st), &st);
    sha256_hex(der_bytes(&issued.cert), issued.fingerprint);
    return issued;
}

struct issued issue_for_key(struct host *host, const struct key *key, const char *name, int64_t from_ms,
                            int64_t until_ms)
{
    struct status st;
    AUTO_DER struct der spki = {0};
    struct pki_names names = {.dns = {(char *)(uintptr_t)(name ? name : "www.example.test")}, .n_dns = 1};
    need(key_spki(key, &spki, &st), &st);
    struct issued issued = issue_spki(host, der_bytes(&spki), &names, from_ms, until_ms);
    need(key_to_pem(key, NULL, &issued.key_pem, &st), &st);
    return issued;
}

struct issued issue(struct host *host, const char *name, int64_t from_ms, int64_t until_ms)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    need(key_generate(KEY_EC_P256, &key, &st), &st);
    return issue_for_key(host, key, name, from_ms, until_ms);
}

struct issued issue_newer(struct host *host, const struct issued *pair, const char *name)
{
    struct status st;
    AUTO_KEY struct key *key = NULL;
    int64_t now = clock_wall_ms();
    need(key_parse(pair->key_pem, NULL, &key, &st), &st);
    return issue_for_key(host, key, name, now - 60000, now + 90 * DAY_MS);
}

void issued_done(struct issued *issued)
{
    der_done(&issued->cert);
    secret_free(issued->key_pem);
    buf_done(&issued->cert_pem);
    *issued = (struct issued){0};
}

void put_pair(struct host *host, const struct issued *pair)
{
    write_file(host_path(host, "cert.pem"), pair->cert_pem.data, pair->cert_pem.len, 0644);
    write_file(host_path(host, "key.pem"), pair->key_pem->data, pair->key_pem->len, 0600);
}

/* --- nginx -------------------------------------------------------------------------------------------- */

void write_nginx_conf(struct host *host, const char *extra)
{
    AUTO_BUF struct buf conf = {0};
    assert_true(buf_printf(
        &conf,
        "user root;\nworker_processes 1;\ndaemon off;\npid %s/nginx.pid;\nerror_log %s/error.log;\n"
        "events { worker_connections 64; }\n"
        "http {\n access_log off;\n client_body_temp_path %s/t1; proxy_temp_path %s/t2;\n"
        " fastcgi_temp_path %s/t3; uwsgi_temp_path %s/t4; scgi_temp_path %s/t5;\n"
        " server { listen 127.0.0.1:%u ssl; server_name www.example.test;\n"
        "  ssl_certificate cert.pem; ssl_certificate_key key.pem; return 204; }\n%s}\n",
        host->dir, host->dir, host->dir, host->dir, host->dir, host->dir, host->dir, host->port,
        extra ? extra : ""));
    write_text(host_path(host, "nginx.conf"), buf_text(&conf), 0644);
}

static bool port_answers(unsigned port)
{
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

pid_t spawn_nginx(struct host *host, const char *conf)
{
    char prefix[80];
    (void)snprintf(prefix, sizeof(prefix), "%s/", host->dir);
    char *argv[] = {
        (char[]){"/usr/sbin/nginx"}, (char[]){"-p"}, prefix, (char[]){"-c"}, host_path(host, conf), NULL};
    pid_t pid = fork();
    if (pid == 0) {
        int log = open(host_path(host, "stderr.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        (void)dup2(log, 2);
        (void)execv(argv[0], argv);
        _exit(127);
    }
    return pid;
}

void start_nginx(struct host *host)
{
    host->nginx = spawn_nginx(host, "nginx.conf");
    for (int i = 0; i < 1000 && !port_answers(host->port); i++) {
        if (waitpid(host->nginx, NULL, WNOHANG) == host->nginx)
            fail_msg("nginx did not start: %s", read_text(host_path(host, "stderr.log")));
        (void)poll(NULL, 0, 10);
    }
    assert_true(port_answers(host->port));
}

void stop_nginx(struct host *host)
{
    if (host->nginx <= 0)
        return;
    (void)kill(host->nginx, SIGTERM);
    (void)waitpid(host->nginx, NULL, 0);
    host->nginx = 0;
}

void served(struct host *host, char out[65])
{
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", host->port);
    struct probe probe = {
        .host = "127.0.0.1", .port = port, .server_name = "www.example.test", .timeout_ms = 5000};
    probe_run(&probe, 1);
    memcpy(out, probe.fingerprint, 65);
    probe_done(&probe);
}

void assert_serves(struct host *host, const char *fingerprint)
{
    char now[65];
    served(host, now);
    for (int i = 0; i < 200 && strcmp(now, fingerprint) != 0; i++) {
        (void)poll(NULL, 0, 25);
        served(host, now);
    }
    assert_string_equal(now, fingerprint);
}

/* --- policy ------------------------------------------------------------------------------------------- */

void load_policy(struct host *host, const char *target_lines, const char *reload_lines)
{
    struct status st;
    AUTO_BUF struct buf conf = {0};
    char reload[512], target[256];
    (void)snprintf(target, sizeof(target), "endpoint = 127.0.0.1:%u\n", host->port);
    (void)snprintf(reload, sizeof(reload),
                   "command = /usr/sbin/nginx -p %s/ -c %s/nginx.conf -s reload\n"
                   "test = /usr/sbin/nginx -p %s/ -c %s/nginx.conf -t -q\ntimeout = 5s\n",
                   host->dir, host->dir, host->dir, host->dir);
    assert_true(
        buf_printf(&conf,
                   "[agent]\nstate_dir = %s/state\n[policy]\noperations = deploy renew validate discover\n"
                   "dns_names = *.example.test 127.0.0.1\ndiscovery_roots = %s\n"
                   "[target nginx]\ncertificate = %s/cert.pem\nkey = %s/key.pem\nreload = nginx\n"
                   "preset = nginx\nconfiguration = %s/nginx.conf\n%s[reload nginx]\n%s",
                   host->dir, host->dir, host->dir, host->dir, host->dir,
                   target_lines ? target_lines : target, reload_lines ? reload_lines : reload));
    write_text(host_path(host, "agent.conf"), buf_text(&conf), 0644);
    policy_free(host->policy);
    host->policy = NULL;
    need(policy_load(host_path(host, "agent.conf"), &host->policy, &st), &st);
}

/* --- host --------------------------------------------------------------------------------------------- */

int host_setup(void **state)
{
    struct host *host = calloc(1, sizeof(*host));
    assert_non_null(host);
    (void)snprintf(host->dir, sizeof(host->dir), "/tmp/clm-kinds-XXXXXX");
    assert_non_null(mkdtemp(host->dir));
    host->port = (unsigned)port_free();
    make_ca(host);
    uuid_v7(host->task_id);
    sign_calls = 0;
    sign_answer = CODE_OK;
    sign_root = NULL;
    run_cancelled = false;
    run_stop = NULL;
    *state = host;
    return 0;
}

int host_teardown(void **state)
{
    struct host *host = *state;
    stop_nginx(host);
    tree_remove(host->dir);
    issuer_free(host->ca);
    der_done(&host->root);
    buf_done(&host->root_pem);
    policy_free(host->policy);
    free(host);
    return 0;
}

/* --- running ------------------------------------------------------------------------------------------ */

static enum code sign(struct task_run *run, struct bytes csr, struct der_list *ret_chain,
                      struct der *ret_root, struct status *st)
{
    (void)run;
    sign_calls++;
    if (sign_answer != CODE_OK)
        return status_set(st, sign_answer, "the platform is away");
    AUTO_CSR_INFO struct csr_info info = {0};
    TRY(csr_verify(csr, &info, st));
    sha256_hex(der_bytes(&info.spki), last_spki);
    int64_t now = clock_wall_ms();
    struct issued issued =
        issue_spki(signing_host, der_bytes(&info.spki), &info.names, now - 300000, now + 90 * DAY_MS);
    TRY(der_list_add(ret_chain, der_bytes(&issued.cert), st));
    *ret_root = der_dup(der_bytes(sign_root ? sign_root : &signing_host->root));
    issued_done(&issued);
    return CODE_OK;
}

static Clm__TaskSpec task_spec;
Clm__DeploySpec deploy_spec;
Clm__RenewSpec renew_spec;
bool run_cancelled;

const Clm__TaskSpec *deploying(const char *target, const struct issued *pair)
{
    clm__task_spec__init(&task_spec);
    clm__deploy_spec__init(&deploy_spec);
    task_spec.has_kind = true;
    task_spec.kind = CLM__TASK__KIND__DEPLOY;
    task_spec.deploy = &deploy_spec;
    deploy_spec.target = (char *)(uintptr_t)target;
    deploy_spec.chain_pem = (char *)(uintptr_t)buf_text(&pair->cert_pem);
    return &task_spec;
}

const Clm__TaskSpec *renewing(const char *target)
{
    clm__task_spec__init(&task_spec);
    clm__renew_spec__init(&renew_spec);
    task_spec.has_kind = true;
    task_spec.kind = CLM__TASK__KIND__RENEW;
    task_spec.renew = &renew_spec;
    renew_spec.target = (char *)(uintptr_t)target;
    return &task_spec;
}

static bool cancelled(struct task_run *run)
{
    (void)run;
    return run_stop ? run_stop(run) : run_cancelled;
}

struct outcome run_kind(struct host *host, const Clm__TaskSpec *spec)
{
    struct outcome outcome = {.arena = arena_new(), .outcome = 0};
    struct journal *journal = NULL;
    Clm__TaskOrder order = CLM__TASK_ORDER__INIT;
    Clm__Scope scope = CLM__SCOPE__INIT;
    char *paths[] = {arena_printf(outcome.arena, "%s/**", host->dir), (char[]){"/kubernetes/web/*"}};
    char *names[] = {(char[]){"*.example.test"}, (char[]){"127.0.0.1"}};
    scope.paths = paths;
    scope.n_paths = 2;
    scope.dns_names = names;
    scope.n_dns_names = 2;
    order.task_id = host->task_id;
    order.has_attempt = true;
    order.attempt = 1;
    order.scope = &scope;
    clm__task_result__init(&outcome.result);
    struct status st;
    need(dir_make(host_path(host, "state/journal"), 0700, &st), &st);
    need(journal_open(host_path(host, "state/journal"), host->task_id, 1, &journal, &st), &st);
    char *state_dir = host_path(host, "state");
    struct task_run run = {
        .order = &order,
        .spec = spec,
        .policy = host->policy,
        .journal = journal,
        .resume = journal_count(journal) > 0,
        .state_dir = state_dir,
        .arena = outcome.arena,
        .result = &outcome.result,
        .sign = sign,
        .cancelled = cancelled,
    };
    signing_host = host;
    const struct task_kind *kind = task_kind_find((int)spec->kind);
    assert_non_null(kind);
    outcome.code = kind->run(&run, &outcome.outcome, &outcome.st);
    outcome.message = run.message;
    journal_close(journal);
    return outcome;
}

void outcome_done(struct outcome *outcome)
{
    arena_free(outcome->arena);
    outcome->arena = NULL;
}

const Clm__Check *find_check(const struct outcome *outcome, const char *id)
{
    for (size_t i = 0; i < outcome->result.n_checks; i++) {
        if (strcmp(outcome->result.checks[i]->id, id) == 0)
            return outcome->result.checks[i];
    }
    return NULL;
}

const Clm__Step *find_step(const struct outcome *outcome, const char *name)
{
    for (size_t i = 0; i < outcome->result.n_steps; i++) {
        if (strcmp(outcome->result.steps[i]->name, name) == 0)
            return outcome->result.steps[i];
    }
    return NULL;
}

const char *shell(const struct host *host, const char *line)
{
    static char out[16384];
    char command[2048];
    (void)snprintf(command, sizeof(command), "cd %s && { %s; } 2>&1", host->dir, line);
    FILE *pipe = popen(command, "re"); // NOLINT(cert-env33-c)
    assert_non_null(pipe);
    size_t n = fread(out, 1, sizeof(out) - 1, pipe);
    out[n] = 0;
    if (pclose(pipe) != 0)
        fail_msg("%s: %s", line, out);
    return out;
}
