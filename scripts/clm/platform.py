"""The whole platform in one directory: PostgreSQL, nats-server and the four services, each with ports of its own.

What is there is used again: a second start finds the data, the ports and the credentials of the first. Nothing of
the machine's own services is touched. As root, everything but agents and web servers runs as the unprivileged user
`postgres`, which the PostgreSQL package made; otherwise all runs as the invoking user.
"""
import json
import os
import secrets
import shutil
import socket
import stat
import time
import urllib.request
from pathlib import Path
from signal import SIGINT, SIGTERM

from clm.ports import HOST, free_port
from clm.process import Failed, Process, run, wait_until
from clm.rest import Rest

TOP = Path(__file__).resolve().parents[2]
PG_BIN = Path("/usr/lib/postgresql/15/bin")
OPERATOR_NAME = "localhost"
DATABASE_SERVICES = ("registry", "bootstrap", "tasks")
SERVICES = (*DATABASE_SERVICES, "gateway")
PORTS = ("postgresql", "nats", "agent", "operator", *(f"{name}-admin" for name in SERVICES))


def write(path, text, mode=0o644, owner=None):
    path = Path(path)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
    path.chmod(mode)
    if owner:
        shutil.chown(path, owner)


def ini(sections):
    return "".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) + "\n"
                   for section, keys in sections.items())


