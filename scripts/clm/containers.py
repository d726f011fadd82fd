"""./dev test containers: builds the images, starts deploy/compose.yaml's services on a podman network, registers an agent's container and
renews the certificate that an nginx container serves. Everything is removed afterwards; no registry is asked for anything.

The images that the Dockerfile builds upon come from the distribution: debian:bookworm-slim is made with mmdebstrap, PostgreSQL and NATS
are stand-ins built of packages under the names that the shipped files use. What was made once is used again: the base and the packages'
layers stay in podman's store, objects in build/containers (ccache).
"""
import argparse
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from clm import machines
from clm.platform import TOP
from clm.process import Failed, wait_until
from clm.rest import Rest

DEPLOY = TOP / "deploy"
BASE = "docker.io/library/debian:bookworm-slim"
OURS = ("registry", "bootstrap", "tasks", "gateway", "agent", "clmctl")
STAND_INS = {"postgres": "docker.io/library/postgres:15-bookworm", "nats": "docker.io/library/nats:2.10.29-alpine",
             "nginx": "localhost/clm-test-nginx:0.1.0", "machine": machines.IMAGE}
PACKAGES = "localhost/clm-packages:0.1.0"
VERSION = "0.1.0"
PATIENCE_SEC = 240  # the containers' resolver now and then leaves a question unanswered, which costs a service 5 s each time
IMAGE_MAX_MIB = 200
CACHE = TOP / "build" / "containers"
# What the published slim image leaves out, too.
BASE_OPTIONS = ["--variant=minbase", "--include=ca-certificates", *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("man", "info", "locale", "doc", "lintian")),
                "--dpkgopt=path-include=/usr/share/doc/*/copyright"]
# Works as well where cgroups are hybrid and limits cannot be raised.
CONTAINERS_CONF = """\
[containers]
default_ulimits=["nofile=16384:16384","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
[network]
network_backend="netavark"
"""
POLICY = """\
[agent]
state_dir = /var/lib/clm-agent
[policy]
operations = renew validate discover
discovery_roots = /tls
[target nginx]
certificate = /tls/site.crt
key = /tls/site.key
reload = nginx
endpoint = 127.0.0.1:443
server_name = www.clm.test
dns_names = www.clm.test
[reload nginx]
command = /bin/sh -c "kill -HUP 1"
"""


