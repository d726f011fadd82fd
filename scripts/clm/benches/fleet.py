"""Simulated agents: identities of their own, TLS 1.3 connections of one C program on the same host (tests/bench/hold_agents.c)."""
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from clm.platform import TOP
from clm.ports import HOST
from clm.process import Failed

sys.path.insert(0, str(TOP / "tests" / "system"))
from support import pb  # noqa: E402
from support.peer import Token  # noqa: E402
from support.pki import csr, new_key, to_pem  # noqa: E402

AT_ONCE, TRIES = 4, 20


class Enrolling(HTTPConnection):
    """One connection without a certificate, for all of them."""

    def __init__(self, platform):
        super().__init__(HOST, platform.ports["agent"], timeout=30)
        self.tls = ssl.create_default_context(cafile=platform.roots)
        self.tls.check_hostname = False

    def connect(self):
        super().connect()
        self.sock = self.tls.wrap_socket(self.sock, server_hostname=HOST)

    def chain(self, secret, requests):
        for _ in range(TRIES):  # the same token with the same keys gets the same certificates
            self.request("POST", "/agent/v1/bootstrap", pb.encode((1, secret), (2, requests[0]), (3, requests[1])),
                         {"Content-Type": "application/x-protobuf"})
            answer = self.getresponse()
            body = answer.read()
            if answer.status not in (429, 503, 504):
                break
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        if answer.status != 200:
            raise Failed(f"bootstrap: {answer.status} {body!r}")
        return "".join(to_pem(der) for der in pb.decode(body)[3])


def enrol(platform, directory, count):
    """Ids of all agents; the chain of each is a file of that name. They share their keys."""
    key, requests = new_key(directory / "key"), []
    for name in ("key", "task.key"):
        requests.append(csr(key if name == "key" else new_key(directory / name)))

    def part(first):
        link, rest, ids = Enrolling(platform), platform.rest(), []
        for i in range(first, count, AT_ONCE):
            answer = rest.register(f"held-{i}")
            ids.append(answer["agent"]["id"])
            (directory / ids[-1]).write_text(link.chain(Token(answer["token"]).secret_text, requests))
        link.close()
        rest.close()
        return ids
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [one for ids in pool.map(part, range(AT_ONCE)) for one in ids]


class Held:
    """All of `lines` ("NAME PORT CERTIFICATE") connected, with a check-in each."""

    def __init__(self, program, platform, directory, lines):
        self.child = subprocess.Popen([program, platform.roots, directory, directory / "key"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True)
        self.cuts, self.change = {}, threading.Condition()
        self.child.stdin.write("".join(f"{line}\n" for line in lines) + "\n")
        self.child.stdin.flush()
        if self.child.stdout.readline().strip() != "held":
            raise Failed("the agents were not let in")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            _, name, port, at_us = line.split()
            with self.change:
                self.cuts.setdefault(name, {})[int(port)] = int(at_us)
                self.change.notify_all()

    def wait_cut(self, name, count):
        """Microseconds of CLOCK_MONOTONIC when the last of them was."""
        with self.change:
            if not self.change.wait_for(lambda: len(self.cuts.get(name, {})) == count, 30):
                raise Failed(f"{name} is still connected: {self.cuts.get(name)}")
            return max(self.cuts[name].values())

    def stop(self):
        self.child.stdin.close()
        self.child.wait(30)
