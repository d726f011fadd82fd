"""The agent on its host: what it tells of it, how it takes a changed policy, and what its administrator calls."""
import json
import os
import pty
import re
import select
import signal
import socket
import termios
import time

import pytest

from clm.platform import TOP
from clm.ports import free_port
from clm.process import Process, run, wait_until
from clm.rest import RestError


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


def agent_cli(host, *arguments, **options):
    return run([host.platform.bin / "clm-agent", *arguments, "--config", host.agent.conf], check=False, timeout=120, **options)


def test_the_version_says_when_and_of_what_it_was_built_and_the_platform_knows(platform, rest, host):
    told = run([platform.bin / "clm-agent", "--version"]).stdout
    facts = rest.agent(host.id)["facts"]
    assert f"clm-agent {facts['agentVersion']}" in told
    assert facts["buildDate"] in told and facts["gitCommit"] in told, (told, facts)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts["buildDate"]) and re.fullmatch(r"[0-9a-f]{7,40}|unknown", facts["gitCommit"])
    assert {"DEPLOY", "RENEW", "VALIDATE", "DISCOVER"} == set(facts["operations"])
    assert "operations  deploy renew validate discover" in told
    assert facts["gitCommit"] in agent_cli(host, "status").stdout


def test_the_build_date_is_the_packagers(tmp_path):
    def header(name, **environment):
        run(["cmake", f"-DOUT={tmp_path / name}", "-DVERSION=9.8.7", f"-DSOURCE={TOP}", "-P", TOP / "cmake" / "Version.cmake"],
            env=environment)
        return (tmp_path / name).read_text()
    first = header("a", SOURCE_DATE_EPOCH="86400", CLM_GIT_COMMIT="0123456789ab")
    assert '"1970-01-02"' in first and '"0123456789ab"' in first and '"9.8.7"' in first
    assert first == header("b", SOURCE_DATE_EPOCH="86400", CLM_GIT_COMMIT="0123456789ab")


