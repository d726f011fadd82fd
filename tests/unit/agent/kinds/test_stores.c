/* Every store: a certificate gets into it, other programs read it, and what must not happen does not. */
#include "target.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/id.h"
#include "pki/digest.h"
#include "stores/store.h"
#include "support/port.h"
#include "wire/wire.h"

/* --- faults: the n-th of these calls in the test's own process fails, or something happens before one ----
 */

static pid_t own_pid;
static unsigned fault_at, fault_calls; /* 0: never */
static int fault_errno;
static void (*before_rename)(void);
static struct host *hook_host;

static bool fault_now(void)
{
    if (!fault_at || getpid() != own_pid || ++fault_calls != fault_at)
        return false;
    errno = fault_errno;
    return true;
}

ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    return fault_now() ? -1 : __real_write(fd, data, len);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    return fault_now() ? -1 : __real_fsync(fd);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    return fault_now() ? -1 : __real_fdatasync(fd);
}

int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (before_rename) {
        void (*hook)(void) = before_rename;
        before_rename = NULL;
        hook();
    }
    return fault_now() ? -1 : __real_renameat2(from_dir, from, to_dir, to, flags);
}

static struct status st;

static void assert_outcome(const struct store_kind *kind, const struct outcome *out, int outcome)
{
    if (out->code != CODE_OK || (int)out->outcome != outcome)
        fail_msg("%s: %s; outcome %d: %s", kind->name, out->code == CODE_OK ? "OK" : out->st.msg,
                 (int)out->outcome, out->message ? out->message : "");
}

/* Nothing of ours stays beside the target. */
static void assert_clean(struct host *host)
{
    assert_string_equal(shell(host, "find . -name '.clm-*'"), "");
}

/* --- what works ------------------------------------------------------------------------------------------
 */

static void certificate_is_deployed_into_every_store(void **state)
{
    struct host *host = *state;
    FOR_EACH_STORE(kind)
    {
        char now[65];
        struct issued old = target_prepare(host, kind, ""), fresh = issue_newer(host, &old, NULL);
        kind->get(host, now);
        assert_string_equal(now, old.fingerprint);
        struct outcome out = run_kind(host, deploying("t", &fresh));
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        assert_string_equal(out.result.fingerprint_before_sha256, old.fingerprint);
        assert_string_equal(out.result.fingerprint_after_sha256, fresh.fingerprint);
        kind->get(host, now);
        assert_string_equal(now, fresh.fingerprint);
        assert_clean(host);
        outcome_done(&out);
        issued_done(&old);
        issued_done(&fresh);
    }
}

static void renewal_puts_a_new_key_into_every_store(void **state)
{
    struct host *host = *state;
    FOR_EACH_STORE(kind)
    {
        char now[65];
        struct issued old = target_prepare(host, kind, "");
        const Clm__TaskSpec *spec = renewing("t");
        for (int reuse = 0; reuse < 2; reuse++) {
            uuid_v7(host->task_id);
            renew_spec.has_reuse_key = true;
            renew_spec.reuse_key = reuse;
            struct outcome out = run_kind(host, spec);
            assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
            kind->get(host, now);
            assert_string_equal(now, out.result.certificate->fingerprint_sha256);
            assert_string_equal(out.result.certificate->dns_names[0], "www.example.test");
            assert_clean(host);
            outcome_done(&out);
        }
        issued_done(&old);
    }
}

static void first_installation_needs_nothing_in_place(void **state)
{
    struct host *host = *state;
    FOR_EACH_STORE(kind)
    {
        if (kind->slow)
            continue;
        char now[65];
        struct stat info;
        struct issued old =
            target_prepare(host, kind, strstr(kind->lines, "password") ? "alias=tomcat\n" : "");
        (void)shell(host, "rm -f web/*.* web/tls/* api/secret.json");
        const Clm__TaskSpec *spec = renewing("t");
        char *names[] = {(char[]){"www.example.test"}};
        renew_spec.dns_names = names;
        renew_spec.n_dns_names = 1;
        struct outcome out = run_kind(host, spec);
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        kind->get(host, now);
        assert_string_equal(now, out.result.certificate->fingerprint_sha256);
        /* Whatever holds the key is its owner's alone. */
        if (kind->key) {
            assert_int_equal(stat(host_path(host, kind->key), &info), 0);
            assert_int_equal(info.st_mode & 0777, 0600);
        }
        outcome_done(&out);
        issued_done(&old);
    }
}

