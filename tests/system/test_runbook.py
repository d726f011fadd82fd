"""The runbooks of docs/operations.md, as they stand there: backup, restore, and NATS lost with all it had."""
import http.server
import os
import shutil
import socket
import ssl
import tarfile
import threading
from signal import SIGHUP

import pytest

from clm.platform import PG_BIN, write
from clm.process import run, wait_until
from clm.runbook import commands
from clm.ports import HOST
from conftest import start_platform


@pytest.fixture(scope="module")
def platform(make_platform):
    """In the place of the shared one."""
    platform = make_platform("runbook")
    return start_platform(platform, lambda name: name == "configuration" and platform.write_config(
        "gateway", {"gateway": {"checkin_interval": "5s"}}))


@pytest.fixture(scope="module")
def site(platform):
    """The names that the runbooks speak of: systemctl, clmctl and the programs on PATH."""
    site = Site(platform)
    yield site
    site.close()


class Site:
    def __init__(self, platform):
        self.platform = platform
        self.backup = platform.own_dir("backup")
        self.programs = platform.own_dir("programs", 0o755)
        # One thread for all: what it starts ends with it.
        self.server = http.server.HTTPServer((HOST, 0), self.handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        # What systemd does on a host is done by us: one request a call, answered when it is done.
        write(self.programs / "systemctl", "#!/bin/sh\nexec curl -fsS --max-time 300 -X POST "
              f"\"http://{HOST}:{self.server.server_port}/$(echo \"$*\" | tr ' ' ',')\"\n", 0o755)

    def handler(self):
        site = self

        class Systemctl(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                verb, *units = self.path[1:].split(",")
                try:
                    for unit in units:
                        site.control(verb, unit)
                    for name in (unit.removeprefix("clm-") for unit in units if unit.startswith("clm-") and verb == "start"):
                        site.platform.wait_ready(name)  # Type=notify
                    self.send_response(204)
                except Exception as error:  # noqa: BLE001  the command fails, and says it
                    self.send_response(500, str(error).splitlines()[0][:200])
                self.end_headers()

            def log_message(self, *_):
                pass
        return Systemctl

    def control(self, verb, unit):
        name = {"nats-server": "nats", "postgresql": "postgresql"}.get(unit) or unit.removeprefix("clm-")
        if verb == "stop":
            self.platform[name].stop(60)
        elif verb == "reload":
            self.platform[name].signal(SIGHUP)
        elif name in ("nats", "postgresql"):
            {"nats": self.platform.start_nats, "postgresql": self.platform.start_postgresql}[name]()
        else:
            self.platform.start_service(name)

    def run(self, runbook, **replaced):
        """The commands as they stand, with this platform's places in the place of a host's."""
        platform = self.platform
        text = commands(runbook)
        for old, new in {"/etc/clm/pki": str(platform.pki), "-C /etc/clm ": f"-C {platform.pki.parent} ", "/var/lib/nats/jetstream": f"{platform.nats_dir}/jetstream",
                         "//BUS:4222": f"//{HOST}:{platform.ports['nats']}", **replaced}.items():
            text = text.replace(old, new)
        return run(["sh", "-euc", text], timeout=300, env={
            "PATH": f"{self.programs}:{platform.bin}:{PG_BIN}:{os.environ['PATH']}", "BACKUP": str(self.backup), "PGHOST": HOST, "PGPORT": str(platform.ports["postgresql"]),
            "PGUSER": "admin", **platform.sql_environment(), "CLMCTL_URL": platform.url, "CLMCTL_CA": str(platform.roots),
            "CLMCTL_API_KEY_FILE": str(platform.api_key_file)})

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def works(rest, host):
    task = rest.run_task(host.id, "RENEW", {"target": "nginx"}, timeout=90)
    assert task["state"] == "SUCCEEDED", task


def test_a_backup_is_made_and_restored(site, platform, rest, host):
    works(rest, host)
    site.run("backup")
    assert {path.name for path in site.backup.iterdir()} == {"roles.sql", "clm.dump", "clm-pki.tar.gz"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in site.backup.iterdir())
    with tarfile.open(site.backup / "clm-pki.tar.gz") as tar:
        assert {"pki/roots.pem", "pki/ca/root.key", "pki/bus/users.conf", "pki/registry/service.key"} <= set(tar.getnames())

    later = rest.register("after-the-backup")["agent"]["id"]
    said = site.run("restore").stdout
    assert "epoch 1" in said, said
    platform.wait_ready()
    assert rest.raw("GET", f"/api/v1/agents/{later}")[0] == 404
    rest.wait_agent(host.id, "ONLINE", timeout=120, process=host.agent.process)
    works(rest, host)
    first = rest.get("/api/v1/audit/records", action="platform.restored")["entries"][0]
    assert first["index"] == 0, first


def test_a_base_backup_starts_as_the_database_that_it_is_of(site, platform, rest, host):
    site.run("base backup")
    base = site.backup / "base"
    try:
        for name in ("registry", "bootstrap", "tasks", "postgresql"):
            platform[name].stop(60)
        shutil.rmtree(platform.postgresql_dir)
        shutil.move(base, platform.postgresql_dir)
        if platform.user:
            run(["chown", "-R", platform.user, platform.postgresql_dir])
    finally:
        platform.start_postgresql()
        for name in ("registry", "bootstrap", "tasks"):
            platform.start_service(name)
    platform.wait_ready()
    rest.wait_agent(host.id, "ONLINE", timeout=120, process=host.agent.process)
    works(rest, host)


def audited(rest, action):
    found, token = [], ""
    while True:
        page = rest.get("/api/v1/audit/records", action=action, pageSize=500, pageToken=token)
        found += [e["record"]["entityId"] for e in page["entries"]]
        token = page.get("nextPageToken", "")
        if not token:
            return found


def test_nats_lost_with_all_it_had_is_made_anew_and_nothing_is_missing(site, platform, rest, host):
    works(rest, host)
    made = rest.create_task(host.id, "VALIDATE", {"target": "nginx"})["id"]
    site.run("nats lost")
    platform.wait_ready()
    assert rest.wait_task(made, timeout=120)["state"] == "SUCCEEDED"
    rest.wait_agent(host.id, "ONLINE", timeout=120, process=host.agent.process)
    works(rest, host)

    # Everything is on the new stream, as far back as the outboxes go, and was applied once.
    tasks = {row[0] for row in platform.sql("SELECT id FROM tasks", role="tasks")}
    wait_until("the new stream to have every event", lambda: platform.sql("SELECT count(*) FROM outbox WHERE stream_seq IS NULL", role="tasks") == [["0"]], 60)

    def known():
        return audited(rest, "task.created")
    wait_until("the audit log to have them", lambda: tasks <= set(known()), 60)
    assert len(known()) == len(set(known()))
    with rest.watch(0, timeout=30, type="task.created") as watch:
        seen = {event.get("entityId") for event in watch.until(lambda event: event.get("entityId") == max(tasks))}
    assert made in seen


def bus_certificate(platform):
    """What nats-server shows: it speaks first, then TLS begins."""
    context = ssl._create_unverified_context()
    with socket.create_connection((HOST, platform.ports["nats"]), 10) as plain:
        while not plain.recv(1) == b"\n":
            pass
        with context.wrap_socket(plain, server_hostname=HOST) as tls:
            return tls.getpeercert(binary_form=True)


def test_fresh_certificates_on_a_host(site, platform, rest, host):
    before = bus_certificate(platform)
    site.run("certificates")
    wait_until("nats-server to show the fresh one", lambda: bus_certificate(platform) != before, 20)
    works(rest, host)  # on connections of before
    for name in ("registry", "bootstrap", "tasks", "gateway"):
        platform[name].stop(60)
        for kept in (platform.root / "state" / name).glob("*.pem"):
            kept.unlink()
        platform.start_service(name)
    platform.wait_ready()
    works(rest, host)
