"""./dev run: the whole system on this machine, from nothing to a renewed certificate that nginx serves."""
import argparse
import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path

from clm.host import Agent, Nginx, fingerprint
from clm.platform import TOP, Platform, private_file, write
from clm.process import Failed, run, wait_until
from clm.rest import RestError

DEFAULT_DIR = TOP / ".run"


class Stopped(BaseException):
    """Ctrl-C or SIGTERM."""


def on_stop_signal(number, _frame):
    raise Stopped(signal.Signals(number).name)


class Show:
    """One line a step: result, duration, and what is worth knowing."""

    def __init__(self):
        self.live = sys.stdout.isatty()

    def step(self, name, function):
        if self.live:
            print(f"  ....            {name}", end="", flush=True)
        started = time.monotonic()
        try:
            detail = function()
        except BaseException:
            self._line("FAILED", name, started)
            raise
        self._line("ok", name, started, detail if isinstance(detail, str) else "")

    def _line(self, word, name, started, detail=""):
        start = "\r" if self.live else ""
        print(f"{start}  {word:6} {time.monotonic() - started:6.2f} s  {name:24} {detail}".rstrip(), flush=True)

    @staticmethod
    def note(text):
        print(f"                   {text}", flush=True)


def reachable_dir(wanted):
    """.run in the checkout; below /var/tmp, with .run as a link to it, where our PostgreSQL's user cannot enter the checkout."""
    wanted = Path(wanted)
    if wanted != DEFAULT_DIR or wanted.exists() or os.geteuid() != 0:
        return wanted.resolve()
    if run(["test", "-x", TOP], user="postgres", check=False).returncode == 0:
        return wanted
    wanted.unlink(missing_ok=True)  # a link to what is no longer there
    elsewhere = Path(tempfile.mkdtemp(prefix="clm-run-", dir="/var/tmp"))
    elsewhere.chmod(0o755)
    wanted.symlink_to(elsewhere)
    return elsewhere


class Walk:
    """Steps 3 to 5: nginx, the agent, and the tasks that take nginx from its old certificate to the new one."""

    def __init__(self, platform, show):
        self.platform, self.show = platform, show
        self.nginx = Nginx(platform.root / "nginx")
        self.agent = Agent(platform, platform.root / "agent")
        self.memory = platform.root / "agent.json"
        self.rest = None
        self.agent_id = json.loads(self.memory.read_text())["id"] if self.memory.exists() else None

    def start(self):
        step = self.show.step
        step("nginx", self.start_nginx)
        self.rest = self.platform.rest()
        if self.agent_id is None:
            step("register host", self.register)
        step("agent online", self.start_agent)

    def start_nginx(self):
        self.nginx.start()
        return f"https://{self.nginx.name}:{self.nginx.port} on 127.0.0.1"

    def register(self):
        self.agent.setup(self.nginx)
        answer = self.rest.register(
            socket.gethostname(), operations=["DEPLOY", "RENEW", "VALIDATE", "DISCOVER"],
            paths=[f"{self.nginx.dir}/**"], dns_names=[self.nginx.name], labels={"purpose": "dev"})
        self.agent.enrol(answer["token"])
        self.agent_id = answer["agent"]["id"]
        write(self.memory, json.dumps({"id": self.agent_id}))
        return f"agent {self.agent_id}, bootstrap token until {answer['tokenNotAfterAt']}"

    def start_agent(self):
        self.agent.start()
        agent = self.rest.wait_agent(self.agent_id, "ONLINE", process=self.agent.process)
        if self.agent.token.exists():
            raise Failed(f"the agent is ONLINE but left its token in {self.agent.token}")
        return f"generation {agent['generation']}, identity until {agent['identityNotAfterAt']}"

    def task(self, kind, spec):
        task = self.rest.run_task(self.agent_id, kind, spec)
        if task["state"] != "SUCCEEDED":
            raise Failed(f"{kind} ended as {task['state']}: {task.get('message', '')}\n"
                         + json.dumps(task.get("result", {}), indent=1) + "\n" + self.agent.process.tail())
        return task["result"]

    def prove(self):
        before = fingerprint(self.nginx.served())
        self.show.note(f"served before  {before}")
        self.show.step("DISCOVER", lambda: self.discover(before))
        self.show.step("RENEW", lambda: self.renew(before))
        self.show.step("VALIDATE", self.validate)
        after = self.served_now()
        self.show.note(f"served after   {after}")

    def discover(self, before):
        result = self.task("DISCOVER", {"roots": [str(self.nginx.dir)]})
        found = [c for c in result["certificates"] if c["certificate"]["fingerprintSha256"] == before]
        on_disk = [c for c in found if c.get("path") == str(self.nginx.certificate)]
        on_port = [c for c in found if c.get("endpoint", "").endswith(f":{self.nginx.port}")]
        if not on_disk or not on_port:
            raise Failed(f"nginx's certificate was found on disk: {bool(on_disk)}, on its port: {bool(on_port)}")
        return f"{len(result['certificates'])} certificates; nginx's on disk and on port {self.nginx.port}"

    def served_now(self):
        """The fingerprint of what chains to the platform's root; a worker from before the reload may answer once more."""
        def look():
            try:
                return self.nginx.served(self.platform.roots)
            except ssl.SSLCertVerificationError:
                return None
        return fingerprint(wait_until("nginx to serve what chains to the platform's root", look, 10))

    def renew(self, before):
        result = self.task("RENEW", {"target": "nginx"})
        steps = ", ".join(f"{s['name']} {s.get('durationMs', 0)} ms" for s in result["steps"])
        after = self.served_now()
        if after == before or after != result["fingerprintAfterSha256"] or before != result["fingerprintBeforeSha256"]:
            raise Failed(f"nginx serves {after}, the agent says {result['fingerprintBeforeSha256']} → "
                         f"{result['fingerprintAfterSha256']}, before it was {before}")
        if not private_file(self.nginx.key):
            raise Failed(f"{self.nginx.key} may be read by others than its owner")
        return steps

    def validate(self):
        checks = self.task("VALIDATE", {"target": "nginx"})["checks"]
        bad = [c for c in checks if c["outcome"] != "PASS"]
        if bad or not checks:
            raise Failed("VALIDATE: " + "; ".join(f"{c['id']} {c['outcome']}: {c.get('reason')}" for c in bad or [{}]))
        return "all pass: " + ", ".join(c["id"] for c in checks)

    def stop(self):
        for part in (self.agent, self.nginx):
            part.stop()


