"""The agent on its host: what it tells of it, and how it takes a changed policy."""
import json
import os
import signal

from clm.process import run, wait_until


def clmctl(platform, *arguments):
    return run([platform.bin / "clmctl", *arguments], env={"CLMCTL_CONFIG": str(platform.clmctl_config)}, timeout=120)


def metrics(rest, host, **query):
    return rest.get(f"/api/v1/agents/{host.id}/metrics", **query)


def test_metrics_are_told_once_the_policy_allows_them_and_a_reload_keeps_the_connection(platform, rest, host):
    assert "latest" not in metrics(rest, host) and "metrics" not in rest.agent(host.id)
    host.agent.change("[policy]", "[policy]\nmetrics = on")
    host.agent.process.signal(signal.SIGHUP)
    wait_until("metrics", lambda: "latest" in metrics(rest, host), process=host.agent.process)

    answer = metrics(rest, host)
    latest = answer["latest"]
    stat = os.statvfs("/")
    assert latest["processors"] == os.sysconf("SC_NPROCESSORS_ONLN")
    assert int(latest["diskTotalBytes"]) == stat.f_blocks * stat.f_frsize
    assert 0 < int(latest["memoryUsedBytes"]) < int(latest["memoryTotalBytes"])
    assert int(latest["uptimeSec"]) > 0 and latest["load15Milli"] >= 0
    assert answer["stepSec"] == 600 and [p["samples"] for p in answer["points"]] == [1]
    assert metrics(rest, host, periodSec=14 * 24 * 3600)["stepSec"] == 7200
    assert rest.agent(host.id)["metrics"] == latest

    table = clmctl(platform, "agents", "metrics", host.id).stdout
    assert "memory" in table and "GiB" in table and "FROM" in table, table
    assert json.loads(clmctl(platform, "agents", "metrics", host.id, "-o", "json").stdout)["latest"] == latest

    log = host.agent.process.text()
    assert "local policy reloaded" in log
    assert log.count("connected") == 1 and "not connected" not in log, log


def test_a_reload_of_the_policy_does_not_disturb_a_running_task(make_host, rest):
    host = make_host()
    host.slow_reload(seconds=3)
    host.start(rest)
    task_id = rest.create_task(host.id, "RENEW", {"target": "nginx"})["id"]
    wait_until("the reload to begin", host.reload_begun.exists, 30, process=host.agent.process)
    pid = host.agent.process.pid
    host.agent.change("[policy]", "[policy]\nprobe_hosts = db.example.com")
    host.agent.process.signal(signal.SIGHUP)
    wait_until("the policy to be read", lambda: "local policy reloaded" in host.agent.process.text(), process=host.agent.process)
    task = rest.wait_task(task_id)
    assert task["state"] == "SUCCEEDED" and task["attempt"] == 1, task
    assert host.agent.process.pid == pid and "not connected" not in host.agent.process.text()
