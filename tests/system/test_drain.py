"""SIGTERM drains: what was taken is finished, nothing new is taken, what waits for others is handed back, and the process leaves with 0."""
import subprocess
import threading

import pytest

from clm.platform import PG_BIN
from clm.ports import HOST
from clm.process import wait_until

# What keeps a request of each service under way: a table that somebody else has locked, and who asks for it.
UNDER_WAY = {
    "registry": ("registry.agents", "registry", "/api/v1/agents?pageSize=1"),
    "bootstrap": ("bootstrap.token", "bootstrap", "/api/v1/agents/{agent}/tokens"),
    "tasks": ("tasks.tasks", "tasks", "/api/v1/tasks?pageSize=1"),
    "gateway": ("tasks.tasks", "tasks", "/api/v1/tasks?pageSize=1"),
}


class Lock:
    """A session that has a table for itself."""

    def __init__(self, platform, table):
        self.platform, self.table = platform, table
        self.psql = subprocess.Popen(
            [PG_BIN / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", HOST, "-p", str(platform.ports["postgresql"]), "-U", "admin", "-d", "clm"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**platform.sql_environment(), "PATH": "/usr/bin:/bin"})
        self.psql.stdin.write(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n")
        self.psql.stdin.flush()
        assert self.psql.stdout.readline().strip() == "locked"

    def wait_waiter(self, role):
        wait_until(f"{role} to wait for {self.table}", lambda: self.platform.sql(
            f"SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.usename = '{role}' AND l.relation = '{self.table}'::regclass "
            "AND a.query ILIKE 'SELECT%' LIMIT 1"), 20)

    def release(self):
        self.psql.stdin.close()
        self.psql.wait(10)


class Call(threading.Thread):
    def __init__(self, platform, path):
        super().__init__(daemon=True)
        self.platform, self.path, self.answer = platform, path, None

    def run(self):
        rest = self.platform.rest()
        self.answer = rest.raw("GET", self.path)
        rest.close()


@pytest.mark.parametrize("name", UNDER_WAY)
def test_what_was_taken_is_finished(name, platform, host, rest):
    table, role, path = UNDER_WAY[name]
    call = Call(platform, path.format(agent=host.id))
    assert rest.raw("GET", call.path)[0] == 200  # the credential is known, so the next goes straight to the service
    process = platform[name]
    lock = Lock(platform, table)
    try:
        call.start()
        lock.wait_waiter(role)
        process.signal(process.stop_signal)
        wait_until("it to say that it leaves", lambda: not platform.ready(name)[0], 10)
        if name != "gateway":
            wait_until("it to take nothing more", lambda: refused(platform, call.path), 20)
        assert process.running() and call.answer is None
    finally:
        lock.release()
    try:
        call.join(15)
        assert call.answer and call.answer[0] == 200, call.answer
        assert process.wait(45) == 0
        assert process.text().rstrip().splitlines()[-1].endswith("left")
    finally:
        if process.running():
            process.kill()
        platform.start_service(name)
        platform.wait_ready()
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    assert rest.run_task(host.id, "VALIDATE", {"target": "nginx"})["state"] == "SUCCEEDED"


def refused(platform, path):
    """503, and it says when to come again. What came before the door was shut waits for the lock: it is asked again."""
    client = platform.rest(timeout=1)
    try:
        status, headers, _ = client.raw("GET", path)
        return status == 503 and headers.get("Retry-After")
    except TimeoutError:
        return False
    finally:
        client.close()


def test_a_gateway_hands_its_agents_back(platform, host, rest):
    """A held check-in is answered before the gateway leaves, so its agent knows that it may connect elsewhere; nobody counts as away."""
    gateway = platform["gateway"]
    wait_until("the check-in to be held", lambda: 'clm_gateway_checkins_held{edge="' in platform.metrics("gateway")
               and any(line.endswith((" 1", " 2", " 3")) for line in platform.metrics("gateway").splitlines() if line.startswith("clm_gateway_checkins_held{")), 30)
    assert gateway.stop(45) == 0
    platform.start_service("gateway")
    platform.wait_ready("gateway")
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    away = [e for e in rest.get("/api/v1/audit/records", action="agent.changed", agentId=host.id, pageSize=100)["entries"]
            if "OFFLINE" in e["record"].get("detail", "")]
    assert away == []
