"""Two replicas of everything and a balancer before the gateways: all are restarted one after the other while agents are connected and
tasks run. Nothing is lost, nothing is done twice, nobody is called away, and nobody is told more than to wait."""
import contextlib
import http.client
import shutil
import threading
import time
import uuid

import pytest

from clm.platform import SERVICES, ini, write
from clm.ports import HOST
from clm.process import Process, wait_until
from clm.replicas import Balancer, Replica
from clm.rest import Rest, RestError
from conftest import start_platform

AGENTS = 200


class Fleet:
    """Agents as they are shipped, each with directories of its own."""

    def __init__(self, world, program, directory):
        self.gateway = f"{HOST}:{world.balancer.ports['agent']}"
        self.program, self.dir, self.agents = program, directory, {}
        directory.mkdir()
        self.certificate = shutil.copy(world.platform.roots, directory / "certificate.pem")

    def add(self, rest, name):
        answer = rest.register(name, operations=["VALIDATE"], paths=[f"{self.dir}/**"])
        home = self.dir / name
        home.mkdir()
        write(home / "agent.conf", ini({"agent": {"gateway": self.gateway, "state_dir": home / "state", "net_user": "nobody"},
                                           "policy": {"operations": "validate"}}))
        write(home / "token", answer["token"] + "\n", 0o600)
        process = Process(name, [self.program, "run", "--config", home / "agent.conf", "--token-file", home / "token"], home / "log")
        self.agents[answer["agent"]["id"]] = process.start()

    def stop(self):
        for process in self.agents.values():
            process.signal(15)
        for process in self.agents.values():
            process.stop()


class Replicated:
    """The platform, its second replicas, the balancer, and what clients of the balancer see."""

    def __init__(self, platform, scratch):
        self.platform = platform
        self.second = {name: Replica(platform, name, 2) for name in SERVICES}
        for replica in self.second.values():
            replica.start().wait_ready()
        first = {name: platform.ports[name] for name in ("agent", "operator", "gateway-admin")}
        self.balancer = Balancer(scratch / "balancer", [first, self.second["gateway"].ports])

    def rest(self):
        return Rest("localhost", self.balancer.ports["operator"], self.platform.roots, self.platform.api_key)

    def restart(self, name):
        """One after the other, each only when the other is there. A gateway gets no new connections when it is asked to stop: in
        Kubernetes the pause before SIGTERM is for that."""
        with self.left_out(name, 1):
            self.platform[name].stop(60)
            self.platform.start_service(name)
            self.platform.wait_ready(name)
        with self.left_out(name, 2):
            self.second[name].stop()
            self.second[name].start().wait_ready()

    @contextlib.contextmanager
    def left_out(self, name, number):
        if name == "gateway":
            self.balancer.leave_out(number)
        yield
        if name == "gateway":
            self.balancer.take_back(number)

    def stop(self):
        for replica in self.second.values():
            replica.stop()
        self.balancer.stop()


@pytest.fixture(scope="module")
def shipped(programs):
    program = programs.parents[1] / "release" / "bin" / "clm-agent"
    assert program.exists(), f"{program} is not there: ./dev test builds it"
    return program


@pytest.fixture(scope="module")
def world(make_platform, scratch):
    platform = make_platform("replicated")
    start_platform(platform)
    replicated = Replicated(platform, scratch / "balancer")
    replicated.balancer.start()
    yield replicated
    replicated.stop()
    platform.stop()


@pytest.fixture(scope="module")
def fleet(world, shipped, scratch):
    fleet = Fleet(world, shipped, scratch / "fleet")
    rest = world.rest()
    for i in range(AGENTS):
        fleet.add(rest, f"host{i:03}")
    wait_until(f"{AGENTS} agents to be online", lambda: rest.get("/api/v1/dashboard")["online"] == AGENTS, 180)
    yield fleet
    rest.close()
    fleet.stop()


class Watcher(threading.Thread):
    """Somebody who keeps asking; remembers every answer that is neither good nor "wait"."""

    def __init__(self, rest):
        super().__init__(daemon=True)
        self.rest, self.over, self.asked, self.bad = rest, threading.Event(), 0, []

    def run(self):
        while not self.over.is_set():
            try:
                status, headers, _ = self.rest.raw("GET", "/api/v1/agents?pageSize=1")
                self.asked += 1
                if status >= 500 and not (status == 503 and headers.get("Retry-After")):
                    self.bad.append(status)
            except (OSError, http.client.HTTPException) as error:
                self.bad.append(repr(error))
            self.over.wait(0.05)


class Work(threading.Thread):
    """Somebody who gives agents tasks, one after the other; told to wait, they send the same request again."""

    def __init__(self, rest, agents, spec):
        super().__init__(daemon=True)
        self.rest, self.agents, self.spec, self.over, self.tasks, self.failure = rest, agents, spec, threading.Event(), [], None

    def run(self):
        try:
            while not self.over.is_set():
                self.tasks.append(self.create(self.agents[len(self.tasks) % len(self.agents)]))
                self.over.wait(0.02)
        except Exception as error:  # noqa: BLE001  the test says it
            self.failure = error

    def create(self, agent_id):
        body = {"agentId": agent_id, "spec": {"kind": "VALIDATE", "validate": self.spec}}
        key, deadline = str(uuid.uuid4()), time.monotonic() + 30
        while True:
            try:
                return self.rest.post("/api/v1/tasks", body, {"Idempotency-Key": key})["id"]
            except RestError as error:
                if error.status != 503 or time.monotonic() > deadline:
                    raise
                self.over.wait(0.1)


def test_a_rolling_restart_of_everything_loses_nothing_and_calls_nobody_away(world, fleet):
    watcher = Watcher(world.rest())
    work = Work(world.rest(), list(fleet.agents), {"certificatePath": str(fleet.certificate)})
    watcher.start()
    work.start()
    for name in SERVICES:
        before = len(work.tasks)
        world.restart(name)
        wait_until(f"tasks to go on after clm-{name} was restarted", lambda: len(work.tasks) > before + 20 or work.failure, 30)
    work.over.set()
    watcher.over.set()
    work.join(60)
    watcher.join(60)
    assert work.failure is None and watcher.bad == [] and watcher.asked > 50

    platform, rest = world.platform, world.rest()
    wait_until("every task to be over", lambda: platform.sql(
        "SELECT count(*) FROM tasks WHERE finished_at IS NULL", role="tasks") == [["0"]], 120)
    assert platform.sql("SELECT count(*), count(DISTINCT id), min(attempt), max(attempt) FROM tasks", role="tasks") == [
        [str(len(work.tasks)), str(len(work.tasks)), "1", "1"]]
    wait_until("their ends to be in the audit log", lambda: len(records(rest, "task.finished")) >= len(work.tasks), 60)
    ends = [entry["record"] for entry in records(rest, "task.finished")]
    assert sorted(r["entityId"] for r in ends) == sorted(work.tasks), "each ended once"
    away = [entry["record"] for entry in records(rest, "agent.changed") if "OFFLINE" in entry["record"].get("detail", "")]
    assert away == []
    assert rest.get("/api/v1/dashboard")["online"] == AGENTS


def records(rest, action):
    """All audit records of an action, once the tree holds what was put down."""
    found, token = [], ""
    while True:
        page = rest.get("/api/v1/audit/records", action=action, pageSize=500, pageToken=token)
        found += page["entries"]
        token = page.get("nextPageToken", "")
        if not token:
            return found