class Platform:
    """Directories below `root`: postgresql/ nats/ (data), clm/pki/ (what `clm-bootstrap init` made), conf/, log/."""

    def __init__(self, root, bin_dir):
        self.root = Path(root).resolve()
        self.user = "postgres" if os.geteuid() == 0 else None
        self.log_dir, self.conf_dir = self.root / "log", self.root / "conf"
        self.pki = self.root / "clm" / "pki"
        self.postgresql_dir, self.nats_dir = self.root / "postgresql", self.root / "nats"
        for directory in (self.root, self.log_dir, self.conf_dir):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._must_reach(self.root)
        self.bin = self._reachable_programs(Path(bin_dir).resolve())
        self.ports = self._remembered("ports.json", lambda: {name: free_port() for name in PORTS})
        self._passwords = self._remembered("postgresql.passwords", lambda: {
            name: secrets.token_urlsafe(24) for name in ("admin", *DATABASE_SERVICES)})
        self.roots = self.pki / "roots.pem"
        self.processes = self._processes()

    # ---- directories ----------------------------------------------------------------------------------------

    def _can(self, flag, path):
        return run(["test", flag, path], user=self.user, check=False).returncode == 0

    def _must_reach(self, path):
        if not self._can("-x", path):
            raise Failed(f"user {self.user} cannot enter {path}: choose another directory with --dir, "
                         f"below one that everybody may enter")

    def _reachable_programs(self, bin_dir):
        if self._can("-x", bin_dir / "clm-gateway"):
            return bin_dir
        if not (bin_dir / "clm-gateway").exists():
            raise Failed(f"{bin_dir}/clm-gateway is not there: build it first (./dev build)")
        copy = self.root / "bin"
        shutil.copytree(bin_dir, copy, dirs_exist_ok=True)
        copy.chmod(0o755)
        return copy

    def _remembered(self, name, make):
        path = self.root / name
        if not path.exists():
            write(path, json.dumps(make(), indent=1), 0o600)
        return json.loads(path.read_text())

    def own_dir(self, name, mode=0o700):
        """A directory of the platform's user."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        if self.user:
            shutil.chown(path, self.user)
        return path

    # ---- processes ------------------------------------------------------------------------------------------

    def _process(self, name, argv, **options):
        return Process(name, argv, self.log_dir / f"{name}.log", user=self.user, **options)

    def _processes(self):
        port = self.ports
        known = {
            "postgresql": self._process(
                "postgresql", [PG_BIN / "postgres", "-D", self.postgresql_dir, "-p", port["postgresql"],
                               "-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="],
                stop_signal=SIGINT),
            "nats": self._process(
                "nats", [shutil.which("nats-server") or "/usr/sbin/nats-server", "-c", self.pki / "bus" / "nats.conf"],
                cwd=self.pki / "bus",
                env={"CLM_NATS_LISTEN": f"{HOST}:{port['nats']}", "CLM_NATS_STORE": str(self.nats_dir)}),
        }
        for name in SERVICES:
            known[name] = self._process(name, [self.bin / f"clm-{name}", "--config", self.conf_dir / f"{name}.conf"],
                                        stop_signal=SIGTERM)
        return known

    def __getitem__(self, name):
        return self.processes[name]

    # ---- PostgreSQL -----------------------------------------------------------------------------------------

    def _start_postgresql(self):
        fresh = not (self.postgresql_dir / "PG_VERSION").exists()
        if fresh:
            self.own_dir("postgresql")
            password = self.own_dir("init") / "password"
            write(password, self._passwords["admin"], 0o600, self.user)
            run([PG_BIN / "initdb", "-D", self.postgresql_dir, "-U", "admin", "--auth=scram-sha-256", "-E", "UTF8",
                 "--locale=C.UTF-8", f"--pwfile={password}"], user=self.user, timeout=120)
            shutil.rmtree(password.parent)
        self.start_postgresql()
        if fresh or not self.sql("SELECT 1 FROM pg_database WHERE datname = 'clm'", database="postgres"):
            self._create_database()

    def start_postgresql(self):
        """Starts it and waits. After a kill -9, backends of the old one may hold its memory for a moment: try again."""
        deadline = time.monotonic() + 60
        postgresql = self["postgresql"]
        while time.monotonic() < deadline:
            if not postgresql.running():
                postgresql.start()
            ready = run([PG_BIN / "pg_isready", "-q", "-h", HOST, "-p", self.ports["postgresql"], "-d", "postgres"],
                        check=False)
            if ready.returncode == 0:
                return
            time.sleep(0.1)
        raise Failed(f"PostgreSQL did not start\n{postgresql.tail()}")

    def _create_database(self):
        self.sql("CREATE DATABASE clm; REVOKE ALL ON DATABASE clm FROM PUBLIC;", database="postgres")
        for name in DATABASE_SERVICES:
            self.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{self._passwords[name]}';"
                     f"GRANT CONNECT ON DATABASE clm TO {name};"
                     f"CREATE SCHEMA {name} AUTHORIZATION {name};"
                     f"ALTER ROLE {name} SET search_path = {name};")
        self.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE EXTENSION pg_trgm SCHEMA registry;")

    def sql_environment(self, role="admin"):
        return {"PGPASSWORD": self._passwords[role]}

    def sql(self, text, database="clm", role="admin", timeout=60):
        """Rows of text columns; the statements go in through stdin. With `role`, as that service."""
        done = run([PG_BIN / "psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", HOST,
                    "-p", self.ports["postgresql"], "-U", role, "-d", database],
                   stdin=text, env=self.sql_environment(role), timeout=timeout)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def dump(self):
        """Everything that PostgreSQL holds, as text."""
        return run([PG_BIN / "pg_dumpall", "-h", HOST, "-p", self.ports["postgresql"], "-U", "admin", "-l", "clm"],
                   env={"PGPASSWORD": self._passwords["admin"]}).stdout

    def backup(self):
        """The database as a dump that restore() takes."""
        return run([PG_BIN / "pg_dump", "--create", "--clean", "--if-exists", "-h", HOST, "-p", self.ports["postgresql"],
                    "-U", "admin", "clm"], env={"PGPASSWORD": self._passwords["admin"]}).stdout

    def restore(self, dump):
        """Puts a backup in the place of the database. The services must be down."""
        self.sql(dump, database="postgres")

    # ---- configuration --------------------------------------------------------------------------------------

    def write_config(self, name, changes=None):
        pki, port = self.pki / name, self.ports
        sections = {
            "service": {"admin_listen": f"{HOST}:{port[name + '-admin']}", "state_dir": self.own_dir(f"state/{name}")},
            "identity": {"key": pki / "service.key", "certificate": pki / "service.crt", "roots": self.roots},
            "bus": {"url": f"tls://{HOST}:{port['nats']}", "ca": self.pki / "bus" / "ca.crt",
                    "password_file": pki / "bus.pass"},
        }
        if name in DATABASE_SERVICES:
            password = self.own_dir("secrets") / f"{name}.pgpass"
            write(password, self._passwords[name] + "\n", 0o600, self.user)
            sections["database"] = {
                "conninfo": f"host={HOST} port={port['postgresql']} dbname=clm user={name} connect_timeout=5",
                "password_file": password}
        if name == "gateway":
            sections["gateway"] = {
                "agent_listen": f"{HOST}:{port['agent']}", "operator_listen": f"{HOST}:{port['operator']}",
                "tls_key": pki / "tls.key", "tls_certificate": pki / "tls.crt",
                "intermediates": self.pki / "intermediates.pem",
                "requests_per_minute": 1000000}  # one key makes all the requests here
        if name == "bootstrap":
            sections["bootstrap"] = {"ca_dir": self.pki / "ca", "gateway_address": f"{HOST}:{port['agent']}"}
        for section, keys in (changes or {}).items():
            sections.setdefault(section, {}).update(keys)
        write(self.conf_dir / f"{name}.conf", ini(sections))
        return self.conf_dir / f"{name}.conf"

    # ---- starting -------------------------------------------------------------------------------------------

    def _init_pki(self):
        if self.roots.exists():
            return
        self.own_dir("clm", 0o755)
        run([self.bin / "clm-bootstrap", "init", "--config", self.conf_dir / "bootstrap.conf", "--dir", self.pki,
             "--trust-domain", "clm.test", "--gateway-name", OPERATOR_NAME, "--gateway-name", HOST, "--bus-name", HOST],
            user=self.user, timeout=120)

    def _start_nats(self):
        self.own_dir("nats")
        conf = self.pki / "bus" / "nats.conf"
        write(conf, (TOP / "deploy" / "nats" / "nats.conf").read_text(), 0o600, self.user)
        self.start_nats()

    def start_nats(self):
        self["nats"].start()

        def listening():
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex((HOST, self.ports["nats"])) == 0
        wait_until("nats-server to listen", listening, process=self["nats"])

    def _init_bus(self):
        run([self.bin / "clm-bootstrap", "init-bus", "--url", f"tls://{HOST}:{self.ports['nats']}",
             "--ca", self.pki / "bus" / "ca.crt", "--password-file", self.pki / "bus" / "admin.pass"], user=self.user)

    def _create_api_key(self):
        if not self.api_key_file.exists():
            self.create_api_key("admin", "admin")
        write(self.clmctl_config, ini({
            "clmctl": {"context": "dev"},
            "context dev": {"url": self.url, "ca": self.roots, "api_key_file": self.api_key_file}}))

    def create_api_key(self, name, role, selector=""):
        """Made by the registry into a file of its own; the key's text."""
        out = self.own_dir("secrets") / f"{name}.key"
        run([self.bin / "clm-registry", "create-api-key", "--config", self.conf_dir / "registry.conf",
             "--name", name, "--role", role, *(["--labels", selector] if selector else []), "--out", out], user=self.user)
        return out.read_text().strip()

    def create_admin_link(self):
        """The file with a fresh one-time link that makes an administrator of the console."""
        out = self.own_dir("secrets") / "admin.link"
        out.unlink(missing_ok=True)
        run([self.bin / "clm-registry", "create-admin-link", "--config", self.conf_dir / "registry.conf",
             "--url", self.url, "--out", out], user=self.user)
        return out

    @property
    def api_key_file(self):
        return self.root / "secrets" / "admin.key"

    @property
    def clmctl_config(self):
        return self.root / "clmctl.conf"

    @property
    def api_key(self):
        return self.api_key_file.read_text().strip()

    def start_service(self, name):
        self[name].start()

    def wait_ready(self, *names, timeout=60):
        for name in names or SERVICES:
            wait_until(f"{name} to be ready ({self.ready(name)[1].strip()})", lambda: self.ready(name)[0], timeout,
                       process=self[name])

    def ready(self, name):
        """(is it, what it says)"""
        try:
            with urllib.request.urlopen(self.admin_url(name) + "/readyz", timeout=5) as answer:
                return answer.status == 200, answer.read().decode()
        except urllib.error.HTTPError as error:
            return False, error.read().decode(errors="replace")
        except OSError as error:
            return False, str(error)

    def metrics(self, name):
        with urllib.request.urlopen(self.admin_url(name) + "/metrics", timeout=5) as answer:
            return answer.read().decode()

    def admin_url(self, name):
        return f"http://{HOST}:{self.ports[name + '-admin']}"

    def steps(self):
        """What start() does, in order: (name, function)."""
        def service(name):
            def start():
                self.start_service(name)
            return start
        return [("PostgreSQL", self._start_postgresql),
                ("configuration", lambda: [self.write_config(name) for name in SERVICES]),
                ("certificate authorities", self._init_pki),
                ("nats-server", self._start_nats),
                ("event stream", self._init_bus),
                *((f"clm-{name}", service(name)) for name in SERVICES),
                ("readiness", self.wait_ready),
                ("API key", self._create_api_key)]

    def start(self, progress=lambda name, function: function()):
        for name, function in self.steps():
            progress(name, function)
        return self

    def stop(self):
        """All, in the reverse order; the first failure is raised after the last one stopped."""
        failure = None
        for process in reversed(list(self.processes.values())):
            try:
                process.stop()
            except Failed as error:
                failure = failure or error
        if failure:
            raise failure

    # ---- talking to it --------------------------------------------------------------------------------------

    def rest(self, api_key=None, timeout=30):
        return Rest(OPERATOR_NAME, self.ports["operator"], self.roots, self.api_key if api_key is None else api_key, timeout)

    @property
    def url(self):
        return f"https://{OPERATOR_NAME}:{self.ports['operator']}"

    def logs(self):
        return "".join(f"=== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-60:]) + "\n"
                       for path in sorted(self.log_dir.glob("*.log")))


def private_file(path):
    """Only its owner may read it."""
    return stat.S_IMODE(Path(path).stat().st_mode) == 0o600
