"""A host under management: a private nginx with a certificate about to expire, and an agent that may renew it."""
import hashlib
import os
import shutil
import socket
import ssl
from pathlib import Path

from clm.platform import ini, write
from clm.ports import HOST, free_port
from clm.process import Failed, Process, run, wait_until

NGINX_CONF = """\
{user}daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp; scgi_temp_path {dir}/tmp;
    server {{
        listen {host}:{port} {listen};
        server_name {name};
        ssl_certificate {dir}/site.crt;
        ssl_certificate_key {dir}/site.key;
        location / {{ return 200 "served by the certificate that the agent keeps alive\\n"; }}
    }}
}}
"""


def fingerprint(der):
    return hashlib.sha256(der).hexdigest()


def served(port, name, roots=None):
    """DER of the certificate that an endpoint serves. With `roots`, the handshake also verifies chain and name."""
    context = ssl.create_default_context(cafile=roots) if roots else ssl._create_unverified_context()
    with socket.create_connection((HOST, port), 5) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        return tls.getpeercert(binary_form=True)


class Nginx:
    def __init__(self, root, name="www.clm.test", port=None):
        self.dir, self.name = Path(root).resolve(), name
        self.port_file = self.dir / "port"
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "tmp").mkdir(exist_ok=True)
        if not self.port_file.exists():
            write(self.port_file, str(port or free_port()))
        self.port = int(self.port_file.read_text())
        self.conf, self.certificate, self.key = self.dir / "nginx.conf", self.dir / "site.crt", self.dir / "site.key"
        self.listen = "ssl"
        self.program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = Process("nginx", [self.program, "-e", self.dir / "error.log", "-c", self.conf], self.dir / "stdout.log")

    def start(self):
        if not self.certificate.exists():
            run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                 "-keyout", self.key, "-out", self.certificate, "-subj", f"/CN={self.name}",
                 "-addext", f"subjectAltName=DNS:{self.name}"])
            self.key.chmod(0o600)
        user = "user nobody nogroup;\n" if os.geteuid() == 0 else ""
        write(self.conf, NGINX_CONF.format(user=user, dir=self.dir, host=HOST, port=self.port, name=self.name,
                                           listen=self.listen))
        self.process.start()
        wait_until("nginx to serve", self.serves, process=self.process)
        return self

    def serves(self):
        try:
            return self.served()
        except OSError:
            return None

    def served(self, roots=None):
        return served(self.port, self.name, roots)

    def reloads(self):
        """How often it was told to reload."""
        log = self.dir / "error.log"
        return log.read_text(errors="replace").count("(SIGHUP) received") if log.exists() else 0

    def stop(self):
        self.process.stop()


class Agent:
    """clm-agent with directories of its own. Runs as the invoking user; as root its net process is `nobody`."""

    def __init__(self, platform, root, name="agent"):
        self.platform, self.dir = platform, Path(root).resolve()
        self.dir.mkdir(parents=True, exist_ok=True)
        self.conf, self.state, self.token = self.dir / "agent.conf", self.dir / "state", self.dir / "token"
        self.said = ""
        self.process = Process(name, [platform.bin / "clm-agent", "run", "--config", self.conf], platform.log_dir / f"{name}.log")

    def setup(self, nginx):
        """The administrator's yes: local policy for one nginx."""
        return self if self.conf.exists() else self.manage(f"nginx={nginx.conf}")

    def manage(self, *servers, command=None):
        """The administrator's yes for servers, each "PRESET=CONF"; says what setup said in `said`."""
        if not self.conf.exists():
            write(self.conf, ini({"agent": {"state_dir": self.state, "net_user": "nobody"}}))
        argv = [self.platform.bin / "clm-agent", "setup", "--config", self.conf, "--yes"]
        for server in servers:
            argv += ["--manage", server]
        self.said = run(argv + (["--command", command] if command else [])).stdout
        return self

    def change(self, old, new):
        """Edits the local policy."""
        text = self.conf.read_text()
        if old not in text:
            raise Failed(f"{self.conf} has no {old!r}:\n{text}")
        write(self.conf, text.replace(old, new, 1))

    def enrol(self, token):
        write(self.token, token + "\n", 0o600)
        return self

    def start(self):
        given = ["--token-file", self.token] if self.token.exists() else []
        self.process.argv = self.process.argv[:4] + [str(a) for a in given]
        self.process.start()
        return self

    def stop(self):
        self.process.stop()

    def task_identity(self):
        """(key, certificate) of the newest generation: what only this host's exec process holds."""
        key = max(self.state.glob("task-*.key"), key=lambda path: int(path.stem.split("-")[1]))
        return key, key.with_suffix(".pem")
