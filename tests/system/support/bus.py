"""Somebody who hears every message on the bus. The user is added to nats-server's configuration for the test alone."""
import json
import re
import secrets
import socket
import ssl
import threading

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

    def _connect(self):
        plain = socket.create_connection((HOST, self._platform.ports["nats"]), 5)
        plain.recv(4096)  # INFO
        context = ssl.create_default_context(cafile=self._platform.pki / "bus" / "ca.crt")
        context.check_hostname = False
        tls = context.wrap_socket(plain)
        hello = {"user": "spy", "pass": self._platform.spy_password, "tls_required": True, "verbose": False,
                 "pedantic": False, "headers": True, "protocol": 1, "lang": "test", "version": "1"}
        tls.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\nSUB > 1\r\nPING\r\n")
        return tls

    def _run(self):
        while not self._stopping.is_set():
            try:
                self._socket = self._connect()
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
