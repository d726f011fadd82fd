"""Tokens, copies of an identity, revocation and an operator's safe mode, as operators and hosts see them."""
import ssl

import pytest

from clm.process import wait_until
from clm.rest import RestError
from support.peer import Link, Peer, error_text
from support import pb

OTHER_INSTANCE = "01890a5d-ac96-774b-bcce-b302099a8058"


@pytest.fixture
def registered(rest):
    answer = rest.register("life", operations=["VALIDATE"])
    return answer["agent"]["id"], answer["token"], answer["tokenId"]


@pytest.fixture
def peer(platform, registered, rest, tmp_path):
    """Bootstrapped and confirmed."""
    peer = Peer(platform, registered[0], registered[1], tmp_path / "peer")
    assert peer.bootstrap()[0] == 200
    peer.connect()
    confirm(peer)
    rest.wait_agent(peer.id, "ONLINE")
    return peer


def confirm(peer):
    def confirmed():
        status, answer = peer.confirm()
        assert status == 200, error_text(answer)
        return answer.get(3) == [peer.generation]
    wait_until("the identity to be confirmed", confirmed, 20)


def fresh(platform, rest, agent_id, directory, **body):
    answer = rest.post(f"/api/v1/agents/{agent_id}/tokens", body)
    again = Peer(platform, agent_id, answer["token"], directory)
    wait_until("the fresh token to be taken", lambda: again.bootstrap()[0] == 200, 10)
    again.connect()
    return again


def refused_in_the_handshake(peer):
    def refused():
        try:
            Link(peer.platform, peer.identity_crt, peer.identity_key).call("/agent/v1/checkin", b"")
        except (ssl.SSLError, ConnectionError):
            return True
        return False
    wait_until("the former identity to be refused", refused, 10)


def state_of(rest, agent_id, token_id):
    return next(t["state"] for t in rest.get(f"/api/v1/agents/{agent_id}/tokens")["tokens"] if t["id"] == token_id)


def test_a_token_is_listed_without_its_secret_and_revoked(rest, platform, registered, tmp_path):
    agent_id, token, token_id = registered
    listed = rest.get(f"/api/v1/agents/{agent_id}/tokens")
    assert [t["id"] for t in listed["tokens"]] == [token_id] and listed["tokens"][0]["state"] == "OPEN"
    assert token.split(".")[1] not in str(listed)
    rest.post(f"/api/v1/agents/{agent_id}/tokens/{token_id}:revoke")
    rest.post(f"/api/v1/agents/{agent_id}/tokens/{token_id}:revoke")
    assert state_of(rest, agent_id, token_id) == "REVOKED"
    status, answer = Peer(platform, agent_id, token, tmp_path).bootstrap()
    assert status == 401 and "not valid" in error_text(answer)


def test_a_burnt_token_is_not_revoked_and_a_foreign_one_not_found(rest, peer, registered):
    with pytest.raises(RestError) as refused:
        rest.post(f"/api/v1/agents/{peer.id}/tokens/{registered[2]}:revoke")
    assert refused.value.status in (400, 409, 412), refused.value
    with pytest.raises(RestError) as refused:
        rest.post(f"/api/v1/agents/{peer.id}/tokens/{peer.id}:revoke")
    assert refused.value.status == 404


def test_a_fresh_token_for_a_living_agent_is_admins_alone_and_wants_force(rest, platform, peer, tmp_path):
    with pytest.raises(RestError) as refused:
        rest.post(f"/api/v1/agents/{peer.id}/tokens")
    assert refused.value.status in (400, 409, 412) and "force" in str(refused.value)
    operator = platform.rest(platform.create_api_key(f"operator-{peer.id}", "operator"))
    with pytest.raises(RestError) as refused:
        operator.post(f"/api/v1/agents/{peer.id}/tokens", {"force": True})
    assert refused.value.status == 403
    operator.close()
    created = rest.agent(peer.id)["createdAt"]
    again = fresh(platform, rest, peer.id, tmp_path / "again", force=True)
    assert again.generation == 1
    assert peer.checkin()[0] == 200  # until the new one is there
    confirm(again)
    refused_in_the_handshake(peer)
    agent = rest.agent(peer.id)
    assert agent["createdAt"] == created
    # The former installation knocks, and is no clone.
    assert wait_until("generation 1", lambda: rest.agent(peer.id).get("generation") == 1, 10)
    assert not rest.agent(peer.id).get("safeMode"), rest.agent(peer.id)


