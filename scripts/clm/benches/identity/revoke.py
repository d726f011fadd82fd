"""revoke.cut_ms: from before the REST request that revokes an agent until the last of three gateways has cut its connection, p99.

1,000 agents hold check-ins, spread over the gateways; those that are revoked, one after the other, are connected to all three. The agents
are simulated: TLS 1.3 connections of one C program on the same host (tests/bench/hold_agents.c), with identities of their own.
"""
import ssl
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection

from clm.benches.figures import at_most, percentile
from clm.platform import TOP, Platform
from clm.ports import HOST
from clm.process import Failed, run
from clm.replicas import Replica

sys.path.insert(0, str(TOP / "tests" / "system"))
from support import pb  # noqa: E402
from support.peer import Token  # noqa: E402
from support.pki import csr, new_key, to_pem  # noqa: E402

AGENTS, REVOKED = 1000, 200


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
        self.request("POST", "/agent/v1/bootstrap", pb.encode((1, secret), (2, requests[0]), (3, requests[1])),
                     {"Content-Type": "application/x-protobuf"})
        answer = self.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Failed(f"bootstrap: {answer.status} {body!r}")
        return "".join(to_pem(der) for der in pb.decode(body)[3])


def enrol(platform, rest, directory):
    """Ids of all agents; the chain of each is a file of that name."""
    key, requests = new_key(directory / "key"), []
    for name in ("key", "task.key"):
        requests.append(csr(key if name == "key" else new_key(directory / name)))
    link, ids = Enrolling(platform), []
    for i in range(AGENTS):
        answer = rest.register(f"held-{i}")
        ids.append(answer["agent"]["id"])
        (directory / ids[-1]).write_text(link.chain(Token(answer["token"]).secret_text, requests))
    link.close()
    return ids


class Held:
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


def measure(directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "hold_agents"], timeout=300)
    platform, processes, held = Platform(directory / "platform", bin_dir), [], None
    try:
        platform.start()
        processes = [Replica(platform, "gateway", number).start().wait_ready() for number in (2, 3)]
        ports = [platform.ports["agent"], *(replica.ports["agent"] for replica in processes)]
        rest = platform.rest()
        agents = directory / "agents"
        agents.mkdir()
        ids = enrol(platform, rest, agents)
        lines = [f"{one} {port} {one}" for one in ids[:REVOKED] for port in ports]
        lines += [f"{one} {ports[i % 3]} {one}" for i, one in enumerate(ids[REVOKED:])]
        held = Held(bin_dir / "hold_agents", platform, agents, lines)
        print(f"  {len(ids)} agents on {len(lines)} connections to 3 gateways", flush=True)
        took = []
        for one in ids[:REVOKED]:
            began_us = time.monotonic_ns() // 1000
            rest.post(f"/api/v1/agents/{one}:revoke")
            took.append((held.wait_cut(one, len(ports)) - began_us) / 1000)
        if len(held.cuts) != REVOKED:
            raise Failed("others than those were cut")
        print(f"  {REVOKED} revoked one after the other: p50 {percentile(took, .5):.1f} ms, p99 {percentile(took, .99):.1f} ms, "
              f"longest {max(took):.1f} ms", flush=True)
    finally:
        if held:
            held.stop()
        for process in processes:
            process.stop()
        platform.stop()
    return [at_most("revoke.cut_ms", percentile(took, .99), None, "ms", 2000)]
