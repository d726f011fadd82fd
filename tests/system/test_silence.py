"""An agent that is not heard becomes OFFLINE, though its gateway has several loops; and is ONLINE again when it speaks."""
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
    finally:
        host.stop()
        rest.close()