class Podman:
    def __init__(self, scratch):
        conf = scratch / "containers.conf"
        conf.write_text(CONTAINERS_CONF)
        self.env = {**os.environ, "CONTAINERS_CONF": str(conf)}

    def __call__(self, *argv, check=True, stdin=None, timeout=600):
        done = subprocess.run(["podman", *map(str, argv)], input=stdin, text=True, capture_output=True, env=self.env,
                              timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise Failed(f"podman {' '.join(map(str, argv[:6]))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done

    def label(self, image, name):
        """A label of an image; None if there is no such image."""
        if self("image", "exists", image, check=False).returncode != 0:
            return None
        return (json.loads(self("image", "inspect", image).stdout)[0]["Config"].get("Labels") or {}).get(name, "")

    def must_work(self, image):
        """A machine that cannot run containers fails the test; it is not left out."""
        tried = self("run", "--rm", "--network=none", image, "/bin/true", check=False)
        if tried.returncode != 0:
            raise Failed("podman cannot run a container on this machine, which ./dev test containers needs. It wants root, cgroups that podman may "
                         "write to (/sys/fs/cgroup) and mount and network namespaces: a virtual machine has them; a container needs to be privileged. "
                         f"What podman said:\n{tried.stderr[-2000:]}")


PULSE_SEC = 30


def step(name, function):
    """One line when it is done; one now and then while it takes long, so that a slow machine is not taken for one that hangs."""
    started, over = time.monotonic(), threading.Event()

    def pulse():
        while not over.wait(PULSE_SEC):
            print(f"  …      {time.monotonic() - started:6.0f} s  {name}", flush=True)
    watcher = threading.Thread(target=pulse, daemon=True)
    watcher.start()
    try:
        detail = function()
    finally:
        over.set()
        watcher.join()
    print(f"  ok     {time.monotonic() - started:6.2f} s  {name:24} {detail or ''}".rstrip(), flush=True)
    return detail


def make_base(podman, scratch):
    made_with = hashlib.sha256(" ".join(BASE_OPTIONS).encode()).hexdigest()[:16]
    if podman.label(BASE, "clm.base") == made_with:
        return "there already"
    tar = scratch / "base.tar"
    made = subprocess.run(["mmdebstrap", "--quiet", *BASE_OPTIONS, "bookworm", tar], text=True, capture_output=True, check=False)
    if made.returncode != 0:
        raise Failed("mmdebstrap cannot make a base system on this machine, which ./dev test containers needs: it wants root, Debian's archive, and to "
                     f"mount file systems. What it said:\n{made.stderr[-3000:]}")
    podman("import", "--change", f"LABEL clm.base={made_with}", tar, BASE)
    tar.unlink()
    return "made with mmdebstrap"


# The machine's own trust goes with the build: its way to npm's registry may lead through a proxy that ends TLS.
TRUST = "/etc/ssl/certs/ca-certificates.crt"


def build(podman, file, target, name, commit=None):
    given = []
    if commit:
        cache = CACHE / "ccache"
        cache.mkdir(parents=True, exist_ok=True)
        given = ["--volume", f"{cache}:/root/.cache/ccache", "--build-arg", f"COMMIT={commit}"]
        if Path(TRUST).exists():
            given += ["--volume", f"{TRUST}:/etc/machine-ca.pem:ro", "--build-arg", "NODE_EXTRA_CA_CERTS=/etc/machine-ca.pem"]
    podman("build", "--quiet", "--format=docker", "--pull=never", "--layers", "--network=host", *given, "--target", target, "-t", name, "-f", file, TOP,
           timeout=1800)


def tag_of(target):
    return f"localhost/{target if target == 'clmctl' else 'clm-' + target}:{VERSION}"


def inspect_image(podman, name):
    """What every image of ours promises."""
    image = json.loads(podman("image", "inspect", name).stdout)[0]
    config = image["Config"]
    labels = config.get("Labels") or {}
    for label in ("title", "version", "source", "revision", "description"):
        if not labels.get(f"org.opencontainers.image.{label}"):
            raise Failed(f"{name}: no label {label}")
    if "clm-agent" not in name and config.get("User") in (None, "", "0", "root"):
        raise Failed(f"{name} runs as root")
    if "clmctl" not in name and not image.get("HealthCheck", image.get("Healthcheck", config.get("Healthcheck"))):
        raise Failed(f"{name}: no health check")
    if labels["org.opencontainers.image.version"] != VERSION:
        raise Failed(f"{name} is labelled {labels['org.opencontainers.image.version']}")
    # It runs with nothing but itself: nothing to write to, no capability, no network.
    argument = "version" if name in (tag_of("agent"), tag_of("clmctl")) else "--version"
    said = podman("run", "--rm", "--network=none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges",
                  name, argument).stdout
    if VERSION not in said:
        raise Failed(f"{name} {argument}: {said}")
    mib = image["Size"] / 2**20
    if mib > IMAGE_MAX_MIB:
        raise Failed(f"{name} has {mib:.0f} MiB, more than {IMAGE_MAX_MIB}")
    base = json.loads(podman("image", "inspect", BASE).stdout)[0]["Size"] / 2**20
    return f"{mib:.0f} MiB, {mib - base:.0f} of them ours and its libraries; user {config.get('User') or 'root'}"


class Compose:
    """As much of compose as deploy/compose.yaml uses, on plain podman."""

    def __init__(self, podman, variables):
        self.podman, self.variables, self.prefix = podman, variables, f"clm-test-{uuid.uuid4().hex[:6]}"
        self.file = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        self.services = self.file["services"]
        self.started = []
        podman("network", "create", self.prefix)
        for volume in self.file["volumes"]:
            podman("volume", "create", self.volume(volume))

    def volume(self, name):
        return f"{self.prefix}-{name}"

    def container(self, service):
        return f"{self.prefix}-{service}"

    def _value(self, text):
        known = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: self.variables.get(m[1], m[2]), str(text))
        return known.replace("$$", "$")

    def _mount(self, text):
        source, rest = text.split(":", 1)
        return f"{(DEPLOY / source).resolve() if source.startswith('.') else self.volume(source)}:{rest}"

    def arguments(self, name, command=None):
        service = self.services[name]
        argv = ["--name", self.container(name), "--network", self.prefix, "--network-alias", name]
        for key, value in (service.get("environment") or {}).items():
            argv += ["--env", f"{key}={self._value(value)}"]
        for mount in service.get("volumes", ()):
            argv += ["--volume", self._mount(mount)]
        for path in service.get("tmpfs", ()):
            argv += ["--tmpfs", path]
        if service.get("read_only"):
            argv += ["--read-only", "--read-only-tmpfs=false"]
        for capability in service.get("cap_drop", ()):
            argv += ["--cap-drop", capability]
        for option in service.get("security_opt", ()):
            argv += ["--security-opt", option.replace(":true", "")]
        if "user" in service:
            argv += ["--user", service["user"]]
        check = service.get("healthcheck", {}).get("test")
        if check:
            argv += ["--health-cmd", " ".join(check[1:]), "--health-interval", "disable"]
        entrypoint = service.get("entrypoint")
        if entrypoint:
            argv += ["--entrypoint", json.dumps(entrypoint)]
        return [*argv, service["image"], *map(self._value, command or service.get("command", ()))]

    def healthy(self, name):
        return self.podman("healthcheck", "run", self.container(name), check=False).returncode == 0

    def one_shot(self, name):
        return any((other.get("depends_on") or {}).get(name, {}).get("condition") == "service_completed_successfully"
                   for other in self.services.values()) or not self.services[name].get("restart")

    def up(self, name):
        for needed, how in (self.services[name].get("depends_on") or {}).items():
            self.up(needed)
            if how["condition"] == "service_healthy":
                wait_until(f"{needed} to be healthy", lambda needed=needed: self.healthy(needed), PATIENCE_SEC, 0.3)
        if name in self.started:
            return
        self.started.append(name)
        self.podman("run", *(["--rm"] if self.one_shot(name) else ["-d"]), *self.arguments(name))

    def run_again(self, name, *command):
        """A one-shot service once more, with another command: compose run --rm --no-deps NAME COMMAND."""
        return self.podman("run", "--rm", *self.arguments(name, command)).stdout

    def address(self, service):
        networks = json.loads(self.podman("container", "inspect", self.container(service)).stdout)[0]["NetworkSettings"]["Networks"]
        return networks[self.prefix]["IPAddress"]

    def logs(self):
        texts = []
        names = self.podman("ps", "-a", "--filter", f"name={self.prefix}", "--format", "{{.Names}}").stdout.split()
        for name in names:
            done = self.podman("logs", "--tail", "30", name, check=False)
            texts.append(f"=== {name}\n{done.stdout}{done.stderr}")
        return "\n".join(texts)

    def down(self):
        names = self.podman("ps", "-aq", "--filter", f"name={self.prefix}", check=False).stdout.split()
        # A container that others share a namespace with goes last.
        for _ in range(2):
            for name in names:
                self.podman("rm", "-f", "-t", "3", name, check=False)
        volumes = self.podman("volume", "ls", "-q", "--filter", f"name={self.prefix}", check=False).stdout.split()
        if volumes:
            self.podman("volume", "rm", "-f", *volumes, check=False)
        self.podman("network", "rm", "-f", self.prefix, check=False)


class RestThere(Rest):
    """The operator listener of a container, under the name that its certificate carries."""

    def __init__(self, address, name, roots, key):
        super().__init__(name, 8080, roots, key)
        self._connection.connect = lambda: self._connect(address, name)

    def _connect(self, address, name):
        import socket
        plain = socket.create_connection((address, 8080), 30)
        self._connection.sock = self._connection._context.wrap_socket(plain, server_hostname=name)


def served(address):
    pem = ssl.get_server_certificate((address, 443))
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def volume_files(podman, compose, name):
    return Path(podman("volume", "inspect", "--format", "{{.Mountpoint}}", compose.volume(name)).stdout.strip())


def admin_files(podman, compose):
    return volume_files(podman, compose, "admin")


def operator(podman, compose):
    admin = admin_files(podman, compose)
    return RestThere(compose.address("clm-gateway"), compose.variables["CLM_GATEWAY_NAME"], admin / "roots.pem", (admin / "api-key").read_text().strip())


def clmctl(podman, compose, *arguments):
    gateway = compose.variables["CLM_GATEWAY_NAME"]
    return podman("run", "--rm", "--network", compose.prefix, "--user", "10001", "--read-only", "--cap-drop=ALL", "--volume",
                  f"{compose.volume('admin')}:/admin:ro", "--env", f"CLMCTL_URL=https://{gateway}:8080", "--env", "CLMCTL_CA=/admin/roots.pem", "--env",
                  "CLMCTL_API_KEY_FILE=/admin/api-key", tag_of("clmctl"), *arguments).stdout


def register(podman, compose, rest, hostname):
    """(agent id, token, the line that clmctl prints)"""
    line = clmctl(podman, compose, "agents", "register", hostname, "--allow", "renew,validate,discover", "--path", "/etc/nginx/**",
                  "--dns", "www.clm.test").strip()
    token = re.search("'([^']+)'", line)[1]
    agent = next(a for a in rest.get("/api/v1/agents", pageSize=500)["agents"] if a["hostname"] == hostname)
    return agent["id"], token, line


def first_administrator(compose, admin):
    """The link that the first start made leads to an administrator with a password of their own, once."""
    gateway, roots = compose.variables["CLM_GATEWAY_NAME"], admin / "roots.pem"
    address, secret = (admin / "link").read_text().strip().split("#")
    if address != f"https://{gateway}:8080/first-admin":
        raise Failed(f"the console's link is {address}")
    nobody = RestThere(compose.address("clm-gateway"), gateway, roots, None)
    body = json.dumps({"link": secret, "name": "first", "password": f"a long password {uuid.uuid4().hex}"}).encode()
    answers = [nobody.raw("POST", "/api/v1/links:redeem", body, {"Content-Type": "application/json", "X-Clm-Csrf": "1"})[0] for _ in range(2)]
    nobody.close()
    if answers != [201, 401]:
        raise Failed(f"the console's link, used twice: {answers}")


def walk(podman, compose, rest, scratch):
    tls, policy, state = (scratch / name for name in ("tls", "policy", "state"))
    for directory in (tls, policy, state):
        directory.mkdir(mode=0o755)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-keyout",
                    tls / "site.key", "-out", tls / "site.crt", "-subj", "/CN=www.clm.test", "-addext",
                    "subjectAltName=DNS:www.clm.test"], check=True, capture_output=True)
    (tls / "site.key").chmod(0o600)
    (policy / "agent.conf").write_text(POLICY)
    nginx, agent = f"{compose.prefix}-nginx", f"{compose.prefix}-agent"
    podman("run", "-d", "--name", nginx, "--network", compose.prefix, "--volume", f"{tls}:/tls", STAND_INS["nginx"])
    address = json.loads(podman("container", "inspect", nginx).stdout)[0]["NetworkSettings"]["Networks"][compose.prefix]["IPAddress"]

    def serves():
        try:
            return served(address)
        except OSError:
            return None
    before = wait_until("nginx to serve", serves, 30)

    answer = rest.register("web", operations=["RENEW", "VALIDATE", "DISCOVER"], paths=["/tls/**"], dns_names=["www.clm.test"])
    agent_id = answer["agent"]["id"]
    token = state / "token"
    token.touch(mode=0o600)
    token.write_text(answer["token"] + "\n")
    # As in a pod: one network and one process table with the server that it reloads.
    podman("run", "-d", "--name", agent, "--network", f"container:{nginx}", "--pid", f"container:{nginx}", "--read-only",
           "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--cap-drop", "ALL",
           *(f"--cap-add={c}" for c in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SETPCAP")),
           "--volume", f"{tls}:/tls", "--volume", f"{policy}:/etc/clm-agent:ro", "--volume", f"{state}:/var/lib/clm-agent",
           tag_of("agent"), "run", "--config", "/etc/clm-agent/agent.conf", "--token-file", "/var/lib/clm-agent/token")
    rest.wait_agent(agent_id, "ONLINE")
    if podman("healthcheck", "run", agent, check=False).returncode != 0:
        raise Failed("the agent is ONLINE, but its health check fails")
    task = rest.run_task(agent_id, "RENEW", {"target": "nginx"})
    if task["state"] != "SUCCEEDED":
        raise Failed(f"RENEW ended as {task['state']}: {json.dumps(task)[:2000]}")
    after = served(address)
    if after == before or after != task["result"]["fingerprintAfterSha256"]:
        raise Failed(f"nginx serves {after}, before {before}")
    checks = rest.run_task(agent_id, "VALIDATE", {"target": "nginx"})["result"]["checks"]
    bad = [c for c in checks if c["outcome"] != "PASS"]
    if bad:
        raise Failed(f"VALIDATE: {bad}")
    listed = clmctl(podman, compose, "agents", "list")
    if "ONLINE" not in listed:
        raise Failed(f"clmctl agents list:\n{listed}")
    return f"{before[:12]} → {after[:12]}, {len(checks)} checks pass"


def fresh_certificates(podman, compose):
    """What compose.yaml says to do monthly, under running services; a container that starts afterwards begins with what came of it."""
    def served():
        pem = ssl.get_server_certificate((compose.address("clm-gateway"), 8443))
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    before = served()
    compose.run_again("pki", "certificates")
    podman("restart", "-t", "45", compose.container("clm-gateway"))
    wait_until("clm-gateway to be healthy", lambda: compose.healthy("clm-gateway"), PATIENCE_SEC, 0.3)
    if served() == before:
        raise Failed("a gateway that was started anew shows its former certificate")
    unwell = [name for name in ("clm-registry", "clm-bootstrap", "clm-tasks") if not compose.healthy(name)]
    if unwell:
        raise Failed(f"after fresh certificates: {', '.join(unwell)} not healthy")


def build_all(podman, commit):
    """The stand-ins beside the first of ours, which compiles: one waits for the network, the other for the processors."""
    def stand_in(target):
        step(f"{target} (stand-in)", lambda: build(podman, TOP / "tests/containers/Dockerfile", target, STAND_INS[target]))

    def ours(target):
        def make():
            build(podman, DEPLOY / "docker/Dockerfile", target, tag_of(target), commit)
            return inspect_image(podman, tag_of(target))
        step(target, make)
    def packages():
        step("packages", lambda: build(podman, DEPLOY / "docker/Dockerfile", "packages", PACKAGES, commit))
    with ThreadPoolExecutor(1) as beside:
        waiting = [beside.submit(stand_in, target) for target in STAND_INS]
        for target in OURS:
            ours(target)
        packages()
        for done in waiting:
            done.result()


def run():
    with tempfile.TemporaryDirectory(prefix="clm-containers-") as name:
        scratch = Path(name)
        podman = Podman(scratch)
        commit = subprocess.run(["git", "-C", TOP, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
        print("==> images", flush=True)
        step("base", lambda: make_base(podman, scratch))
        step("podman runs containers", lambda: podman.must_work(BASE))
        build_all(podman, commit or "unknown")
        print("==> the platform of deploy/compose.yaml", flush=True)
        # The name is the gateway's on the network, too, so the token that is printed leads there.
        compose = Compose(podman, {"CLM_GATEWAY_NAME": "clm-gateway", "CLM_TRUST_DOMAIN": "clm.test"})
        try:
            for service in compose.services:
                step(service, lambda service=service: compose.up(service))
            for service in ("clm-registry", "clm-bootstrap", "clm-tasks", "clm-gateway"):
                step(f"{service} healthy", lambda service=service: wait_until(
                    f"{service} to be healthy", lambda: compose.healthy(service), PATIENCE_SEC, 0.3) and None)
            step("copy of what is disabled", lambda: wait_until("the registry to write it", lambda: (
                volume_files(podman, compose, "state-registry") / "platform-copy").exists(), PATIENCE_SEC, 0.3) and None)
            step("fresh certificates", lambda: fresh_certificates(podman, compose))
            print("==> an agent's container renews what an nginx container serves", flush=True)
            rest = operator(podman, compose)
            step("renew", lambda: walk(podman, compose, rest, scratch))
            step("first administrator", lambda: first_administrator(compose, admin_files(podman, compose)))
            print("==> hosts that install the agent from packages", flush=True)
            step("container line", lambda: machines.container_line(
                podman, compose, rest, tag_of("agent"), (admin_files(podman, compose) / "roots.pem").read_text(), scratch))
            step("install", lambda: machines.install(podman, compose, rest, lambda name: register(podman, compose, rest, name), PACKAGES, scratch))
        except BaseException:
            print(compose.logs(), file=sys.stderr)
            raise
        finally:
            compose.down()


def main():
    argparse.ArgumentParser(prog="./dev test containers", description=__doc__.split("\n\n", 1)[0]).parse_args()
    started = time.monotonic()
    try:
        if os.geteuid() != 0:
            raise Failed("./dev test containers makes file systems, networks and containers: run it as root")
        run()
    except (Failed, subprocess.CalledProcessError) as error:
        print(f"\nfailed: {error}\n0 passed, 1 failed", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - started:.0f} s\n1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