static void validation_looks_into_every_store(void **state)
{
    struct host *host = *state;
    FOR_EACH_STORE(kind)
    {
        struct issued old = target_prepare(host, kind, "");
        Clm__ValidateSpec validate = CLM__VALIDATE_SPEC__INIT;
        Clm__TaskSpec spec = CLM__TASK_SPEC__INIT;
        spec.has_kind = true;
        spec.kind = CLM__TASK__KIND__VALIDATE;
        spec.validate = &validate;
        validate.target = (char *)(uintptr_t) "t";
        struct outcome out = run_kind(host, &spec);
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__SUCCEEDED);
        assert_string_equal(out.result.certificate->fingerprint_sha256, old.fingerprint);
        const Clm__Check *match = find_check(&out, "key-match"); /* a JKS's key stays closed for a look */
        assert_true(kind->slow ? !match : match->outcome == CLM__CHECK__OUTCOME__PASS);
        outcome_done(&out);
        issued_done(&old);
    }
}

/* --- what must not happen --------------------------------------------------------------------------------
 */

/* Untouched: the old one is there and nothing beside it. */
static void assert_old(struct host *host, const struct store_kind *kind, const struct issued *old)
{
    char now[65] = "";
    if (kind->file) {
        AUTO_FREE char *bytes = read_base64(host_path(host, kind->file));
        assert_string_equal(bytes, target_old_bytes);
    } else {
        kind->get(host, now);
        assert_string_equal(now, old->fingerprint);
    }
    assert_clean(host);
}

static void assert_refused(struct host *host, const struct store_kind *kind, const struct issued *old,
                           const struct issued *bad, enum code code, const char *says)
{
    uuid_v7(host->task_id);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("t", bad));
    if (out.code != code || !strstr(out.st.msg, says))
        fail_msg("%s: %s \"%s\" instead of %s \"%s\"", kind->name, code_name(out.code),
                 out.code == CODE_OK ? out.message : out.st.msg, code_name(code), says);
    assert_old(host, kind, old);
}

static void bad_certificates_change_nothing(void **state)
{
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        int64_t now = clock_wall_ms();
        struct issued old = target_prepare(host, kind, "server_name=www.example.test\n");
        AUTO_KEY struct key *key = NULL;
        assert_int_equal(key_parse(old.key_pem, NULL, &key, &st), CODE_OK);
        struct issued other = issue(host, NULL, now - 60000, now + 90 * DAY_MS);
        assert_refused(host, kind, &old, &other, CODE_FAILED_PRECONDITION,
                       "for another key than the one on this host");
        struct issued name = issue_for_key(host, key, "api.example.test", now - 60000, now + 90 * DAY_MS);
        assert_refused(host, kind, &old, &name, CODE_FAILED_PRECONDITION, "does not cover www.example.test");
        struct issued expired = issue_for_key(host, key, NULL, now - 60 * DAY_MS, now - DAY_MS);
        assert_refused(host, kind, &old, &expired, CODE_FAILED_PRECONDITION, "expired at");
        struct issued early = issue_for_key(host, key, NULL, now + DAY_MS, now + 90 * DAY_MS);
        assert_refused(host, kind, &old, &early, CODE_FAILED_PRECONDITION, "not valid before");
        struct issued broken = issue_newer(host, &old, NULL);
        assert_true(buf_append(&broken.cert_pem, other.cert_pem.data, other.cert_pem.len));
        assert_refused(host, kind, &old, &broken, CODE_INVALID_ARGUMENT, "chain");
        struct issued *all[] = {&old, &other, &name, &expired, &early, &broken};
        for (size_t i = 0; i < ARRAY_LEN(all); i++)
            issued_done(all[i]);
    }
}

static void server_that_refuses_to_reload_keeps_the_old_one(void **state)
{
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        struct issued old = target_prepare(host, kind, "reload=refuses\n");
        struct outcome out = run_kind(host, renewing("t"));
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__FAILED);
        assert_non_null(strstr(out.message, "/bin/false ended with status 1"));
        assert_old(host, kind, &old);
        outcome_done(&out);
        issued_done(&old);
    }
}

static const struct store_kind *hook_kind;

static void replace_by_somebody_else(void)
{
    write_text(host_path(hook_host, hook_kind->file), "somebody else's\n", 0640);
}

