"""The agent behind an HTTP proxy: a real squid that wants a password, and proxies that misbehave."""
import os
import shutil
import signal
import socket
import threading

import pytest

from clm.platform import write
from clm.ports import free_port
from clm.process import Process, run, wait_until

SQUID = shutil.which("squid") or "/usr/sbin/squid"
SQUID_CONF = """\
http_port 127.0.0.1:{port}
pid_filename {dir}/squid.pid
cache_log {dir}/cache.log
access_log stdio:{dir}/access.log
coredump_dir {dir}
cache deny all
shutdown_lifetime 0 seconds
pinger_enable off
auth_param basic program /usr/lib/squid/basic_ncsa_auth {dir}/users
auth_param basic realm clm
acl known proxy_auth REQUIRED
acl gateway_port port {gateway_port}
http_access deny !known
http_access deny !gateway_port
http_access allow CONNECT known
http_access deny all
"""
PASSWORD = "only in its file 7Yx"


@pytest.fixture(scope="module")
def squid(platform, scratch):
    """(process, port, its access log); the user is agent."""
    directory, port = scratch / "squid", free_port()
    directory.mkdir()
    hashed = run(["openssl", "passwd", "-apr1", "-stdin"], stdin=PASSWORD + "\n").stdout.strip()
    write(directory / "users", f"agent:{hashed}\n", 0o644)
    write(directory / "squid.conf", SQUID_CONF.format(dir=directory, port=port, gateway_port=platform.ports["agent"]))
    user = "proxy" if os.geteuid() == 0 else None
    if user:
        shutil.chown(directory, user)
    process = Process("squid", [SQUID, "-N", "-f", directory / "squid.conf"], directory / "squid.log", user=user).start()

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    wait_until("squid to listen", listens, process=process)
    yield process, port, directory / "access.log"
    process.stop()


def behind(host, port, user="agent", password=PASSWORD):
    """Writes the proxy into the local policy."""
    lines = f"proxy = 127.0.0.1:{port}\n"
    if user:
        lines += f"proxy_user = {user}\n"
    if password is not None:
        write(host.dir / "proxy.password", password + "\n", 0o600)
        lines += f"proxy_password_file = {host.dir / 'proxy.password'}\n"
    host.agent.change("[agent]\n", "[agent]\n" + lines)


def doctor(host):
    return run([host.platform.bin / "clm-agent", "doctor", "--config", host.agent.conf], check=False, timeout=120)


def test_enrolment_and_work_go_through_a_proxy_that_wants_a_password(platform, make_host, rest, squid):
    _, port, log = squid
    host = make_host().prepare()
    behind(host, port)
    host.register(rest)
    host.agent.start()
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    task = rest.run_task(host.id, "RENEW", {"target": "nginx"})
    assert task["state"] == "SUCCEEDED", task
    host.agent.stop()

    def tunnels():
        return [line for line in log.read_text().splitlines()
                if "TCP_TUNNEL/200" in line and f"127.0.0.1:{platform.ports['agent']} agent" in line]
    wait_until("squid to log the tunnels of the enrolment and of the agent", lambda: len(tunnels()) >= 2)
    assert PASSWORD not in host.agent.process.text()
    done = doctor(host)
    assert "ok     gateway" in done.stdout, done.stdout


def test_a_wrong_password_is_named_and_a_right_one_taken_over_by_sighup(make_host, rest, squid):
    _, port, _ = squid
    host = make_host().prepare()
    host.register(rest)
    host.agent.start()
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    behind(host, port, password="wrong one")
    host.agent.process.signal(signal.SIGHUP)
    wait_until("the refusal", lambda: "refuses user agent (407)" in host.agent.process.text(), process=host.agent.process)
    done = doctor(host)
    assert done.returncode == 1 and "407" in done.stdout and "proxy_password_file" in done.stdout, done.stdout
    write(host.dir / "proxy.password", PASSWORD + "\n", 0o600)
    before = host.agent.process.text().count(": connected")
    host.agent.process.signal(signal.SIGHUP)
    wait_until("the connection", lambda: host.agent.process.text().count(": connected") > before, process=host.agent.process)
    assert "wrong one" not in host.agent.process.text()


def test_the_password_file_must_be_private(make_host, rest, squid):
    _, port, _ = squid
    host = make_host().start(rest)
    behind(host, port)
    (host.dir / "proxy.password").chmod(0o644)
    done = doctor(host)
    assert done.returncode == 1 and "chmod 600" in done.stdout, done.stdout


class FakeProxy:
    """Answers every connection with the same bytes."""

    def __init__(self, answer):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = b""
        self.answer = answer
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.asked = connection.recv(4096)
                try:
                    connection.sendall(self.answer)
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(5)
                    connection.recv(4096)
                except OSError:
                    pass

    def close(self):
        self.socket.close()


@pytest.mark.parametrize("answer, said", [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nhello", "wants a name and a password (407)"),
    (b"HTTP/1.0 407 Nope\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "set proxy_user"),
    (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\nProxy-Authenticate: Negotiate\r\n\r\n",
     "offers no Basic authentication (407)"),
    (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"x\"\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n", "set proxy_user"),
    (b"HTTP/1.1 403 Forbidden\r\n\r\n", "must allow CONNECT"),
    (b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n", "it answers 503"),
    (b"HTTP/1.1 200 OK\r\n\r\nand more", "sent more than its answer"),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "is no HTTP proxy"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", "is no HTTP proxy"),
    (b"", "without an answer"),
], ids=["407", "407-old", "407-digest", "407-both", "403", "503", "more", "ssh", "endless", "nothing"])
def test_what_a_proxy_does_wrong_is_said(answer, said, make_host, rest, request):
    host = stranger_host(make_host, rest, request)
    proxy = FakeProxy(answer)
    text = host.agent.conf.read_text()
    try:
        behind(host, proxy.port, user=None, password=None)
        done = doctor(host)
    finally:
        proxy.close()
        write(host.agent.conf, text)
    assert done.returncode == 1 and said in done.stdout, done.stdout
    assert proxy.asked.startswith(f"CONNECT 127.0.0.1:{host.platform.ports['agent']} HTTP/1.1\r\n".encode()), proxy.asked
    assert b"Authorization" not in proxy.asked


def test_a_proxy_that_is_not_there_is_said(make_host, rest, request):
    host = stranger_host(make_host, rest, request)
    text = host.agent.conf.read_text()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        behind(host, closed.getsockname()[1], user=None, password=None)
        done = doctor(host)
    write(host.agent.conf, text)
    assert done.returncode == 1 and "efused" in done.stdout and "WRONG  gateway" in done.stdout, done.stdout


def stranger_host(make_host, rest, request):
    """One enrolled host for all tests of this file that only ask the doctor."""
    module = request.module
    if not hasattr(module, "_shared_host"):
        module._shared_host = make_host().start(rest)
    return module._shared_host
