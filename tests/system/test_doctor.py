"""`clm-agent doctor`: each thing that it can find, made so on one enrolled host, with what it says to do about it."""
import email.utils
import fcntl
import os
import pwd
import shutil
import socket
import ssl
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from clm.platform import write
from clm.process import run
from conftest import Host

DAY = 24 * 3600

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, ts);
    const char *by = getenv("TEST_CLOCK_SEC");
    if (rc == 0 && id == CLOCK_REALTIME && by)
        ts->tv_sec += atol(by);
    return rc;
}

time_t time(time_t *ret)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (ret)
        *ret = ts.tv_sec;
    return ts.tv_sec;
}
"""

# Starts a program behind a filter of system calls, as a container's runtime does it.
FILTERED = """
import ctypes, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p

class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

rules = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x7fff0000)))
for word in sys.argv[1].split(","):
    call, action, *first = word.split(":")
    compare = (Compare * 1)(Compare(0, 4, int(first[0]) if first else 0, 0))
    number = seccomp.seccomp_syscall_resolve_name(call.encode())
    assert number >= 0, call
    assert seccomp.seccomp_rule_add_array(rules, ctypes.c_uint32(int(action, 0)), number, len(first), compare) == 0, word
assert seccomp.seccomp_load(rules) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""
REFUSED, MISSING, KILLED = 0x00050001, 0x00050026, 0x80000000  # EPERM, ENOSYS, the process


def doctor_argv(host, *arguments):
    return [str(host.platform.bin / "clm-agent"), "doctor", "--config", str(host.agent.conf), *map(str, arguments)]


def doctor(host, *arguments, prefix=(), **options):
    return run([*prefix, *doctor_argv(host, *arguments)], check=False, timeout=120, **options)


def assert_found(done, verdict, what, said, remedy):
    """There is such a row, what to do stands below it, and the exit status is that of the worst row."""
    lines = done.stdout.splitlines()
    for row, below in zip(lines, lines[1:] + [""]):
        if row.startswith(f"{verdict:6} {what:12} ") and said in row:
            assert below.strip().startswith("-> ") and remedy in below, done.stdout
            assert done.returncode == (1 if "WRONG" in done.stdout else 0), done.stdout
            return
    raise AssertionError(f"no row \"{verdict} {what}\" with {said!r}:\n{done.stdout}{done.stderr}")


@pytest.fixture(scope="module")
def enrolled(platform, scratch):
    """A host whose agent was ONLINE and is stopped: its directory has what was confirmed, and nothing changes in it."""
    host = Host(platform, scratch / "doctor", "doctor")
    client = platform.rest()
    try:
        host.start(client)
        host.agent.stop()
        yield host
    finally:
        client.close()
        host.stop()


@pytest.fixture
def host(enrolled):
    """The policy is as it was again after the test."""
    text = enrolled.agent.conf.read_text()
    yield enrolled
    write(enrolled.agent.conf, text)
    enrolled.agent.conf.chmod(0o644)


@pytest.fixture(scope="module")
def clock(scratch):
    """Environment of a program whose clock is off by so many seconds."""
    source, library = scratch / "clock.c", scratch / "clock.so"
    write(source, CLOCK)
    run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source])

    def off(seconds):
        return {"LD_PRELOAD": str(library), "TEST_CLOCK_SEC": str(seconds),
                "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"}
    return off


def in_own_mounts(*commands):
    return ["unshare", "--mount", "sh", "-ec", " && ".join([*commands, 'exec "$@"']), "sh"]


def filtered(*rules):
    return [sys.executable, "-c", FILTERED, ",".join(rules)]


def test_a_host_that_works_has_nothing_wrong(host):
    done = doctor(host)
    assert done.returncode == 0 and "WRONG" not in done.stdout, done.stdout


def test_a_policy_that_is_wrong_hides_nothing_else(host):
    write(host.agent.conf, host.agent.conf.read_text() + "\nno line of it\n")
    done = doctor(host)
    assert_found(done, "WRONG", "policy", "neither a [section] nor key = value", "mend it, then `systemctl reload clm-agent`")
    assert f"ok     identity     agent {host.id}" in done.stdout and "ok     user" in done.stdout, done.stdout
    status = run([host.platform.bin / "clm-agent", "status", "--config", host.agent.conf], check=False)
    assert status.returncode == 0 and host.id in status.stdout and "neither a [section]" in status.stdout, status.stdout


def test_a_policy_that_others_may_write(host):
    host.agent.conf.chmod(0o666)
    assert_found(doctor(host), "WRONG", "policy", "may be written by others: chmod go-w", "until then the agent is in safe mode")


def test_a_user_that_is_not_there(host):
    host.agent.change("net_user = nobody", "net_user = nobody-of-that-name")
    assert_found(doctor(host), "WRONG", "user", "add it (useradd --system nobody-of-that-name)", "until then the agent does not start")


