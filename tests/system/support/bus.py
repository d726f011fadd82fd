"""Somebody on the bus: one who hears every message (a user that is added to nats-server's configuration for the test alone), and one who
asks services as NATS' own tools do."""
import json
import re
import secrets
import socket
import ssl
import threading
import time

from clm.platform import write
from clm.ports import HOST
from clm.process import Failed


def add_spy(platform):
    conf = platform.pki / "bus" / "users.conf"
    platform.spy_password = secrets.token_hex(16)
    row = f'{{ user: "spy", password: "{platform.spy_password}", permissions: {{ subscribe: ">", publish: {{ deny: ">" }} }} }},'
    text, changed = re.subn(r"(users\s*[:=]\s*\[)", lambda m: m.group(1) + "\n" + row, conf.read_text(), count=1)
    if not changed:
        raise Failed(f"{conf}: no list of users found")
    write(conf, text, 0o600, platform.user)


def connect(platform, user, password, then):
    """A TLS connection on which `then` (protocol lines) was sent after CONNECT."""
    plain = socket.create_connection((HOST, platform.ports["nats"]), 5)
    plain.recv(4096)  # INFO
    context = ssl.create_default_context(cafile=platform.pki / "bus" / "ca.crt")
    context.check_hostname = False
    tls = context.wrap_socket(plain)
    hello = {"user": user, "pass": password, "tls_required": True, "verbose": False,
             "pedantic": False, "headers": True, "protocol": 1, "lang": "test", "version": "1"}
    tls.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\n" + then)
    return tls


def ask(platform, subject, n, timeout=10):
    """The first n answers (JSON) to an empty request of the bus' administrator; fewer when the time is over."""
    password = (platform.pki / "bus" / "admin.pass").read_text().strip()
    inbox = "_INBOX_admin.test"
    answers, data, deadline = [], b"", time.monotonic() + timeout
    with connect(platform, "admin", password, f"SUB {inbox} 1\r\nPUB {subject} {inbox} 0\r\n\r\n".encode()) as tls:
        while len(answers) < n and time.monotonic() < deadline:
            tls.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                data += tls.recv(65536)
            except TimeoutError:
                break
            if b"-ERR" in data:
                raise Failed(f"nats-server says {data[-200:]!r}")
            while (head := re.match(rb"MSG \S+ \S+ (\d+)\r\n", data)) and len(data) >= head.end() + int(head[1]) + 2:
                answers.append(json.loads(data[head.end():head.end() + int(head[1])]))
                data = data[head.end() + int(head[1]) + 2:]
    return answers


class Spy:
    """Keeps whatever comes; reconnects when nats-server was away."""

    def __init__(self, platform):
        self._platform, self._heard, self._lock = platform, [], threading.Lock()
        self._stopping, self._listening = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._socket = None

    def start(self):
        self._thread.start()
        if not self._listening.wait(20):
            raise Failed("the listener on the bus could not connect")
        return self

    def stop(self):
        self._stopping.set()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(10)

    def heard(self):
        """All bytes so far: subjects, headers and payloads."""
        with self._lock:
            return b"".join(self._heard)

    def _run(self):
        while not self._stopping.is_set():
            try:
                self._socket = connect(self._platform, "spy", self._platform.spy_password, b"SUB > 1\r\nPING\r\n")
                self._listen(self._socket)
            except OSError:
                self._stopping.wait(0.2)

    def _listen(self, tls):
        tls.settimeout(None)
        while True:
            data = tls.recv(65536)
            if not data:
                return
            if b"-ERR" in data[:64]:
                raise Failed(f"nats-server says {data[:200]!r}")
            if b"PONG\r\n" in data:
                self._listening.set()
            if data.endswith(b"PING\r\n"):
                tls.sendall(b"PONG\r\n")
            with self._lock:
                self._heard.append(data)
