"""Every server that the agent has a preset for beside nginx, real and private: a renewal is served, and what the server refuses
leaves the old certificate served, with the server's own reason. One platform, one host and one agent for all of them."""
import os

import pytest

from clm.host import Agent, fingerprint
from clm.platform import private_file
from clm.process import wait_until
from clm.servers import SERVERS
from test_deploy import certificate_for

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
        self.agent.manage(f"tomcat={tomcat.conf}", command=tomcat.reload_command())
        while "timeout = 30s" in self.agent.conf.read_text():
            self.agent.change("timeout = 30s", "timeout = 6s")
        answer = self.rest.register("servers", operations=("DEPLOY", "RENEW", "VALIDATE", "DISCOVER"),
                                    paths=[f"{self.dir}/**"], dns_names=["*.clm.test"])
        self.id = answer["agent"]["id"]
        self.agent.enrol(answer["token"]).start()
        self.rest.wait_agent(self.id, "ONLINE", process=self.agent.process)
        return self

    def task(self, kind, spec):
        return self.rest.run_task(self.id, kind, spec)

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
        if preset != "tomcat":  # its keystore opens with a password only, which is for tasks that change it
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


def test_a_certificate_for_another_name_is_not_given_to(server, fleet, tmp_path):
    before = server.fingerprint()
    files = server.certificate.read_bytes(), server.key.read_bytes()
    key = server.private_key(tmp_path / "key.pem")
    task = fleet.task("DEPLOY", {"target": server.preset, "chainPem": certificate_for(key, "somebody-else.clm.test", tmp_path)})
    assert task["state"] == "FAILED", task
    assert f"does not cover {server.name}" in task["message"] or "name somebody-else.clm.test" in task["message"], task
    assert server.fingerprint() == before
    assert (server.certificate.read_bytes(), server.key.read_bytes()) == files


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