def test_as_another_user_than_the_agents(host):
    done = doctor(host, user="postgres")
    assert_found(done, "warn", "user", f"not root: the agent reaches only targets that user {pwd.getpwnam('postgres').pw_uid} may write",
                 "run `clm-agent doctor` as the user that the agent runs as")
    assert_found(done, "WRONG", "state", "cannot be written", "the agent must be able to write it")
    assert_found(done, "WRONG", "identity", "", "run `clm-agent doctor` as the user that the agent runs as")


def test_a_state_directory_that_is_not_there(host):
    done = doctor(host, "--state-dir", host.dir / "nowhere")
    assert_found(done, "warn", "state", "No such file or directory", "it is made at the first start")
    assert_found(done, "WRONG", "identity", "this host is not enrolled", "`clm-agent enroll` with a token of the platform")


def test_a_state_directory_that_others_may_write(host):
    host.agent.state.chmod(0o777)
    try:
        done = doctor(host)
    finally:
        host.agent.state.chmod(0o700)
    assert_found(done, "WRONG", "state", "may be written by others", "give it to the agent's user with mode 0700")


def test_a_state_directory_that_is_read_only(host):
    state = host.agent.state
    done = doctor(host, prefix=in_own_mounts(f"mount --bind {state} {state}", f"mount -o remount,bind,ro {state}"))
    assert_found(done, "WRONG", "state", "Read-only file system", "owner, mount options, ReadWritePaths")


def test_a_state_directory_without_room(host):
    done = doctor(host, prefix=in_own_mounts(f"mount -t tmpfs -o mode=700,size=1m none {host.agent.state}"))
    assert_found(done, "WRONG", "state", "has 1024 KiB left", "make room")


def test_memory_that_cannot_be_locked(host, programs):
    """By the program as it is installed: sanitizers pretend that locking works."""
    program = programs.parents[1] / "release" / "bin" / "clm-agent"
    done = run(["setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=0:0", program, "doctor", "--config", host.agent.conf],
               check=False, timeout=120)
    assert_found(done, "warn", "memory", "keys cannot be locked in memory and may reach the swap", "raise RLIMIT_MEMLOCK")


def test_a_runtime_that_forbids_filters(host):
    done = doctor(host, prefix=filtered(f"seccomp:{REFUSED}", f"prctl:{REFUSED}:22"))
    assert_found(done, "WRONG", "confinement", "net and the parsers cannot be confined", "its runtime must not forbid seccomp(2)")


def test_a_kernel_that_is_too_old(host):
    done = doctor(host, prefix=filtered(f"openat2:{MISSING}"))
    assert_found(done, "WRONG", "kernel", "openat2: Function not implemented", "Linux 5.6 or later is needed to deploy")


def test_an_identity_that_has_ended_or_a_clock_that_is_ahead(host, clock):
    done = doctor(host, env=clock(31 * DAY + 7200))
    assert_found(done, "WRONG", "identity", f"agent {host.id}: the certificate ended", "ask the platform for a fresh token for this agent")
    assert_found(done, "WRONG", "identity", "hours ago", "if this host's clock is right")


def test_an_identity_that_is_not_valid_yet(host, clock):
    assert_found(doctor(host, env=clock(-3600)), "WRONG", "identity", "the certificate is not valid yet", "set this host's clock")


def test_an_identity_that_should_have_been_renewed(host, clock):
    assert_found(doctor(host, env=clock(24 * DAY)), "warn", "identity", "the certificate ends in 5 days",
                 "it should have been renewed at half its life")


def test_an_identity_that_is_not_confirmed(make_host, rest):
    fresh = make_host().prepare()
    token = fresh.register(rest)["token"]
    run([fresh.platform.bin / "clm-agent", "enroll", "--config", fresh.agent.conf], stdin=token + "\n", timeout=120)
    assert_found(doctor(fresh), "warn", "identity", "generation 0 is not yet confirmed", "it is confirmed by the first check-in")


