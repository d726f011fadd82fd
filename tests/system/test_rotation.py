"""An agent's identity moves to its next generation by itself, and nothing that happens to it on the way loses anything."""
import ssl
import time
import uuid

import pytest

from clm.process import wait_until
from conftest import Host, start_platform
from support.peer import Link, Peer, error_text

LIFE = "20s"  # it is renewed at half of it


@pytest.fixture(scope="module")
def short_lived(make_platform):
    platform = make_platform("short-lived")

    def between(name):
        if name == "configuration":
            platform.write_config("bootstrap", {"bootstrap": {"token_failures_per_min": 100000, "identity_life": LIFE}})
    return start_platform(platform, between)


@pytest.fixture
def operator(short_lived):
    client = short_lived.rest()
    yield client
    client.close()


@pytest.fixture
def rotating(short_lived, operator, scratch):
    name = f"rot-{uuid.uuid4().hex[:8]}"
    host = Host(short_lived, scratch / name, name)
    host.start(operator)
    yield host
    host.stop()


def generation(operator, host):
    return operator.agent(host.id).get("generation", 0)


def moved_to(operator, host, at_least, timeout=40):
    return wait_until(f"generation {at_least}", lambda: generation(operator, host) >= at_least, timeout,
                      process=host.agent.process)


def test_an_identity_is_renewed_and_the_old_key_goes(operator, rotating):
    before = operator.agent(rotating.id)
    moved_to(operator, rotating, 1)
    wait_until("the confirmed identity to be shown",
               lambda: operator.agent(rotating.id)["identityFingerprintSha256"] != before["identityFingerprintSha256"], 20)
    assert operator.agent(rotating.id)["identityNotAfterAt"] > before["identityNotAfterAt"]
    net = rotating.agent.state / "net"
    wait_until("the old identity key to be deleted", lambda: not (net / "identity-0.key").exists(), 10)
    # Envelopes for the former generation still open.
    assert (rotating.agent.state / "task-0.key").exists()
    assert operator.run_task(rotating.id, "VALIDATE", {"certificatePath": str(rotating.nginx.certificate)})["state"] \
        == "SUCCEEDED"
    moved_to(operator, rotating, 2)
    assert operator.agent(rotating.id)["status"] == "ONLINE"


def _exists(name):
    return lambda state, n: (state / name.format(n=n + 1)).exists()


STEPS = {
    "exec has made its key": _exists("task-{n}.key"),
    "net has made its key": _exists("net/identity-{n}.key"),
    "the certificates are being stored": _exists("task-{n}.pem"),
    "exec has moved": lambda state, n: bytes((0x10, n + 1)) in (state / "agent.id").read_bytes(),
    "net has deleted the old key": lambda state, n: not (state / f"net/identity-{n}.key").exists(),
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_when(step, operator, rotating):
    reached = STEPS[step]
    first = generation(operator, rotating)
    deadline = time.monotonic() + 30
    while not reached(rotating.agent.state, first):
        assert time.monotonic() < deadline, f"not reached: {step}\n{rotating.agent.process.tail()}"
    rotating.agent.process.kill()
    rotating.agent.start()
    moved_to(operator, rotating, first + 1)
    moved_to(operator, rotating, first + 2)
    agent = operator.agent(rotating.id)
    assert agent["status"] == "ONLINE" and not agent.get("safeMode"), agent


def test_an_expired_agent_comes_back_under_its_id_with_a_fresh_token(short_lived, operator, tmp_path):
    answer = operator.register("expires", operations=["VALIDATE"])
    peer = Peer(short_lived, answer["agent"]["id"], answer["token"], tmp_path / "first")
    assert peer.bootstrap()[0] == 200
    status, answer = peer.connect().confirm()
    assert status == 200, error_text(answer)
    created = operator.agent(peer.id)["createdAt"]
    operator.wait_agent(peer.id, "EXPIRED", timeout=60)
    with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
        Link(short_lived, peer.identity_crt, peer.identity_key).call("/agent/v1/checkin", b"")
    assert "expired" in str(refused.value).lower()
    again = Peer(short_lived, peer.id, operator.post(f"/api/v1/agents/{peer.id}/tokens")["token"], tmp_path / "again")
    assert again.bootstrap()[0] == 200 and again.generation == 1
    status, answer = again.connect().confirm()
    assert status == 200, error_text(answer)
    agent = operator.wait_agent(peer.id, "ONLINE")
    assert agent["createdAt"] == created
    states = [one["state"] for one in operator.get(f"/api/v1/agents/{peer.id}/identities")["identities"]]
    assert states == ["CURRENT", "EXPIRED"]
