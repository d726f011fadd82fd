"""Safe mode as people meet it: of the whole platform, of one agent, on the host; the one change that an admin releases; and an
agent's end."""
from datetime import datetime, timedelta, timezone

import pytest

from clm.host import fingerprint
from clm.process import run, wait_until
from clm.rest import RestError
from support.peer import Link, Peer, error_text


@pytest.fixture
def peer(platform, rest, tmp_path):
    """Bootstrapped, confirmed, ONLINE."""
    answer = rest.register("safe", operations=["RENEW", "VALIDATE"], dns_names=["www.example.com"])
    peer = Peer(platform, answer["agent"]["id"], answer["token"], tmp_path / "peer")
    assert peer.bootstrap()[0] == 200
    peer.connect()
    wait_until("the identity to be confirmed", lambda: peer.confirm()[1].get(3) == [peer.generation], 20)
    rest.wait_agent(peer.id, "ONLINE")
    return peer


@pytest.fixture(scope="module")
def operator(platform):
    client = platform.rest(platform.create_api_key("safe-mode-operator", "operator"))
    yield client
    client.close()


def refused(call):
    """The answer's status, with what it says."""
    with pytest.raises(RestError) as error:
        call()
    return error.value.status, str(error.value)


def in_an_hour():
    return (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def alerts(rest, kind, entity, **more):
    return [a for a in rest.get("/api/v1/alerts", kind=kind, pageSize=500, **more)["alerts"] if a["entityId"] == entity]


def renew(rest, agent_id, target="nginx", **more):
    return rest.create_task(agent_id, "RENEW", {"target": target}, **more)


def clm_agent(host, command):
    return run([host.platform.bin / "clm-agent", command, "--config", host.agent.conf]).stdout


def test_an_admin_puts_the_whole_platform_into_safe_mode(platform, rest, operator, peer):
    assert refused(lambda: operator.post("/api/v1/platform:enterSafeMode"))[0] == 403
    rest.post("/api/v1/platform:enterSafeMode", {"reason": "incident 7"})
    try:
        seen = rest.get("/api/v1/platform")
        assert seen["safeMode"] and seen["reason"] == "incident 7" and seen["changedBy"].startswith("api-key:")
        wait_until("tasks to hold changes back", lambda: platform.sql("SELECT safe_mode FROM tasks.platform") == [["t"]], 10)
        status, said = refused(lambda: renew(rest, peer.id))
        assert status in (400, 409, 412) and "PLATFORM" in said
        assert rest.create_task(peer.id, "VALIDATE", {"endpoint": "127.0.0.1:1"})["state"] == "READY"
        agent = rest.wait_agent(peer.id, "SAFE_MODE")
        assert agent["reason"] == "PLATFORM" and "admin" in agent["safeModeEnds"]
        assert "incident 7" in alerts(rest, "SAFE_MODE", "platform")[0]["message"]
    finally:
        rest.post("/api/v1/platform:leaveSafeMode")
    rest.wait_agent(peer.id, "ONLINE")
    assert not alerts(rest, "SAFE_MODE", "platform")
    wait_until("both to be in the audit log", lambda: len(
        rest.get("/api/v1/audit/records", action="platform.changed")["entries"]) >= 2, 20)


def test_one_change_is_released_in_safe_mode_if_the_host_lets_it(platform, rest, operator, host):
    rest.post(f"/api/v1/agents/{host.id}:enterSafeMode")
    agent = rest.wait_agent(host.id, "SAFE_MODE")
    assert agent["reason"] == "OPERATOR" and agent["statusSinceAt"]
    wait_until("tasks to know", lambda: platform.sql(
        f"SELECT safe_column FROM tasks.agents WHERE agent_id = '{host.id}'") == [["1"]], 10)
    assert "OPERATOR" in refused(lambda: renew(rest, host.id))[1]
    assert refused(lambda: renew(operator, host.id, breakGlass=True))[0] == 403
    task = rest.wait_task(renew(rest, host.id, breakGlass=True)["id"])
    assert task["state"] == "FAILED" and "break_glass" in task["message"]
    host.agent.change("[policy]", "[policy]\nbreak_glass = yes")
    host.agent.process.stop()
    host.agent.start()
    before = fingerprint(host.nginx.served())
    released = renew(rest, host.id, breakGlass=True)
    task = rest.wait_task(released["id"])
    assert task["state"] == "SUCCEEDED" and task["breakGlass"], task
    assert fingerprint(host.nginx.served()) != before
    wait_until("the release to be in the audit log", lambda: any(
        "break glass" in e["record"].get("detail", "") and e["record"]["entityId"] == task["id"]
        for e in rest.get("/api/v1/audit/records", action="task.created", agentId=host.id)["entries"]), 20)
    rest.post(f"/api/v1/agents/{host.id}:leaveSafeMode")
    rest.wait_agent(host.id, "ONLINE")


def test_the_hosts_administrator_has_the_last_word(rest, host):
    clm_agent(host, "safe-mode")
    agent = rest.wait_agent(host.id, "SAFE_MODE")
    assert agent["reason"] == "LOCAL"
    assert "leave-safe-mode" in alerts(rest, "SAFE_MODE", host.id)[0]["message"]
    assert "LOCAL" in clm_agent(host, "status")
    status, said = refused(lambda: rest.post(f"/api/v1/agents/{host.id}:leaveSafeMode"))
    assert status in (400, 409, 412) and "on the host" in said
    assert "LOCAL is over" in clm_agent(host, "leave-safe-mode")
    rest.wait_agent(host.id, "ONLINE")
    assert not alerts(rest, "SAFE_MODE", host.id)
    assert alerts(rest, "SAFE_MODE", host.id, state="RESOLVED")


def test_a_deleted_agent_is_gone_everywhere_and_its_history_stays(platform, rest, operator, peer, tmp_path):
    waiting = rest.create_task(peer.id, "VALIDATE", {"endpoint": "127.0.0.1:1"}, notBeforeAt=in_an_hour())
    fresh = rest.post(f"/api/v1/agents/{peer.id}/tokens", {"force": True})["token"]
    assert refused(lambda: operator.post(f"/api/v1/agents/{peer.id}:delete"))[0] == 403
    rest.post(f"/api/v1/agents/{peer.id}:delete")
    assert refused(lambda: rest.agent(peer.id))[0] == 404

    def cut():
        try:
            status, answer = Link(platform, peer.identity_crt, peer.identity_key).call("/agent/v1/checkin", b"")
        except OSError:
            return True
        return status == 403 and "deleted" in error_text(answer)
    wait_until("its identity to be refused", cut, 10)
    wait_until("its task to be cancelled", lambda: rest.task(waiting["id"])["state"] == "CANCELLED", 10)
    wait_until("its token to be void", lambda: Peer(platform, peer.id, fresh, tmp_path / "again").bootstrap()[0] == 401, 10)
    wait_until("its end to be in the audit log", lambda: [e["record"]["action"] for e in rest.get(
        "/api/v1/audit/records", agentId=peer.id, action="agent.*")["entries"]][:1] == ["agent.deleted"], 20)