/* In the last instant: after every look, before the system call that changes it. */
static void change_by_somebody_else_is_kept(void **state)
{
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        if (!kind->file)
            continue; /* an API server answers with a conflict: test_kubernetes.c */
        struct issued old = target_prepare(host, kind, "");
        hook_host = host;
        hook_kind = kind;
        before_rename = replace_by_somebody_else;
        struct outcome out = run_kind(host, renewing("t"));
        assert_null(before_rename);
        const char *why = out.code == CODE_OK ? out.message : out.st.msg;
        if (out.code != CODE_ABORTED || !strstr(why, "changed by somebody else"))
            fail_msg("%s: %s", kind->name, why);
        assert_string_equal(read_text(host_path(host, kind->file)), "somebody else's\n");
        assert_clean(host);
        outcome_done(&out);
        issued_done(&old);
    }
}

/* Every call that can find the disk full does so once. */
static void full_disk_at_any_call_leaves_one_side_whole(void **state)
{
    struct host *host = *state;
    unsigned tried = 0;
    own_pid = getpid();
    fault_errno = ENOSPC;
    store_get_quick = true;
    FOR_EACH_QUICK_STORE(kind)
    {
        for (bool reached = true; reached;) {
            char now[65];
            struct issued old = target_prepare(host, kind, ""), fresh = issue_newer(host, &old, NULL);
            tried += strcmp(kind->name, "separate") == 0
                         ? 2
                         : 8; /* what is special about the others is one call */
            fault_at = tried;
            fault_calls = 0;
            struct outcome out = run_kind(host, deploying("t", &fresh));
            reached = fault_calls >= fault_at;
            tried = reached ? tried : 0;
            fault_at = 0;
            kind->get(host, now);
            bool installed =
                out.code == CODE_OK && out.outcome == CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED;
            assert_string_equal(now, installed ? fresh.fingerprint : old.fingerprint);
            if (!installed &&
                !strstr(out.code == CODE_OK ? out.message : out.st.msg, "No space left on device"))
                fail_msg("%s, call %u: %s", kind->name, tried,
                         out.code == CODE_OK ? out.message : out.st.msg);
            assert_clean(host);
            outcome_done(&out);
            issued_done(&old);
            issued_done(&fresh);
        }
    }
    store_get_quick = false;
}

/* In a process of its own, as a user for whom modes count. */
static void directory_that_cannot_be_written_is_told(void **state)
{
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        if (!kind->file)
            continue;
        struct issued old = target_prepare(host, kind, ""), fresh = issue_newer(host, &old, NULL);
        (void)shell(host, "test $(id -u) != 0 || chown -R nobody . && chmod 555 web");
        pid_t pid = fork();
        if (pid == 0) {
            if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
                _exit(3);
            struct outcome out = run_kind(host, deploying("t", &fresh));
            bool told = out.code == CODE_PERMISSION_DENIED && strstr(out.st.msg, "Permission denied");
            if (!told)
                (void)fprintf(stderr, "%s: %s\n", kind->name, out.code == CODE_OK ? out.message : out.st.msg);
            _exit(told ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void)shell(host, "test $(id -u) != 0 || chown -R root . && chmod 700 . && chmod 755 web");
        assert_old(host, kind, &old);
        issued_done(&old);
        issued_done(&fresh);
    }
}

/* The new key is in its file, the former one in the agent's backup, and neither anywhere else. */
static void keys_are_nowhere_but_in_their_file(void **state)
{
    static const char search[] =
        "import base64, pathlib, re\n"
        "pem = pathlib.Path('keys').read_text()\n"
        "for key in re.findall('-----BEGIN PRIVATE KEY-----(.*?)-----END', pem, re.S):\n"
        "    der = base64.b64decode(key)\n"
        "    needles = [key.split()[1].encode()[:40], der[36:68], der[36:68].hex().encode()]\n"
        "    for path in pathlib.Path('.').rglob('*'):\n"
        "        kept = path.parts[0] in ('web', 'api', 'keys') or path.match('state/backup/*.bak')\n"
        "        if path.is_file() and not kept and any(n in path.read_bytes() for n in needles): "
        "print(path)\n"
        "for path in pathlib.Path('state').rglob('*'):\n"
        "    if path.is_file() and path.stat().st_mode & 0o077 and b'PRIVATE' in path.read_bytes(): "
        "print(path, 'mode')\n";
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        char now[65];
        struct issued old = target_prepare(host, kind, "");
        struct outcome out = run_kind(host, renewing("t"));
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        store_get_keep_keys = true;
        kind->get(host, now);
        store_get_keep_keys = false;
        (void)shell(host, "grep -q 'BEGIN PRIVATE KEY' keys");
        write_text(host_path(host, "search.py"), search, 0600);
        assert_string_equal(shell(host, "python3 -B search.py"), "");
        for (size_t i = 0; i < out.result.n_steps; i++)
            assert_null(strstr(out.result.steps[i]->message, "PRIVATE"));
        outcome_done(&out);
        issued_done(&old);
    }
}