def test_an_identity_that_is_damaged(host, scratch):
    state = scratch / "damaged"
    shutil.copytree(host.agent.state, state)
    write(state / "identity-0.pem", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n")
    assert_found(doctor(host, "--state-dir", state), "WRONG", "identity", "", "bring the state directory back")


def test_a_token_that_is_left_over(host, scratch):
    etc = scratch / "etc"
    done = doctor(host, prefix=in_own_mounts(f"cp -a /etc {etc}", f"mkdir -p {etc}/clm-agent", f"touch {etc}/clm-agent/token",
                                             f"mount --bind {etc} /etc"))
    shutil.rmtree(etc)
    assert_found(done, "warn", "token", "/etc/clm-agent/token is there though this host is enrolled", "remove it")


def test_a_proxy_password_that_others_may_read(host):
    password = host.dir / "password"
    write(password, "x\n", 0o644)
    host.agent.change("[agent]\n", f"[agent]\nproxy = 127.0.0.1:1\nproxy_user = u\nproxy_password_file = {password}\n")
    assert_found(doctor(host), "WRONG", "proxy", "chmod 600", "mend proxy_password_file in [agent]")


def test_a_gateway_that_refuses(host):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host.use_gateway(f"127.0.0.1:{closed.getsockname()[1]}")
        assert_found(doctor(host), "WRONG", "gateway", "efused", "outbound TCP to it is allowed; or set a proxy")


def test_a_gateway_that_does_not_answer(host):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host.use_gateway(f"127.0.0.1:{silent.getsockname()[1]}")
        assert_found(doctor(host), "WRONG", "gateway", f"127.0.0.1:{silent.getsockname()[1]}: ", "a firewall drops the connection")


def test_a_look_at_the_gateway_that_ends_without_a_word(host):
    done = doctor(host, prefix=filtered(f"socket:{KILLED}:{int(socket.AF_INET)}"))
    assert_found(done, "WRONG", "gateway", "ended without a word", "run it again")


@contextmanager
def gateway_at(host, off_sec):
    """Who holds the gateway's key, by another clock."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.platform.pki / "gateway" / "tls.crt", host.platform.pki / "gateway" / "tls.key")
    date = email.utils.formatdate(time.time() + off_sec, usegmt=True)

    def serve(server):
        with ExitStack() as stack:
            plain, _ = server.accept()
            tls = stack.enter_context(context.wrap_socket(plain, server_side=True))
            tls.recv(4096)
            tls.sendall(f"HTTP/1.1 401 Unauthorized\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())
            tls.recv(4096)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join(90)


@pytest.mark.parametrize("off_sec, verdict, way", [(-120, "warn", "ahead of"), (120, "warn", "behind"),
                                                    (-900, "WRONG", "ahead of"), (900, "WRONG", "behind")])
def test_a_clock_that_is_off(host, off_sec, verdict, way):
    with gateway_at(host, off_sec) as address:
        host.use_gateway(address)
        done = doctor(host)
    assert "ok     gateway" in done.stdout, done.stdout
    assert_found(done, verdict, "clock", f"s {way} the platform's", "keep it right (timedatectl set-ntp true)")


def test_a_clock_that_is_off_so_far_that_no_certificate_is_valid(host, clock):
    assert_found(doctor(host, env=clock(-30 * DAY)), "WRONG", "gateway", "not yet valid", "set this host's clock")


@contextmanager
def running(host, link):
    """As an agent that holds the state directory and has written that of its link."""
    note = host.agent.state / "link"
    kept = note.read_bytes()
    with open(host.agent.state / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if link is None:
                note.unlink()
            else:
                note.write_text(link)
            yield
        finally:
            note.write_bytes(kept)


def test_an_agent_that_does_not_run(host):
    assert_found(doctor(host), "warn", "running", "the agent is not running", "`systemctl enable --now clm-agent`")


def test_an_agent_of_whose_connection_nothing_is_known(host):
    with running(host, None):
        done = doctor(host)
    assert_found(done, "warn", "running", "nothing is known of its connection", "look at the agent's log")


def test_an_agent_that_is_not_connected(host):
    with running(host, "not connected: somebody pulled the cable\n"):
        done = doctor(host)
    assert_found(done, "WRONG", "running", "not connected: somebody pulled the cable", "see the gateway's row, and the agent's log")


def site(host, change):
    """The target's certificate elsewhere: change(path) makes what is there and says its path."""
    path = change(host.dir / "elsewhere")
    host.agent.change(f"certificate = {host.nginx.certificate}", f"certificate = {path}")
    return path


def below_a_file(path):
    write(path, "a file")
    return path / "site.crt"


def in_no_directory(path):
    return path / "site.crt"


def with_two_links(path):
    write(path, "a file")
    os.link(path, path.with_suffix(".too"))
    return path


def behind_a_link(path):
    write(path, "a file")
    path.with_suffix(".link").symlink_to(path)
    return path.with_suffix(".link")


@pytest.mark.parametrize("change, verdict, said, remedy", [
    (below_a_file, "WRONG", "Not a directory", "the agent's user must be able to reach it"),
    (in_no_directory, "WRONG", "cannot be written: No such file or directory", "must be able to write the directory"),
    (lambda path: path, "warn", "is not there", "the first deployment makes it"),
    (with_two_links, "WRONG", "is not", "it must be a regular file with one link"),
    (behind_a_link, "WRONG", "leads through a link to", "write the real path into the policy"),
], ids=["reach", "directory", "missing", "links", "link"])
def test_a_target_that_cannot_be_deployed_to(host, change, verdict, said, remedy):
    try:
        path = site(host, change)
        done = doctor(host)
    finally:
        for made in host.dir.glob("elsewhere*"):
            made.unlink()
    assert_found(done, verdict, "target", f"[nginx] {path}" if change is not in_no_directory else "[nginx] ", remedy)
    assert_found(done, verdict, "target", said, remedy)


def test_a_target_without_an_endpoint(host):
    host.agent.change(f"endpoint = 127.0.0.1:{host.nginx.port}\n", "")
    assert_found(doctor(host), "warn", "target", "has no endpoint: a change ends as INSTALLED_UNVERIFIED", "set endpoint")


def test_a_reload_command_that_is_not_there(host):
    host.agent.change("command = ", "command = /nowhere/")
    assert_found(doctor(host), "WRONG", "reload", "[nginx] /nowhere/", "install it, or write its real path into the policy")
