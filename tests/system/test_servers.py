"""Every server that the agent has a preset for, real and private: a renewal is served, and whatever goes wrong leaves the old
certificate served, with the exact reason. One platform, one host and one agent for all of them."""
import contextlib
import os
import re
import signal

import pytest

from clm.host import Agent, fingerprint
from clm.platform import private_file
from clm.process import run, wait_until
from clm.servers import SERVERS
from support.pki import Authority, csr, new_key, to_pem

PRESETS = tuple(SERVERS)


class Fleet:
    """A host with all servers and an agent that manages them, as `clm-agent setup` wrote it."""

    def __init__(self, platform, directory):
        self.platform, self.dir, self.rest, self.id = platform, directory, platform.rest(), None
        self.servers = {preset: server(directory / preset) for preset, server in SERVERS.items()
                        if preset != "postfix" or os.geteuid() == 0}
        self.agent = Agent(platform, directory / "agent", "agent-servers")

    def start(self):
        for server in self.servers.values():
            server.start()
        for server in self.servers.values():
            server.wait()
        tomcat = self.servers["tomcat"]
        self.agent.manage(*(f"{preset}={server.conf}" for preset, server in self.servers.items() if preset != "tomcat"))
        while "timeout = 30s" in self.agent.conf.read_text():
            self.agent.change("timeout = 30s", "timeout = 6s")
        self.agent.manage(f"tomcat={tomcat.conf}", command=tomcat.reload_command())
        answer = self.rest.register("servers", operations=("DEPLOY", "RENEW", "VALIDATE", "DISCOVER"),
                                    paths=[f"{self.dir}/**"], dns_names=["*.clm.test"])
        self.id = answer["agent"]["id"]
        self.agent.enrol(answer["token"]).start()
        self.rest.wait_agent(self.id, "ONLINE", process=self.agent.process)
        return self

    def task(self, kind, spec, **more):
        return self.rest.run_task(self.id, kind, spec, **more)

    @contextlib.contextmanager
    def policy(self, old, new):
        """The local policy with other words in it, for a while."""
        def swap(a, b):
            times = self.agent.process.text().count("local policy reloaded")
            self.agent.change(a, b)
            self.agent.process.signal(signal.SIGHUP)
            wait_until("the policy to be loaded", lambda: self.agent.process.text().count("local policy reloaded") > times, 10)
        swap(old, new)
        try:
            yield
        finally:
            swap(new, old)

    def stop(self):
        for part in (self.agent.process, *self.servers.values()):
            part.kill() if part is self.agent.process else part.stop()
        self.rest.close()


@pytest.fixture(scope="module")
def fleet(platform, scratch):
    fleet = Fleet(platform, scratch / "servers")
    try:
        yield fleet.start()
    except Exception as error:
        logs = [server.process.tail(20) for server in fleet.servers.values()]
        raise AssertionError(f"{error}\n" + "\n".join(logs)) from error
    finally:
        fleet.stop()


@pytest.fixture(params=PRESETS)
def server(request, fleet):
    if request.param not in fleet.servers:
        pytest.fail("Postfix starts only as root: run ./dev test as root")
    return fleet.servers[request.param]


def steps(task):
    return {step["name"]: step for step in task["result"]["steps"]}


def test_setup_writes_a_target_for_each_server(fleet):
    text = fleet.agent.conf.read_text()
    for preset, server in fleet.servers.items():
        assert f"[target {preset}]\n" in text and f"[reload {preset}]\n" in text, text
        assert f"configuration = {server.conf}\n" in text and f"dns_names = {server.name}\n" in text, text
    assert {"starttls = postgresql", "store = haproxy", "store = pkcs12"} <= set(text.splitlines()), text
    tomcat = fleet.servers["tomcat"]
    assert (fleet.agent.dir / "tomcat.password").read_text() == tomcat.password and tomcat.password not in fleet.agent.said
    assert private_file(fleet.agent.dir / "tomcat.password")
    before = text
    fleet.agent.manage(*(f"{preset}={server.conf}" for preset, server in fleet.servers.items() if preset != "tomcat"))
    assert "Nothing to do" in fleet.agent.said and fleet.agent.conf.read_text() == before


def test_discovery_says_who_uses_which_file(fleet):
    task = fleet.task("DISCOVER", {"listening": False})
    assert task["state"] == "SUCCEEDED", task
    found = {(one.get("usedBy"), one.get("path")) for one in task["result"]["certificates"] if one["source"] == "CONFIGURATION"}
    for preset, server in fleet.servers.items():
        assert (preset, str(server.certificate)) in found, (preset, found)


def test_a_renewed_certificate_is_served_by(server, fleet):
    before = server.fingerprint()
    task = fleet.task("RENEW", {"target": server.preset})
    assert task["state"] == "SUCCEEDED", task
    assert task["result"]["fingerprintBeforeSha256"] == before
    after = task["result"]["fingerprintAfterSha256"]
    assert task["result"]["servedFingerprintSha256"] == after != before
    # A worker of before the reload may answer for an instant longer.
    wait_until("the new certificate to be served", lambda: server.serves() and server.fingerprint() == after, 10)
    assert {"test", "reload", "verify"} <= {name for name, step in steps(task).items() if step["ok"]}