def type_token(argv, token):
    """Runs argv on a terminal and types the token at its prompt: (exit code, what the terminal showed, was echo off)."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(argv[0], [str(a) for a in argv])
    shown, echo_was_off, code = b"", None, None
    deadline = time.monotonic() + 60
    while code is None and time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                shown += os.read(master, 4096)
            except OSError:  # the other side is closed
                pass
        if echo_was_off is None and b"token" in shown and not termios.tcgetattr(master)[3] & termios.ECHO:
            echo_was_off = True
            os.write(master, token.encode() + b"\n")
        done, status = os.waitpid(pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
    os.close(master)
    return code, shown.decode(errors="replace"), echo_was_off


def test_enroll_asks_for_the_token_and_does_not_show_it(make_host, rest):
    host = make_host().prepare()
    token = host.register(rest)["token"]
    host.agent.token.unlink()
    code, shown, echo_was_off = type_token([str(host.platform.bin / "clm-agent"), "enroll", "--config", str(host.agent.conf)], token)
    assert code == 0 and echo_was_off, shown
    assert "Bootstrap token" in shown and token not in shown and token[10:] not in shown, shown
    host.agent.start()
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    status = agent_cli(host, "status")
    assert status.returncode == 0 and host.id in status.stdout and "running      yes" in status.stdout
    wait_until("the link to be noted", lambda: "connected" in agent_cli(host, "status").stdout)


def test_enroll_takes_the_token_from_standard_input(make_host, rest):
    host = make_host().prepare()
    token = host.register(rest)["token"]
    host.agent.token.unlink()
    done = agent_cli(host, "enroll", stdin=token + "\n")
    assert done.returncode == 0 and token not in done.stdout + done.stderr, done.stderr
    again = agent_cli(host, "enroll", stdin=token + "\n")
    assert again.returncode == 1 and "already enrolled" in again.stderr


def test_doctor_finds_nothing_on_a_host_that_works_and_says_what_is_wrong_on_one_that_does_not(make_host, rest):
    host = make_host().prepare()
    before = agent_cli(host, "doctor")
    assert before.returncode == 1 and "not enrolled" in before.stdout and "clm-agent enroll" in before.stdout, before.stdout
    host.register(rest)
    host.agent.start()
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    wait_until("the link to be noted", lambda: "connected" in agent_cli(host, "status").stdout)
    done = agent_cli(host, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("ok     policy", "ok     state", "ok     confinement", "ok     identity", "ok     gateway", "ok     clock",
                "ok     running", "ok     target", "ok     reload"):
        assert row in done.stdout, (row, done.stdout)

    host.agent.stop()
    host.nginx.key.rename(host.dir / "real.key")
    host.nginx.key.symlink_to(host.dir / "real.key")
    host.agent.change("command = ", "command = /nowhere/")
    with socket.socket() as closed:  # bound and not listening: refuses
        closed.bind(("127.0.0.1", 0))
        host.use_gateway(f"127.0.0.1:{closed.getsockname()[1]}")
        done = agent_cli(host, "doctor")
    assert done.returncode == 1, done.stdout
    for part in ("WRONG  gateway", "efused", "leads through a link", "WRONG  reload", "/nowhere/", "warn   running"):
        assert part in done.stdout, (part, done.stdout)
    host.agent.conf.chmod(0o666)
    done = agent_cli(host, "doctor")
    assert done.returncode == 1 and "WRONG  policy" in done.stdout and "safe mode" in done.stdout, done.stdout


def test_doctor_knows_a_stranger_at_the_gateways_address(host):
    port = free_port()
    stranger = Process("stranger", ["openssl", "s_server", "-www", "-tls1_3", "-accept", f"127.0.0.1:{port}", "-cert", host.nginx.certificate,
                                    "-key", host.nginx.key], host.dir / "stranger.log").start()
    try:
        wait_until("the stranger to listen", lambda: "ACCEPT" in stranger.text(), process=stranger)
        host.use_gateway(f"127.0.0.1:{port}")
        done = agent_cli(host, "doctor")
    finally:
        stranger.stop()
    assert done.returncode == 1 and "WRONG  gateway" in done.stdout and "something else answers" in done.stdout, done.stdout


def test_uninstall_says_farewell_and_leaves_what_is_served(platform, rest, host):
    served = host.nginx.served()
    key = host.nginx.key.read_bytes()
    refused = agent_cli(host, "uninstall", "--yes")
    assert refused.returncode == 1 and "running" in refused.stderr and host.agent.state.exists()
    host.agent.stop()
    waiting = rest.create_task(host.id, "VALIDATE", {"target": "nginx"})
    unsure = agent_cli(host, "uninstall", stdin="no\n")
    assert unsure.returncode == 1 and host.agent.state.exists() and rest.agent(host.id)["status"] != "DISABLED"

    done = agent_cli(host, "uninstall", "--yes")
    assert done.returncode == 0 and "The platform was told" in done.stdout, done.stdout + done.stderr
    assert not host.agent.state.exists() and host.agent.conf.exists()
    assert host.nginx.served() == served and host.nginx.key.read_bytes() == key
    agent = rest.wait_agent(host.id, "DISABLED")
    assert agent["reason"] == "farewell"
    task = rest.wait_task(waiting["id"])  # nobody is left to take it
    assert task["state"] == "CANCELLED" and "removed from its host" in task["message"], task
    wait_until("its end to be on record", lambda: any(
        entry["record"]["entityId"] == waiting["id"] and entry["record"]["outcome"] == "CANCELLED" for entry in rest.get(
            "/api/v1/audit/records", action="task.finished", agentId=host.id)["entries"]), 20)
    activity = rest.get("/api/v1/activity", agentId=host.id)["activity"]
    assert any(a["event"] == "identity.farewell" and a["actor"] == f"agent:{host.id}" for a in activity), activity

    with pytest.raises(RestError) as refusal:
        rest.post(f"/api/v1/agents/{host.id}:enable")
    assert "farewell" in str(refusal.value)
    host.agent.enrol(rest.post(f"/api/v1/agents/{host.id}/tokens")["token"]).start()
    assert rest.wait_agent(host.id, "ONLINE", process=host.agent.process)["id"] == host.id


def test_uninstall_without_the_platform_needs_force(host, rest):
    host.agent.stop()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host.use_gateway(f"127.0.0.1:{closed.getsockname()[1]}")
        done = agent_cli(host, "uninstall", "--yes", "--wait", "2")
        assert done.returncode == 1 and "nothing was removed" in done.stderr, done.stderr
        assert (host.agent.state / "agent.id").exists()
        done = agent_cli(host, "uninstall", "--yes", "--wait", "2", "--force")
    assert done.returncode == 0 and "disable or delete it there" in done.stderr, done.stderr
    assert not host.agent.state.exists()
