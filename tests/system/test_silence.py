"""An agent that is not heard becomes OFFLINE, though its gateway has several loops; and is ONLINE again when it speaks. What the
platform itself missed says nothing about agents."""
import json

import pytest

from clm.process import wait_until
from conftest import Host, start_platform


@pytest.fixture(scope="module")
def platform(make_platform):
    """Agents are heard every 5 s, so silence is noticed after 15."""
    platform = make_platform("silence")

    def between(name):
        if name == "configuration":
            platform.write_config("gateway", {"gateway": {"checkin_interval": "5s", "threads": 2}})
            platform.write_config("registry", {"registry": {"reattach_window": "5s"}})
    yield start_platform(platform, between)
    platform.stop()


def test_a_killed_agent_becomes_offline_and_comes_back(platform, scratch):
    rest = platform.rest()
    host = Host(platform, scratch / "silent", "silent").start(rest)
    try:
        host.agent.process.kill()
        wait_until("the agent to be OFFLINE", lambda: rest.get(f"/api/v1/agents/{host.id}")["status"] == "OFFLINE", 60)
        assert rest.get("/api/v1/dashboard")["offline"] == 1
        host.agent.start()
        rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
        path = f"/api/v1/agents/{host.id}"
        _, headers, body = rest.raw("GET", path)
        before = json.loads(body)
        after = wait_until("a further heartbeat", lambda: (now := rest.agent(host.id))["lastHeartbeatAt"] != before["lastHeartbeatAt"] and now, 30)
        assert after["version"] == before["version"] and rest.raw("GET", path, headers={"If-None-Match": headers["ETag"]})[0] == 200, "not what it was"
        rest.post(f"{path}:setLabels", {"labels": []}, headers={"If-Match": headers["ETag"]})
    finally:
        host.stop()
        rest.close()


# Which parts are away, and which of them comes back before the clock is looked at: PostgreSQL must, to be told that an hour passed.
OUTAGES = {"gateway": ("gateway",), "registry": ("registry",), "bus": ("nats",), "database": ("registry", "postgresql")}


def start(platform, part):
    {"nats": platform.start_nats, "postgresql": platform.start_postgresql}.get(part, lambda: platform.start_service(part))()


def an_hour_passes(platform):
    """For all that the registry has written down: as if the outage had lasted that long."""
    platform.sql("BEGIN; UPDATE registry.heartbeats SET last_at = last_at - interval '1 hour'; "
                 "UPDATE registry.gateways SET last_seen_at = last_seen_at - interval '1 hour', "
                 "counting_from = counting_from - interval '1 hour'; "
                 "UPDATE registry.platform SET last_sweep_at = last_sweep_at - interval '1 hour', "
                 "counting_from = counting_from - interval '1 hour'; COMMIT")


def swept(platform):
    return platform.sql("SELECT last_sweep_at > now() - interval '1 minute' FROM registry.platform") == [["t"]]


@pytest.mark.parametrize("outage", OUTAGES)
def test_no_agent_is_offline_after_an_outage_of_the(outage, platform, scratch):
    rest = platform.rest()
    host = Host(platform, scratch / f"outage-{outage}", f"outage-{outage}").start(rest)
    try:
        for part in OUTAGES[outage]:
            platform[part].kill()
        if "postgresql" in OUTAGES[outage]:
            start(platform, "postgresql")
        an_hour_passes(platform)
        if "registry" not in OUTAGES[outage]:
            wait_until("the registry to look, while nobody can speak", lambda: swept(platform), 30)
        for part in OUTAGES[outage]:
            if part != "postgresql":
                start(platform, part)
        platform.wait_ready()
        wait_until("the agent to be heard again", lambda: platform.sql(
            f"SELECT last_at > now() - interval '1 minute' FROM registry.heartbeats WHERE agent_id = '{host.id}'") == [["t"]], 60)
        wait_until("the registry to look", lambda: swept(platform), 30)
        assert rest.agent(host.id)["status"] == "ONLINE"
        assert platform.sql(f"SELECT message FROM registry.activity WHERE agent_id = '{host.id}' AND message LIKE 'OFFLINE%'") == []
    finally:
        host.stop()
        rest.close()