/* --- what is planted -----------------------------------------------------------------------------------
 */

/* Of somebody else's directory, which the agent must not touch. */
static void prepare_victim(struct host *host)
{
    (void)shell(host, "rm -rf victim aside* && mkdir -m 755 victim && for f in cert.pem key.pem bundle.pem "
                      "store.p12; do echo "
                      "precious > victim/$f; done");
}

static void assert_victim_is_untouched(struct host *host, const struct store_kind *kind, const char *plant)
{
    const char *found =
        shell(host, "grep -L '^precious$' victim/* victim/.??* 2>/dev/null; ls -A victim | wc -l");
    if (strcmp(found, "4\n") != 0)
        fail_msg("%s, %s: %s", kind->name, plant, found);
}

/* A line of shell that knows the target's directory as $D and the host's as $H. */
static void plant(struct host *host, const struct store_kind *kind, const char *line)
{
    AUTO_FREE char *whole = NULL;
    assert_true(asprintf(&whole, "H=$PWD; D=%s; %s", kind->dir, line) > 0);
    (void)shell(host, whole);
}

static void planted_links_lead_nowhere(void **state)
{
    static const struct {
        const char *plant, *says;
    } plants[] = {
        {"mv $D aside && ln -s $H/victim $D", "symbolic link"},
        {"mv $D aside && ln -s $H/aside $D", "symbolic link"},
        {"mv web aside && ln -s $H/aside web", "symbolic link"},
        {"for f in $D/*; do ln -sf $H/victim/${f#$D/} $f; done", "symbolic link"},
        {"for f in $D/*; do ln -f victim/${f#$D/} $f; done", "hard links"},
        {"for f in $D/*; do rm $f; mkfifo $f; done", "not a regular file"},
        {"for f in $D/*; do rm $f; mkdir $f; done", "not a regular file"},
    };
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        for (size_t i = 0; kind->file && i < ARRAY_LEN(plants); i++) {
            struct issued old = target_prepare(host, kind, "");
            prepare_victim(host);
            plant(host, kind, plants[i].plant);
            struct outcome out = run_kind(host, renewing("t"));
            if (out.code != CODE_PERMISSION_DENIED || !strstr(out.st.msg, plants[i].says))
                fail_msg("%s, %s: %s", kind->name, plants[i].plant, out.st.msg);
            (void)shell(host, "rm -rf web"); /* a hard link's other name */
            assert_victim_is_untouched(host, kind, plants[i].plant);
            outcome_done(&out);
            issued_done(&old);
        }
    }
}

/* Under the names that the agent is going to use. */
static void what_lies_where_staged_files_go_is_not_followed(void **state)
{
    static const char *const plants[] = {"ln -s $H/victim/key.pem $f", "ln victim/key.pem $f", "mkfifo $f"};
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        for (size_t i = 0; kind->file && !strstr(kind->lines, "directory") && i < ARRAY_LEN(plants); i++) {
            char now[65];
            AUTO_FREE char *line = NULL;
            struct issued old = target_prepare(host, kind, "");
            prepare_victim(host);
            assert_true(asprintf(&line, "for r in cert key; do f=$D/.clm-%s-1-$r.new; %s; done",
                                 host->task_id, plants[i]) > 0);
            plant(host, kind, line);
            struct outcome out = run_kind(host, renewing("t"));
            assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
            assert_true(kind->find(host, now));
            assert_string_equal(now, out.result.fingerprint_after_sha256);
            (void)shell(host, "rm -f web/.clm-*"); /* of a role that this store does not have */
            assert_victim_is_untouched(host, kind, plants[i]);
            outcome_done(&out);
            issued_done(&old);
        }
    }
}

static const char *hook_line;

static void run_hook_line(void)
{
    plant(hook_host, hook_kind, hook_line);
}

