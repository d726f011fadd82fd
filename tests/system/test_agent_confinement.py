"""What the agent's processes may and may not: as the kernel says it."""
import os
import pwd
import shutil
import signal
from pathlib import Path

from clm.platform import ini, write
from clm.process import Process, run, wait_until

def status(pid):
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def limits(pid):
    """{name: (soft, hard)}"""
    rows = {}
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]:
        rows[line[:26].strip()] = tuple(line[26:].split()[:2])
    return rows


def children(pid):
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def net_of(host):
    """The pid of the net process."""
    return wait_until("net to run", lambda: next((pid for pid in children(exec_of(host)) if status(pid)["Name"] == "clm-agent-net"), None))


def exec_of(host):
    """Process starts through setpriv, which becomes the program: one pid."""
    return host.agent.process.pid


def test_net_has_its_own_user_no_privileges_a_filter_and_locked_keys(host):
    net = status(net_of(host))
    nobody = pwd.getpwnam("nobody")
    assert net["Uid"].split() == [str(nobody.pw_uid)] * 4 and net["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert net["Groups"].strip() == ""
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(net[capabilities], 16) == 0, capabilities
    assert net["NoNewPrivs"] == "1" and net["Seccomp"] == "2"
    assert int(net["VmLck"].split()[0]) > 0


def test_exec_keeps_its_keys_locked_and_neither_process_leaves_a_core(host, tmp_path):
    agent, net = exec_of(host), net_of(host)
    assert int(status(agent)["VmLck"].split()[0]) > 0
    for pid in (agent, net):
        assert limits(pid)["Max core file size"] == ("0", "0")
        # A process that must not be dumped belongs to root in /proc, whoever runs it.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
    before = {path for path in (host.agent.state / "net").rglob("*")}
    os.kill(net, signal.SIGABRT)
    wait_until("net to be started again", lambda: net_of(host) != net)
    left = {path for path in (host.agent.state / "net").rglob("*")} - before
    assert not [path for path in left if "core" in path.name], left
    assert not list(Path.cwd().glob("core*"))


def test_the_users_of_net_and_the_parsers_cannot_read_keys(host):
    for path in (host.nginx.key, *host.agent.state.glob("task-*.key"), host.agent.conf.parent / "state" / "agent.id"):
        assert path.exists()
        done = run(["cat", path], user="nobody", check=False)
        assert done.returncode != 0 and "denied" in done.stderr, (path, done.stdout[:20])
    memory = run(["cat", f"/proc/{exec_of(host)}/mem"], user="nobody", check=False)
    assert memory.returncode != 0 and "denied" in memory.stderr
    own = run(["cat", f"/proc/{net_of(host)}/mem"], user="nobody", check=False)
    assert own.returncode != 0 and "denied" in own.stderr, "another process of net's user can read net's memory"


def test_keys_on_disk_are_their_owners_alone(host):
    keys = [*host.agent.state.rglob("*.key"), host.nginx.key]
    assert len(keys) >= 3
    for path in keys:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_task_runs_in_a_child_with_limits(make_host, rest):
    host = make_host()
    host.slow_reload(seconds=3)
    host.start(rest)
    net = net_of(host)
    task_id = rest.create_task(host.id, "RENEW", {"target": "nginx"})["id"]
    wait_until("the reload to begin", host.reload_begun.exists, 30, process=host.agent.process)
    runners = [pid for pid in children(exec_of(host)) if pid != net]
    assert len(runners) == 1
    limited = limits(runners[0])
    assert limited["Max cpu time"][0] == "900" and limited["Max file size"][0] == str(256 * 1024 * 1024)
    assert limited["Max core file size"] == ("0", "0")
    assert rest.wait_task(task_id)["state"] == "SUCCEEDED"


# ---- without root, and in a container -----------------------------------------------------------------------------

class PlainAgent:
    """clm-agent as an unprivileged user, with a target of that user's and one of root's."""

    def __init__(self, platform, directory, name, prefix=()):
        self.dir, self.state = directory, directory / "state"
        for path in (directory, self.state, directory / "own", directory / "roots"):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)
        self.conf = directory / "agent.conf"
        write(self.conf, ini({
            "agent": {"state_dir": self.state},
            "policy": {"operations": "renew validate discover", "dns_names": f"{name}.clm.test", "discovery_roots": directory},
            "target own": {"certificate": directory / "own" / "site.crt", "key": directory / "own" / "site.key"},
            "target roots": {"certificate": directory / "roots" / "site.crt", "key": directory / "roots" / "site.key"}}))
        for path in (self.state, directory / "own"):
            shutil.chown(path, "postgres", "postgres")
        self.state.chmod(0o700)
        self.token = directory / "token"
        self.name = name
        self.process = Process(name, [*prefix, platform.bin / "clm-agent", "run", "--config", self.conf, "--token-file", self.token],
                               platform.log_dir / f"{name}.log", user=None if prefix else "postgres")

    def start(self, rest):
        answer = rest.register(self.name, operations=["RENEW", "VALIDATE", "DISCOVER"], paths=[f"{self.dir}/**"],
                               dns_names=[f"{self.name}.clm.test"])
        write(self.token, answer["token"] + "\n", 0o600, "postgres")
        self.process.start()
        rest.wait_agent(answer["agent"]["id"], "ONLINE", process=self.process)
        return answer["agent"]["id"]


def check_plain(agent, rest, agent_id):
    done = rest.run_task(agent_id, "RENEW", {"target": "own", "dnsNames": [f"{agent.name}.clm.test"]})
    assert done["state"] == "INSTALLED_UNVERIFIED", done
    key = agent.dir / "own" / "site.key"
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_uid == pwd.getpwnam("postgres").pw_uid
    refused = rest.run_task(agent_id, "RENEW", {"target": "roots", "dnsNames": [f"{agent.name}.clm.test"]})
    assert refused["state"] == "FAILED" and "ermission denied" in refused["message"], refused
    assert list((agent.dir / "roots").iterdir()) == []
    assert rest.run_task(agent_id, "DISCOVER")["state"] == "SUCCEEDED"


def test_without_root_it_reaches_what_its_user_may_write(platform, rest, scratch):
    agent = PlainAgent(platform, scratch / "plain", "plain")
    try:
        agent_id = agent.start(rest)
        net = next(pid for pid in children(agent.process.pid) if status(pid)["Name"] == "clm-agent-net")
        assert status(net)["NoNewPrivs"] == "1" and status(net)["Seccomp"] == "2"
        assert status(net)["Uid"].split()[0] == str(pwd.getpwnam("postgres").pw_uid)
        check_plain(agent, rest, agent_id)
    finally:
        agent.process.kill()


def test_as_in_a_container_without_root_privileges_and_on_a_read_only_root(platform, rest, scratch):
    directory = scratch / "boxed"
    user = pwd.getpwnam("postgres")
    script = (f"mount --bind {directory} {directory} && mount -o remount,bind,ro / && "
              f"exec setpriv --reuid={user.pw_uid} --regid={user.pw_gid} --clear-groups --no-new-privs --inh-caps=-all "
              f"--bounding-set=-all -- \"$@\"")
    agent = PlainAgent(platform, directory, "boxed", prefix=["unshare", "--mount", "sh", "-c", script, "sh"])
    try:
        agent_id = agent.start(rest)
        mounts = Path(f"/proc/{agent.process.pid}/mounts").read_text().splitlines()
        assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts), mounts
        assert int(status(agent.process.pid)["CapBnd"], 16) == 0 and status(agent.process.pid)["NoNewPrivs"] == "1"
        check_plain(agent, rest, agent_id)
    finally:
        agent.process.kill()
