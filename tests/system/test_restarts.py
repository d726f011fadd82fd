"""A task outlives every part of the platform, and still has its effect exactly once."""
import pytest

from clm.host import fingerprint
from clm.process import wait_until

PARTS = ("registry", "bootstrap", "tasks", "gateway", "nats", "postgresql")


def bring_back(platform, part):
    starters = {"nats": platform.start_nats, "postgresql": platform.start_postgresql}
    starters.get(part, lambda: platform.start_service(part))()
    platform.wait_ready()


def issued(platform, task_id):
    """Certificates that the CA signed for a task."""
    return int(platform.sql(f"SELECT count(*) FROM bootstrap.certificate WHERE task_id = '{task_id}'")[0][0])


def check_once(platform, rest, host, task_id, before):
    task = rest.wait_task(task_id, timeout=90)
    assert task["state"] == "SUCCEEDED", task
    assert task["attempt"] == 1, task
    assert host.nginx.reloads() == 1
    served = fingerprint(host.nginx.served(platform.roots))
    assert served == task["result"]["fingerprintAfterSha256"] != before
    assert issued(platform, task_id) == 1


@pytest.mark.parametrize("part", PARTS)
def test_a_renewal_survives_the_death_of(part, platform, make_host, rest):
    host = make_host()
    host.slow_reload(seconds=3)
    host.start(rest)
    before = fingerprint(host.nginx.served())
    task_id = rest.create_task(host.id, "RENEW", {"target": "nginx"})["id"]
    wait_until("the reload to begin", host.reload_begun.exists, 30, process=host.agent.process)
    platform[part].kill()
    bring_back(platform, part)
    check_once(platform, rest, host, task_id, before)


def test_a_renewal_survives_the_death_of_the_agent(platform, make_host, rest):
    host = make_host()
    host.slow_reload(seconds=3)
    host.start(rest)
    before = fingerprint(host.nginx.served())
    task_id = rest.create_task(host.id, "RENEW", {"target": "nginx"})["id"]
    wait_until("the reload to begin", host.reload_begun.exists, 30, process=host.agent.process)
    host.agent.process.kill()
    host.agent.start()
    task = rest.wait_task(task_id, timeout=90)
    assert task["state"] == "SUCCEEDED", task
    after = task["result"]["fingerprintAfterSha256"]
    assert after != before
    # The reload may have been done again: workers of the first may take a connection for a moment more.
    wait_until("the new certificate to be served", lambda: fingerprint(host.nginx.served()) == after, 5)
    assert issued(platform, task_id) == 1


def test_a_task_made_while_nobody_is_there_runs_when_the_agent_comes(host, rest):
    host.agent.stop()
    task_id = rest.create_task(host.id, "VALIDATE", {"target": "nginx"})["id"]
    assert rest.task(task_id)["state"] == "READY"
    host.agent.start()
    assert rest.wait_task(task_id)["state"] == "SUCCEEDED"