/* In the last instant: every look was at the former directory. */
static void directory_swapped_in_the_last_instant_is_noticed(void **state)
{
    static const char *const lines[] = {
        "mv $D aside && ln -s $H/victim $D",
        "mv $D aside && mv victim $D && mkdir victim && cp $D/* victim",
        "mv $D aside && mkdir $D && cp aside/* $D",
    };
    struct host *host = *state;
    FOR_EACH_QUICK_STORE(kind)
    {
        for (size_t i = 0; kind->file && i < ARRAY_LEN(lines); i++) {
            struct issued old = target_prepare(host, kind, "");
            prepare_victim(host);
            hook_host = host;
            hook_kind = kind;
            hook_line = lines[i];
            before_rename = run_hook_line;
            struct outcome out = run_kind(host, renewing("t"));
            assert_null(before_rename);
            bool installed =
                out.code == CODE_OK && out.outcome == CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED;
            assert_victim_is_untouched(host, kind, lines[i]);
            /* The same content under the same name may be replaced; nothing else. */
            if (installed ? i != 2 : out.code != CODE_ABORTED)
                fail_msg("%s, %s: %s", kind->name, lines[i], out.code == CODE_OK ? out.message : out.st.msg);
            assert_clean(host);
            outcome_done(&out);
            issued_done(&old);
        }
    }
}

/* --- owner, mode, label, ACL -----------------------------------------------------------------------------
 */

/* As setfacl makes it: rw for the owner, r for the user 12, a mask of r. */
static const uint8_t acl[] = {2, 0,  0,    0,    1,    0,    6,    0, 0xff, 0xff, 0xff, 0xff, 2,    0,    4,
                              0, 12, 0,    0,    0,    4,    0,    0, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
                              4, 0,  0xff, 0xff, 0xff, 0xff, 0x20, 0, 0,    0,    0xff, 0xff, 0xff, 0xff};
static const struct {
    const char *name;
    const void *value;
    size_t len;
} attributes[] = {{"security.selinux", "system_u:object_r:cert_t:s0", 28},
                  {"system.posix_acl_access", acl, sizeof(acl)}};

/* Which of them this user may set on this file system. */
static bool set_attribute(const char *path, size_t i)
{
    bool set = setxattr(path, attributes[i].name, attributes[i].value, attributes[i].len, 0) == 0;
    if (!set && (errno == EPERM || errno == EOPNOTSUPP))
        print_message("  %s cannot be set here: %s\n", attributes[i].name, strerror(errno));
    else
        assert_true(set);
    return set;
}

static void assert_attribute(const char *path, size_t i)
{
    char value[256];
    ssize_t n = getxattr(path, attributes[i].name, value, sizeof(value));
    if (n != (ssize_t)attributes[i].len || memcmp(value, attributes[i].value, (size_t)n) != 0)
        fail_msg("%s has lost its %s", path, attributes[i].name);
}

static void owner_mode_label_and_acl_are_kept(void **state)
{
    struct host *host = *state;
    bool root = geteuid() == 0; /* only root can give files away */
    uid_t uid = root ? 33 : geteuid();
    gid_t gid = root ? 34 : getegid();
    FOR_EACH_QUICK_STORE(kind)
    {
        if (!kind->file)
            continue;
        struct issued old = target_prepare(host, kind, "");
        const char *paths[] = {host_path(host, kind->file), host_path(host, kind->key),
                               root && strstr(kind->lines, "directory") ? host_path(host, kind->dir) : NULL};
        bool set[ARRAY_LEN(attributes)] = {0};
        for (size_t p = 0; p < ARRAY_LEN(paths) && paths[p]; p++) {
            assert_int_equal(chown(paths[p], uid, gid), 0);
            assert_int_equal(chmod(paths[p], 0640), 0);
            for (size_t i = 0; i < ARRAY_LEN(attributes); i++)
                set[i] = set_attribute(paths[p], i);
        }
        struct outcome out = run_kind(host, renewing("t"));
        assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
        for (size_t p = 0; p < ARRAY_LEN(paths) && paths[p]; p++) {
            struct stat info;
            assert_int_equal(stat(paths[p], &info), 0);
            assert_int_equal(info.st_mode & 07777, 0640);
            assert_int_equal(info.st_uid, uid);
            assert_int_equal(info.st_gid, gid);
            for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
                if (set[i])
                    assert_attribute(paths[p], i);
            }
        }
        outcome_done(&out);
        issued_done(&old);
    }
}