def test_a_broken_configuration_leaves_the_old_certificate_to(server, fleet):
    before = server.fingerprint()
    files = server.certificate.read_bytes(), server.key.read_bytes()
    server.break_conf()
    try:
        task = fleet.task("RENEW", {"target": server.preset})
    finally:
        server.mend_conf()
    assert task["state"] == "FAILED" and "the configuration test failed" in task["message"], task
    failed = steps(task)["test"]
    assert not failed["ok"] and server.refusal in failed["message"], failed
    assert "reload" not in steps(task)
    assert server.fingerprint() == before
    assert (server.certificate.read_bytes(), server.key.read_bytes()) == files


def test_a_key_that_postgresql_refuses_at_its_reload_is_rolled_back(fleet):
    """Its configuration test does not look at the key: only what is served tells."""
    server = fleet.servers["postgresql"]
    before = server.fingerprint()
    server.key.chmod(0o644)
    try:
        task = fleet.task("RENEW", {"target": server.preset})
    finally:
        server.key.chmod(0o600)
    assert task["state"] == "FAILED" and "still serves another certificate" in task["message"], task
    assert steps(task)["rollback"]["ok"] and steps(task)["rollback-verify"]["ok"], task
    assert "private key file" in server.process.text()
    assert server.fingerprint() == before == fingerprint(server.served())


# ---- whatever goes wrong ------------------------------------------------------------------------------------------


def leaf(server, directory, key=None, names=None, start="250101000000Z", end="491231000000Z"):
    """A certificate of an outside CA for the server's own name and key, or others; and that CA."""
    outside = Authority(directory / "ca")
    key = key or server.private_key(directory / "key.pem")
    extensions = f"subjectAltName=DNS:{names or server.name}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature"
    return to_pem(outside.issue(csr(key, f"/CN={server.name}"), extensions, start, end)), outside


@contextlib.contextmanager
def wrong_key(fleet, server, directory):
    chain, outside = leaf(server, directory, new_key(directory / "other.key"))
    yield "DEPLOY", chain + outside.certificate.read_text()


@contextlib.contextmanager
def wrong_name(fleet, server, directory):
    chain, outside = leaf(server, directory, names="somebody-else.clm.test")
    yield "DEPLOY", chain + outside.certificate.read_text()


@contextlib.contextmanager
def broken_chain(fleet, server, directory):
    chain, _ = leaf(server, directory)
    yield "DEPLOY", chain + Authority(directory / "unrelated", "another CA").certificate.read_text()


@contextlib.contextmanager
def expired(fleet, server, directory):
    chain, outside = leaf(server, directory, end="250601000000Z")
    yield "DEPLOY", chain + outside.certificate.read_text()


@contextlib.contextmanager
def refuses_to_reload(fleet, server, directory):
    with fleet.policy(f"[reload {server.preset}]\ncommand = ", f"[reload {server.preset}]\ncommand = /bin/false "):
        yield "RENEW", None


@contextlib.contextmanager
def mounted(server, options):
    """What the server has, on a file system of its own."""
    kept = [(path, path.read_bytes(), path.stat()) for path in server.tls.iterdir()]
    run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "none", server.tls])
    try:
        for path, content, status in kept:
            path.write_bytes(content)
            path.chmod(status.st_mode & 0o777)
            os.chown(path, status.st_uid, status.st_gid)
        yield
    finally:
        run(["umount", "--lazy", server.tls])


@contextlib.contextmanager
def full_disk(fleet, server, directory):
    with mounted(server, "size=64k"):
        filler = server.tls.parent / "tls" / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as out:
            while True:
                out.write(b"x" * 4096)
        yield "RENEW", None


@contextlib.contextmanager
def read_only_directory(fleet, server, directory):
    with mounted(server, "size=1m"):
        run(["mount", "-o", "remount,ro", server.tls])
        yield "RENEW", None


@contextlib.contextmanager
def replaced_meanwhile(fleet, server, directory):
    """By somebody who is quicker than the agent: after it has looked at what is in place."""
    kept, status = server.certificate.read_bytes(), server.certificate.stat()
    line = f"[reload {server.preset}]\n"
    with fleet.policy(line, f"{line}pre = /bin/sh -c 'echo >> {server.certificate}'\n"):
        yield "RENEW", None
    assert server.certificate.read_bytes() == kept + b"\n", "somebody else's change is gone"
    server.certificate.write_bytes(kept)
    assert status.st_mode == server.certificate.stat().st_mode


# what happens, and what the task says of it
FAULTS = {
    wrong_key: "for another key than the one on this host",
    wrong_name: "does not cover|name somebody-else.clm.test",
    broken_chain: "chain",
    expired: "expired at",
    refuses_to_reload: "the reload failed",
    full_disk: "No space left on device",
    read_only_directory: "Read-only file system",
    replaced_meanwhile: "changed by somebody else meanwhile",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_old_certificate_stays_with(server, fault, fleet, tmp_path):
    before = server.fingerprint()
    with fault(fleet, server, tmp_path) as (kind, chain):
        files = server.certificate.read_bytes(), server.key.read_bytes()
        task = fleet.task(kind, {"target": server.preset, **({"chainPem": chain} if chain else {})}, maxAttempts=1)
        assert task["state"] == "FAILED" and re.search(FAULTS[fault], task["message"]), task
        if fault is not replaced_meanwhile:
            assert (server.certificate.read_bytes(), server.key.read_bytes()) == files
        assert list(server.tls.glob(".clm-*")) == []
        wait_until("the old certificate to be served", lambda: server.serves() and server.fingerprint() == before, 10)
