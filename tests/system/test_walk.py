"""The whole path: an agent takes nginx from a certificate about to expire to one of the platform's CA."""
import subprocess

import pytest

from clm.host import fingerprint
from clm.platform import private_file
from clm.process import run
from conftest import Host
from support import pb
from support.keys import needles_of, places_of_platform


@pytest.fixture(scope="module")
def platform(overheard):
    return overheard


class Walk:
    """DISCOVER, RENEW, VALIDATE on one host, and what was there before and after."""

    def __init__(self, host, rest):
        self.host = host
        self.before = fingerprint(host.nginx.served())
        self.key_before = host.nginx.key.read_text()
        self.discovered = rest.run_task(host.id, "DISCOVER", {"roots": [str(host.nginx.dir)]})
        self.renewed = rest.run_task(host.id, "RENEW", {"target": "nginx"})
        self.validated = rest.run_task(host.id, "VALIDATE", {"target": "nginx"})
        self.rediscovered = rest.run_task(host.id, "DISCOVER", {"roots": [str(host.nginx.dir)]})


@pytest.fixture(scope="module")
def walk(platform, scratch):
    host = Host(platform, scratch / "walk", "walk")
    rest = platform.rest()
    host.start(rest)
    yield Walk(host, rest)
    rest.close()
    host.stop()


def found(task, **wanted):
    return [c for c in task["result"]["certificates"]
            if all(c.get(name) == value or c["certificate"].get(name) == value for name, value in wanted.items())]


def test_discovery_finds_the_certificate_on_disk_and_on_the_port(walk):
    assert walk.discovered["state"] == "SUCCEEDED", walk.discovered
    mine = found(walk.discovered, fingerprintSha256=walk.before)
    assert any(c.get("path") == str(walk.host.nginx.certificate) for c in mine), mine
    assert any(c.get("endpoint", "").endswith(f":{walk.host.nginx.port}") for c in mine), mine


def test_renewal_changes_what_is_served(walk, platform):
    assert walk.renewed["state"] == "SUCCEEDED", walk.renewed
    result = walk.renewed["result"]
    now = fingerprint(walk.host.nginx.served(platform.roots))
    assert result["fingerprintBeforeSha256"] == walk.before
    assert result["fingerprintAfterSha256"] == result["servedFingerprintSha256"] == now != walk.before
    assert all(step["ok"] for step in result["steps"])
    assert walk.host.nginx.reloads() == 1


def test_the_new_certificate_chains_to_the_platforms_root_and_carries_the_name(walk, platform):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{walk.host.nginx.port}", "-servername",
                           walk.host.nginx.name, "-verify_hostname", walk.host.nginx.name, "-verify_return_error",
                           "-CAfile", str(platform.roots), "-brief"], input="", text=True, capture_output=True, timeout=20)
    assert "Verification: OK" in done.stderr, done.stderr


def test_the_new_key_was_made_here_and_only_its_owner_reads_it(walk):
    assert private_file(walk.host.nginx.key)
    assert walk.host.nginx.key.read_text() != walk.key_before
    public = run(["openssl", "pkey", "-in", walk.host.nginx.key, "-pubout"]).stdout
    certified = run(["openssl", "x509", "-in", walk.host.nginx.certificate, "-noout", "-pubkey"]).stdout
    assert public == certified


def test_validation_passes_every_check(walk):
    assert walk.validated["state"] == "SUCCEEDED", walk.validated
    checks = walk.validated["result"]["checks"]
    assert len(checks) >= 4 and all(c["outcome"] == "PASS" for c in checks), checks


def test_a_second_discovery_shows_the_new_certificate(walk):
    after = walk.renewed["result"]["fingerprintAfterSha256"]
    assert found(walk.rediscovered, fingerprintSha256=after)
    assert not found(walk.rediscovered, fingerprintSha256=walk.before, path=str(walk.host.nginx.certificate))


def test_dashboard_counts_the_agent_and_shows_the_work(walk, rest):
    board = rest.get("/api/v1/dashboard")
    assert board["online"] >= 1 and board["total"] >= board["online"]
    assert any(a.get("agentId") == walk.host.id for a in board["recentActivity"]), board["recentActivity"]


# ---- secrets --------------------------------------------------------------------------------------------------


def test_no_byte_of_a_private_key_is_anywhere_but_on_the_host(walk, platform):
    # Keys that stayed with the agent are as secret as nginx's.
    keys = [walk.host.nginx.key] + [path for path in walk.host.agent.state.rglob("*")
                                    if path.is_file() and b"PRIVATE KEY-----" in path.read_bytes()[:200]]
    assert len(keys) >= 3, keys
    needles = {needle: path for path in keys for needle in needles_of(path)}
    # The search itself can find something: the host's name went over the bus and is in the database.
    seen = {name: 0 for name in ("PostgreSQL", "messages on the bus")}
    for place, content in places_of_platform(platform):
        for needle, path in needles.items():
            assert needle not in content, f"{path} in {place}"
        if place in seen:
            seen[place] = content.count(walk.host.nginx.name.encode())
    assert all(seen.values()), seen


def test_no_token_and_no_api_key_is_kept_or_logged(platform, make_host, rest):
    host = make_host()
    host.prepare()
    token = host.register(rest)["token"]
    host.agent.start()
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    secret = token.split(".", 1)[1]
    api_secret = platform.api_key.split("_", 2)[2]  # which may have a "_" of its own
    for place, content in places_of_platform(platform):
        if place == "messages on the bus":
            continue  # the registry is asked with the key, and answers with the token: that is what it is for
        assert secret.encode() not in content, f"token in {place}"
        assert api_secret.encode() not in content, f"API key in {place}"
    assert not host.agent.token.exists()


# ---- the envelope ---------------------------------------------------------------------------------------------


def test_openssl_opens_an_envelope_from_the_database_with_the_agents_key_alone(walk, platform, tmp_path):
    rows = platform.sql(f"SELECT encode(envelope, 'hex') FROM tasks.tasks WHERE id = '{walk.renewed['id']}'")
    envelope = bytes.fromhex(rows[0][0])
    (tmp_path / "envelope.der").write_bytes(envelope)
    task_key, task_crt = walk.host.agent.task_identity()
    inner = subprocess.run(["openssl", "cms", "-verify", "-purpose", "any", "-inform", "DER", "-in", tmp_path / "envelope.der",
                            "-CAfile", platform.roots, "-binary", "-outform", "DER"], capture_output=True)
    assert inner.returncode == 0, inner.stderr
    (tmp_path / "inner.der").write_bytes(inner.stdout)
    plain = subprocess.run(["openssl", "cms", "-decrypt", "-inform", "DER", "-in", tmp_path / "inner.der", "-inkey", task_key,
                            "-recip", task_crt, "-binary"], capture_output=True)
    assert plain.returncode == 0, plain.stderr
    order = pb.decode(plain.stdout)
    assert order[1] == [walk.renewed["id"].encode()]
    assert order[3] == [walk.host.id.encode()]