/* --- what each has for itself ----------------------------------------------------------------------------
 */

static void haproxy_keeps_its_diffie_hellman_parameters(void **state)
{
    static const char parameters[] =
        "-----BEGIN DH PARAMETERS-----\nMAgCAwD////KCwIBAg==\n-----END DH PARAMETERS-----";
    struct host *host = *state;
    const struct store_kind *kind = store_kind_find("haproxy");
    AUTO_ISSUED struct issued old = target_prepare(host, kind, "");
    AUTO_FREE char *with = NULL;
    assert_true(asprintf(&with, "%s\n%s", read_text(host_path(host, kind->file)), parameters) > 0);
    write_text(host_path(host, kind->file), with, 0600);
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("t"));
    assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_non_null(strstr(read_text(host_path(host, kind->file)), parameters));
}

static void keystore_encryption_is_the_policys(void **state)
{
    static const char info[] = "openssl pkcs12 -in web/store.p12 -passin file:password -noout -info";
    struct host *host = *state;
    const struct store_kind *kind = store_kind_find("pkcs12");
    AUTO_ISSUED struct issued old = target_prepare(host, kind, "encryption=legacy\n");
    AUTO_OUTCOME struct outcome out = run_kind(host, renewing("t"));
    assert_outcome(kind, &out, CLM__RECEIPT__OUTCOME__INSTALLED_UNVERIFIED);
    assert_non_null(strstr(shell(host, info), "pbeWithSHA1And3-KeyTripleDES-CBC"));
}

static void keystore_that_does_not_open_is_left_alone(void **state)
{
    struct host *host = *state;
    const struct store_kind *kind = store_kind_find("pkcs12");
    AUTO_ISSUED struct issued old = target_prepare(host, kind, ""), fresh = issue_newer(host, &old, NULL);
    write_text(host_path(host, "password"), "another one\n", 0600);
    AUTO_OUTCOME struct outcome out = run_kind(host, deploying("t", &fresh));
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "wrong password"));
    outcome_done(&out);
    assert_int_equal(chmod(host_path(host, "password"), 0644), 0);
    out = run_kind(host, deploying("t", &fresh));
    assert_int_equal(out.code, CODE_PERMISSION_DENIED);
    assert_non_null(strstr(out.st.msg, "password_file"));
}

static void keystore_with_other_entries_is_left_alone(void **state)
{
    struct host *host = *state;
    char now[65];
    const struct store_kind *kind = store_kind_find("pkcs12");
    AUTO_ISSUED struct issued old = target_prepare(host, kind, "alias=tomcat\n"),
                              fresh = issue_newer(host, &old, NULL);
    (void)shell(host,
                "keytool -genkeypair -alias other -keyalg EC -dname CN=o -keystore web/store.p12 -storepass "
                "changeit");
    struct outcome out = run_kind(host, deploying("t", &fresh));
    assert_int_equal(out.code, CODE_FAILED_PRECONDITION);
    assert_non_null(strstr(out.st.msg, "1 other entries"));
    outcome_done(&out);
    kind->get(host, now);
    assert_string_equal(now, old.fingerprint);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, host_setup, target_teardown)
    const struct CMUnitTest tests[] = {
        TEST(certificate_is_deployed_into_every_store),
        TEST(renewal_puts_a_new_key_into_every_store),
        TEST(first_installation_needs_nothing_in_place),
        TEST(validation_looks_into_every_store),
        TEST(bad_certificates_change_nothing),
        TEST(server_that_refuses_to_reload_keeps_the_old_one),
        TEST(change_by_somebody_else_is_kept),
        TEST(full_disk_at_any_call_leaves_one_side_whole),
        TEST(directory_that_cannot_be_written_is_told),
        TEST(keys_are_nowhere_but_in_their_file),
        TEST(planted_links_lead_nowhere),
        TEST(what_lies_where_staged_files_go_is_not_followed),
        TEST(directory_swapped_in_the_last_instant_is_noticed),
        TEST(owner_mode_label_and_acl_are_kept),
        TEST(haproxy_keeps_its_diffie_hellman_parameters),
        TEST(keystore_encryption_is_the_policys),
        TEST(keystore_that_does_not_open_is_left_alone),
        TEST(keystore_with_other_entries_is_left_alone),
    };
    if (getenv("CLM_TEST_FILTER"))
        cmocka_set_test_filter(getenv("CLM_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
