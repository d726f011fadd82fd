"""Real processes: PostgreSQL, nats-server, the four services, agents, nginx. One platform for the whole run, hosts of their own
for each test that changes them. What failed prints the logs."""
import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "scripts"))
sys.path.insert(0, str(Path(__file__).parent))

from clm.host import Agent, Nginx  # noqa: E402
from clm.platform import Platform, write  # noqa: E402
from support.bus import Spy, add_spy  # noqa: E402

BALANCER = "127.0.0.99"
CRL_URL = "http://crl.clm.test/crl"
ALL_OPERATIONS = ("DEPLOY", "RENEW", "VALIDATE", "DISCOVER")


@pytest.fixture(scope="session")
def programs():
    directory = Path(os.environ.get("CLM_BIN", TOP / "build" / "test" / "bin"))
    assert (directory / "clm-gateway").exists(), f"{directory} has no programs: ./dev test builds them"
    return directory


@pytest.fixture(scope="session")
def scratch():
    """Below /tmp, where the unprivileged user of PostgreSQL and the services may enter."""
    directory = Path(tempfile.mkdtemp(prefix="clm-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def make_platform(programs, scratch):
    """Builds further platforms; all are stopped at the end."""
    made = []

    def make(name):
        platform = Platform(scratch / name, programs)
        made.append(platform)
        return platform
    yield make
    failures = []
    for platform in made:
        try:
            platform.stop()
        except Exception as error:  # noqa: BLE001  every platform is stopped, whatever the others do
            failures.append(str(error))
    assert not failures, "\n".join(failures)


def start_platform(platform, between=lambda name: None):
    """Calls `between` with the name of each step when it is done."""
    def progress(name, function):
        function()
        if name == "configuration":  # all our hosts are one source: what tests do wrong on purpose is not to hold up the others
            platform.write_config("bootstrap", {"bootstrap": {"token_failures_per_min": 100000, "crl_url": CRL_URL}})
        between(name)
    return platform.start(progress)


@pytest.fixture(scope="session")
def platform(make_platform):
    """Connections from BALANCER begin with a PROXY header; all others are what they are."""
    platform = make_platform("platform")
    return start_platform(platform, lambda name: name == "configuration" and platform.write_config(
        "gateway", {"gateway": {"proxy_protocol_from": BALANCER}}))


@pytest.fixture(scope="session")
def overheard(make_platform):
    """A platform with somebody who listens to every message on its bus, from the first one on."""
    platform = make_platform("overheard")

    def between(name):
        if name == "certificate authorities":
            add_spy(platform)
        if name == "nats-server":
            platform.spy = Spy(platform).start()
    yield start_platform(platform, between)
    platform.spy.stop()
    platform.stop()


@pytest.fixture
def rest(platform):
    client = platform.rest()
    yield client
    client.close()


@pytest.fixture(scope="module")
def admin(platform):
    """One for a whole module, where fixtures of that scope need it."""
    client = platform.rest()
    yield client
    client.close()


class Host:
    """nginx and an agent that may renew its certificate."""

    def __init__(self, platform, directory, name):
        self.platform, self.name, self.dir = platform, name, directory
        self.nginx = Nginx(directory / "nginx", f"{name}.clm.test")
        self.agent = Agent(platform, directory / "agent", f"agent-{name}")
        self.reload_begun = directory / "reload-begun"
        self.slow_sec = 0
        self.id = None

    def slow_reload(self, seconds):
        """Before start: its reload takes so long, and says when it begins."""
        self.slow_sec = seconds

    def prepare(self):
        """nginx serves and the local policy is written."""
        self.nginx.start()
        self.agent.setup(self.nginx)
        if self.slow_sec:
            script = self.dir / "slow-reload"
            write(script, f"#!/bin/sh\ntouch {self.reload_begun}\nsleep {self.slow_sec}\nexec \"$@\"\n", 0o755)
            self.agent.change("command = ", f"command = {script} ")
        return self

    def use_gateway(self, address):
        """Another gateway than the one that the token names."""
        kept = [line for line in self.agent.conf.read_text().splitlines() if not line.startswith("gateway = ")]
        write(self.agent.conf, "\n".join(kept) + "\n")
        self.agent.change("[agent]", f"[agent]\ngateway = {address}")

    def register(self, rest, **more):
        answer = rest.register(self.name, operations=ALL_OPERATIONS, paths=[f"{self.dir}/**"],
                               dns_names=[self.nginx.name], **more)
        self.id = answer["agent"]["id"]
        self.agent.enrol(answer["token"])
        return answer

    def start(self, rest):
        self.prepare()
        self.register(rest)
        self.agent.start()
        rest.wait_agent(self.id, "ONLINE", process=self.agent.process)
        return self

    def stop(self):
        self.agent.process.kill()
        self.nginx.process.kill()


@pytest.fixture
def make_host(platform, scratch):
    made = []

    def make(name=None):
        name = name or f"h{uuid.uuid4().hex[:8]}"
        host = Host(platform, scratch / name, name)
        made.append(host)
        return host
    yield make
    for host in made:
        host.stop()


@pytest.fixture
def host(make_host, rest):
    """A host of the test's own, ONLINE."""
    return make_host().start(rest)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for platform in (value for value in item.funcargs.values() if isinstance(value, Platform)):
            report.sections.append(("platform logs", platform.logs()))
