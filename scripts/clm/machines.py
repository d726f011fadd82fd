"""Hosts of an administrator, as containers with systemd or something that passes for it: packages come from a repository made and served as
docs/operations.md says, and the agent is installed by the very lines that the console and clmctl print."""
import functools
import http.server
import os
import pty
import re
import select
import subprocess
import threading
import time

from clm.platform import TOP
from clm.process import Failed, run, wait_until
from clm.runbook import commands

CONSOLE = TOP / "services/gateway/web/src/token.tsx"
IMAGE = "localhost/clm-test-machine:0.1.0"


def console_line(name):
    """What the console shows behind a new token, for one way to run the agent."""
    found = re.search(rf'name: "{name}".*?line: "([^"]*)"', CONSOLE.read_text(), re.DOTALL)
    if not found:
        raise Failed(f"{CONSOLE} has no line for {name}")
    return found[1]


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Repository:
    """Signed, in a directory, behind a web server on the containers' network."""

    def __init__(self, podman, packages_image, directory, address):
        self.directory, home, packages = directory, directory.parent / "gnupg", directory.parent / "packages"
        for made, mode in ((directory, 0o755), (home, 0o700), (packages, 0o755)):
            made.mkdir(mode=mode)
        container = podman("create", packages_image, "none").stdout.strip()
        podman("cp", f"{container}:/.", packages)
        podman("rm", container)
        env = {"GNUPGHOME": str(home), "REPOSITORY": str(directory)}
        run(["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "archive@clm.test", "ed25519", "sign", "1d"], env=env)
        run(["sh", "-euc", commands("repository").replace("build/release/", f"{packages}/")], env=env)
        self.server = http.server.ThreadingHTTPServer((address, 0), functools.partial(Files, directory=directory))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://{address}:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Machine:
    def __init__(self, podman, name, network):
        self.podman, self.name = podman, name
        podman("run", "-d", "--name", name, "--hostname", "web.clm.test", "--network", network, "--systemd=always", IMAGE)

    def sh(self, text, env=None, check=True):
        given = [word for key, value in (env or {}).items() for word in ("--env", f"{key}={value}")]
        return self.podman("exec", *given, self.name, "bash", "-ec", text, check=check)

    def wait_booted(self):
        wait_until(f"{self.name} to have started", lambda: self.sh("systemctl is-active --quiet nginx", check=False).returncode == 0, 60, 0.3)

    def use_repository(self, repository):
        self.sh(commands("source"), {"REPOSITORY_URL": repository.url})

    def type(self, line, answers):
        return type_at_terminal(["podman", "exec", "-it", self.name, "bash", "-c", line], answers, self.podman.env)


def type_at_terminal(argv, answers, env, timeout=180):
    """Runs it at a terminal, as somebody sits there: each answer is typed when its question is on the screen."""
    screen, told, controller, terminal = "", 0, *pty.openpty()
    shell = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, env=env, start_new_session=True)
    os.close(terminal)
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if select.select([controller], [], [], 0.2)[0]:
                try:
                    part = os.read(controller, 65536)
                except OSError:
                    part = b""
                if not part:
                    break
                screen += part.decode(errors="replace")
            elif shell.poll() is not None:
                break
            if told < len(answers) and answers[told][0] in screen:
                os.write(controller, answers[told][1].encode() + b"\n")
                told += 1
        code = shell.wait(10)
    finally:
        if shell.poll() is None:
            shell.kill()
            shell.wait()
        os.close(controller)
    if code != 0 or told < len(answers):
        raise Failed(f"{' '.join(map(str, argv))[:200]}: exit {code} after {told} answers\n{screen[-4000:]}")
    return screen


QUESTION, PROMPT = "[y/N] ", "Bootstrap token (not shown): "


def install(podman, compose, rest, new_agent, packages_image, scratch):
    """new_agent(hostname) → (agent id, token, the line that clmctl prints)."""
    network = compose.prefix
    gateway = podman("network", "inspect", "--format", "{{range .Subnets}}{{.Gateway}}{{end}}", network).stdout.strip()
    repository = Repository(podman, packages_image, scratch / "repository", gateway)
    try:
        for printed_by in ("console", "clmctl"):
            machine = Machine(podman, f"{network}-{printed_by}-host", network)
            machine.wait_booted()
            machine.use_repository(repository)
            agent_id, token, line = new_agent(f"{printed_by}-host.clm.test")
            if printed_by == "console":
                machine.type(console_line("Debian"), [(QUESTION, "yes"), (PROMPT, token)])
            else:
                machine.type(line, [(QUESTION, "yes")])
            rest.wait_agent(agent_id, "ONLINE")
            task = rest.run_task(agent_id, "RENEW", {"target": "nginx"})
            if task["state"] != "SUCCEEDED":
                raise Failed(f"{machine.name}: RENEW ended as {task}")
            machine.sh("systemctl is-enabled --quiet clm-agent && systemctl restart clm-agent")
            rest.wait_agent(agent_id, "ONLINE")
        # What a host's keys are in goes with the package only when it is purged.
        machine.sh("apt-get remove -qq -y clm-agent && test -e /var/lib/clm-agent")
        machine.sh("apt-get purge -qq -y clm-agent && test ! -e /var/lib/clm-agent && test ! -e /etc/clm-agent/agent.conf")
    finally:
        repository.close()
    return "two hosts, by the lines of the console and of clmctl"


IMAGE_OF_LINES = "ghcr.io/ssl-clm/clm-agent:0.1.0"
# The names that the line has for itself are another's on this machine: each stands in it as often as it says.
END_OF_INPUT = "\x04"
LINE_POLICY = "[agent]\nstate_dir = /var/lib/clm-agent\n[policy]\noperations = validate\ndiscovery_roots = /etc/clm-agent\n"


def here(line, prefix, policy):
    """The container's line with names, a network and a policy of this test's own, and without sudo: it is run by root."""
    for old, new, times in ((" install -d /etc/clm-agent ", f" install -d {policy} ", 1), ("-v /etc/clm-agent:", f"-v {policy}:", 1), ("clm-token", f"{prefix}-token", 3),
                            ("--name clm-agent ", f"--name {prefix}-line ", 1), ("-v clm-agent:", f"-v {prefix}-line:", 1),
                            ("podman run ", f"podman run --network {prefix} ", 1), ("sudo ", "", 3)):
        if line.count(old) != times:
            raise Failed(f"the console's line for a container has not {times} of {old!r}: {line}")
        line = line.replace(old, new)
    return line


def container_line(podman, compose, rest, image, roots, scratch):
    """An agent by the very line that the console prints for a container: podman's secret, the names of the image and its directories."""
    prefix, policy = compose.prefix, scratch / "line-policy"
    policy.mkdir()
    (policy / "agent.conf").write_text(LINE_POLICY)
    (policy / "site.crt").write_text(roots)
    answer = rest.register("by-line", operations=["VALIDATE"], paths=["/etc/clm-agent/**"])
    there = podman("image", "exists", IMAGE_OF_LINES, check=False).returncode == 0
    if not there:
        podman("tag", image, IMAGE_OF_LINES)
    try:
        type_at_terminal(["bash", "-c", here(console_line("Container"), prefix, policy)], [("", f"{answer['token']}\n{END_OF_INPUT}")], podman.env)
        rest.wait_agent(answer["agent"]["id"], "ONLINE")
        podman("secret", "rm", f"{prefix}-token")
        podman("restart", "-t", "10", f"{prefix}-line")
        task = rest.run_task(answer["agent"]["id"], "VALIDATE", {"certificatePath": "/etc/clm-agent/site.crt"})
        if task["state"] != "SUCCEEDED":
            raise Failed(f"after a restart without the secret: VALIDATE ended as {task}")
        if answer["token"] in podman("container", "inspect", f"{prefix}-line").stdout:
            raise Failed("the token stands in what podman shows of the container")
        return "ONLINE, and again without its secret"
    finally:
        podman("rm", "-f", "-t", "3", "-i", f"{prefix}-line", check=False)
        podman("secret", "rm", f"{prefix}-token", check=False)
        if not there:
            podman("untag", image, IMAGE_OF_LINES, check=False)  # without a name it would take them all
