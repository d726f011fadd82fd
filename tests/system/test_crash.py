"""The agent is killed at any instant of a renewal: before and after system calls that leave a trace of it, of exec and of the task's
process. nginx goes on serving a certificate with its key; the next start ends the task, once; and no key stays anywhere but in its file.

CLM_CRASH_EVERY=1 tries every instant; without it one of EVERY is tried, each time beginning at another."""
import os
import random

import pytest

from clm.host import fingerprint
from clm.platform import private_file
from clm.process import Process, run, wait_until
from conftest import Host
from support.keys import cores, needles_of, places_of_host, places_of_platform

EVERY = int(os.environ.get("CLM_CRASH_EVERY", "9"))
CUT = 42


@pytest.fixture(scope="module")
def platform(overheard):
    return overheard


class Cut:
    """A host whose agent is started with somebody who kills it at an instant."""

    def __init__(self, platform, programs, directory):
        self.platform, self.rest = platform, platform.rest()
        self.host = Host(platform, directory, "cut")
        self.needles, self.tried = {}, 0
        agent = self.host.agent
        self.report = directory / "instants"
        self.prefixes = [agent.state / "journal", agent.state / "backup", agent.state / "intended", self.host.nginx.dir]
        self.cutter = programs.parent / "unit" / "cutter"

    def start(self):
        self.host.start(self.rest)
        self.host.agent.stop()
        return self

    def run_until(self, instant):
        """A renewal until that instant. True if the agent was killed then; the task's id."""
        agent = self.host.agent
        # Or it would call this a crash loop, which it is.
        (agent.state / "starts").unlink(missing_ok=True)
        task_id = self.rest.create_task(self.host.id, "RENEW", {"target": "nginx"})["id"]
        argv = [self.cutter, instant, self.report, *self.prefixes, "--", *agent.process.argv[:4]]
        process = Process("cutter", argv, self.platform.log_dir / "cutter.log",
                          env={"ASAN_OPTIONS": "detect_leaks=0"}).start()  # which cannot be had beside another tracer

        def over():
            return process.exit_code() is not None or self.rest.task(task_id)["state"] not in ("READY", "LEASED", "RUNNING")
        wait_until("the agent to be killed, or the task to end", over, 60)
        if process.exit_code() is None:
            process.stop()
        return process.exit_code() == CUT, task_id

    def last_instant(self):
        lines = self.report.read_text().splitlines()
        return lines[-1] if lines else ""

    def keep_keys(self):
        """Whatever key there is now must be nowhere else, now and later."""
        state, nginx = self.host.agent.state, self.host.nginx
        for path in [nginx.key, *state.glob("backup/*"), *nginx.dir.glob(".clm-*")]:
            if path.is_file() and "PRIVATE KEY-----" in path.read_text(errors="replace"):
                text = path.read_text()
                if "-----END" in text:
                    self.needles |= {needle: path.name for needle in needles_of(path)}

    def stop(self):
        self.host.stop()
        self.rest.close()


@pytest.fixture(scope="module")
def cut(platform, programs, scratch):
    cut = Cut(platform, programs, scratch / "cut")
    try:
        yield cut.start()
    finally:
        cut.stop()


def pair_matches(nginx):
    public = run(["openssl", "pkey", "-in", nginx.key, "-pubout"]).stdout
    return public == run(["openssl", "x509", "-in", nginx.certificate, "-noout", "-pubkey"]).stdout


def between_two_files(instant):
    """Two files cannot be put in place in one step: docs/local-policy.md says so."""
    return "renameat2" in instant


def leftovers(host):
    state = host.agent.state
    return [path for pattern, top in ((".clm-*", host.nginx.dir), ("*-made.key", state), ("*.part", state), ("keytool-*", state))
            for path in top.rglob(pattern)]


def check_ended(cut, task_id, before):
    """By the next start: the new certificate is served, the task ended once, nothing is left."""
    host = cut.host
    host.agent.start()
    task = cut.rest.wait_task(task_id, timeout=60)
    host.agent.stop()
    where = cut.last_instant()
    assert task["state"] == "SUCCEEDED" and task["attempt"] == 1, (where, task)
    after = task["result"]["fingerprintAfterSha256"]
    assert after != before and pair_matches(host.nginx), where
    wait_until(f"{after} to be served", lambda: fingerprint(host.nginx.served(cut.platform.roots)) == after, 10)
    assert cut.platform.sql(f"SELECT count(*) FROM bootstrap.certificate WHERE task_id = '{task_id}'") == [["1"]], where
    assert cut.platform.sql(f"SELECT count(*) FROM tasks.receipts WHERE task_id = '{task_id}'") == [["1"]], where
    assert leftovers(host) == [], where


def test_a_renewal_cut_off_anywhere_ends_once_with_the_new_certificate(cut):
    instant, nginx = random.randint(1, EVERY), cut.host.nginx
    while True:
        before = fingerprint(nginx.served())
        killed, task_id = cut.run_until(instant)
        cut.keep_keys()
        # Whatever happened: what is served has its key, and what is on disk fits for a server that is started now.
        assert fingerprint(nginx.served())
        assert pair_matches(nginx) or between_two_files(cut.last_instant()), cut.last_instant()
        check_ended(cut, task_id, before)
        cut.keep_keys()
        if not killed:
            break
        cut.tried += 1
        instant += EVERY
    print(f"{cut.tried} instants of {instant} tried")
    assert instant > 100 and cut.tried >= instant // EVERY - 1


def test_no_key_is_anywhere_but_in_its_file(cut):
    """Of all the keys that those renewals made, installed, replaced and backed up."""
    host, state = cut.host, cut.host.agent.state
    cut.keep_keys()
    assert len(cut.needles) > 20
    backups = list(state.glob("backup/*.bak"))
    assert backups and all(private_file(path) for path in backups)
    assert oct((state / "backup").stat().st_mode & 0o777) == "0o700"
    private = {host.nginx.key, *backups}
    for place, content in [*places_of_host(host, private), *places_of_platform(cut.platform)]:
        for needle, path in cut.needles.items():
            assert needle not in content, f"{path} in {place}"
    assert cores(host.dir) == []