def bring_up(directory, bin_dir, once):
    show = Show()
    platform = Platform(directory, bin_dir)
    lock = open(platform.root / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed(f"{platform.root} is in use by another ./dev run: stop that one, or choose another --dir") from None
    walk = None
    ended_well = False
    try:
        print(f"==> starting the platform in {platform.root}" + (f" as user {platform.user}" if platform.user else ""))
        platform.start(show.step)
        walk = Walk(platform, show)
        print("==> one host with nginx")
        walk.start()
        walk.prove()
        ended_well = True
        if not once:
            print(f"""
The system is up. Ctrl-C stops it; the next ./dev run goes on with its data; ./dev reset removes them.
  Console      {platform.create_admin_link().read_text().strip()}
               (works once, for an hour; its certificate is the platform's own. Later: {platform.url})
  REST API     {platform.url}/api/v1/agents
  OpenAPI      {platform.url}/api/v1/openapi.json
  root CA      {platform.roots}
  API key      {platform.api_key_file}  (role admin, generated for this directory)
  clmctl       CLMCTL_CONFIG={platform.clmctl_config} {platform.bin / "clmctl"} agents list
  curl         curl --cacert {platform.roots} -H "Authorization: Bearer $(cat {platform.api_key_file})" {platform.url}/api/v1/dashboard
  logs         {platform.log_dir}
  nginx        https://{walk.nginx.name}:{walk.nginx.port} (resolve it to 127.0.0.1)
""", flush=True)
            ended_well = False
            watch(platform, walk)
    except Stopped:
        ended_well = not once and walk is not None
    finally:
        print("==> stopping", flush=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            if walk:
                walk.stop()
        finally:
            platform.stop()
    return 0 if ended_well else 1


def watch(platform, walk):
    """Until a signal, or until a process that should run has ended."""
    processes = [*platform.processes.values(), walk.nginx.process, walk.agent.process]
    while True:
        for process in processes:
            if not process.running():
                raise Failed(f"{process.name} ended by itself with {process.exit_code()}\n{process.tail()}")
        time.sleep(0.5)


def reset(directory):
    directory = Path(directory)
    if not directory.exists() and not directory.is_symlink():
        print(f"{directory} is not there: nothing to reset")
        return 0
    if directory.exists() and not (directory / "ports.json").exists() and any(directory.iterdir()):
        raise Failed(f"{directory} does not look like what ./dev run makes: not removed")
    if (directory / "lock").exists():
        with open(directory / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failed(f"{directory} is in use: stop that ./dev run first") from None
    if directory.exists():
        shutil.rmtree(directory.resolve())
    if directory.is_symlink():
        directory.unlink()
    print(f"removed {directory}")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="./dev run")
    parser.add_argument("--bin", default=TOP / "build" / "release" / "bin", help=argparse.SUPPRESS)
    parser.add_argument("--dir", default=DEFAULT_DIR, help="data of this platform (default: .run in the checkout)")
    parser.add_argument("--once", action="store_true", help="show that it works, stop, exit 0 only if everything held")
    parser.add_argument("--reset", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, on_stop_signal)
    signal.signal(signal.SIGTERM, on_stop_signal)
    try:
        if args.reset:
            return reset(args.dir)
        return bring_up(reachable_dir(args.dir), args.bin, args.once)
    except (Failed, RestError) as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        return 1
    except Stopped:
        return 130


if __name__ == "__main__":
    sys.exit(main())