def test_a_revoked_agent_comes_back_with_a_fresh_token_alone(rest, platform, peer, tmp_path):
    rest.post(f"/api/v1/agents/{peer.id}:revoke")
    assert rest.agent(peer.id)["status"] == "DISABLED" and rest.agent(peer.id)["reason"] == "revoked"
    with pytest.raises(RestError):
        rest.post(f"/api/v1/agents/{peer.id}:enable")
    again = fresh(platform, rest, peer.id, tmp_path / "again")
    refused_in_the_handshake(peer)
    confirm(again)
    rest.wait_agent(peer.id, "ONLINE")


def test_a_second_key_freezes_the_identity_until_an_operator_decides(rest, platform, registered, tmp_path):
    first = Peer(platform, registered[0], registered[1], tmp_path / "first")
    assert first.bootstrap()[0] == 200
    second = Peer(platform, registered[0], registered[1], tmp_path / "second")
    status, answer = second.bootstrap()
    assert status == 401 and "not valid" in error_text(answer)
    first.connect()
    confirm(first)
    assert rest.wait_agent(first.id, "SAFE_MODE")["reason"] == "SECOND_KEY"
    rest.post(f"/api/v1/agents/{first.id}:unfreeze")
    rest.wait_agent(first.id, "ONLINE")


def test_a_copied_identity_is_caught_and_gets_nothing_until_a_fresh_token(rest, platform, peer, tmp_path):
    mine = peer.instance
    for _ in range(5):
        for instance in (mine, OTHER_INSTANCE):
            peer.instance = instance
            assert peer.checkin()[0] == 200
            wait_until("the registry to hear it", lambda i=instance: platform.sql(
                f"SELECT 1 FROM registry.heartbeats WHERE agent_id = '{peer.id}' AND instance_id = '{i}'"), 10)
    agent = rest.wait_agent(peer.id, "SAFE_MODE")
    assert agent["reason"] == "CLONE"

    def no_tasks():
        with pytest.raises(RestError) as refused:
            rest.create_task(peer.id, "VALIDATE", {"endpoint": "127.0.0.1:1"})
        return "frozen" in str(refused.value)
    wait_until("tasks to be refused", no_tasks, 10)
    renewal = peer.signed((8, peer_csr(peer)), (9, peer_csr(peer, "task")), purpose=3)
    status, answer = peer.link.call("/agent/v1/identity/renew", pb.encode((1, renewal)))
    assert status == 403 and "SAFE_MODE by CLONE" in error_text(answer), (status, answer)
    with pytest.raises(RestError):
        rest.post(f"/api/v1/agents/{peer.id}:unfreeze")
    again = fresh(platform, rest, peer.id, tmp_path / "again")
    refused_in_the_handshake(peer)
    confirm(again)
    rest.wait_agent(peer.id, "ONLINE")


def peer_csr(peer, name="identity"):
    from support.pki import csr, new_key
    return csr(new_key(peer.dir / f"next-{name}.key"))


def test_an_identity_below_the_confirmed_one_is_a_clone(rest, platform, peer, tmp_path):
    keys = Peer(platform, peer.id, peer_token(peer), tmp_path / "next")
    renewal = peer.signed((8, peer_csr(peer)), (9, peer_csr(peer, "task")), purpose=3)
    status, answer = peer.link.call("/agent/v1/identity/renew", pb.encode((1, renewal)))
    assert status == 200, error_text(answer)
    keys.generation = answer[2][0]
    keys.identity_key, keys.task_key = peer.dir / "next-identity.key", peer.dir / "next-task.key"
    from support.pki import to_pem
    keys.identity_crt.write_text("".join(to_pem(der) for der in answer[3]))
    keys.task_crt.write_text("".join(to_pem(der) for der in answer[4]))
    keys.connect()
    confirm(keys)
    wait_until("generation 1", lambda: rest.agent(peer.id).get("generation") == 1, 10)
    refused_in_the_handshake(peer)
    assert rest.wait_agent(peer.id, "SAFE_MODE", 10)["reason"] == "CLONE"


def peer_token(peer):
    import base64
    raw = peer.token.pin + peer.token.secret + peer.token.gateway.encode()
    return "clmt1." + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_an_operators_safe_mode_lets_only_read_only_work_through(rest, peer):
    rest.post(f"/api/v1/agents/{peer.id}:enterSafeMode")
    agent = rest.agent(peer.id)
    assert agent["status"] == "SAFE_MODE" and agent["reason"] == "OPERATOR"
    task = rest.create_task(peer.id, "VALIDATE", {"endpoint": "127.0.0.1:1"})
    assert peer.lease()[0] == task["id"]
    rest.post(f"/api/v1/agents/{peer.id}:leaveSafeMode")
    assert rest.agent(peer.id)["status"] == "ONLINE"
