"""Further replicas of a platform's services, and a balancer before its gateways."""
import csv
import io
import re
import shutil
import socket
import urllib.request

from clm.platform import write
from clm.ports import HOST, free_port
from clm.process import Process, wait_until


class Replica:
    """Replica `number` (2, 3, …) of a service: the first one's configuration with ports and a state directory of its own."""

    def __init__(self, platform, service, number):
        self.name, name = service, f"{service}-{number}"
        kept = {f"{service}-admin": free_port()}
        if service == "gateway":
            kept.update(agent=free_port(), operator=free_port())
        self.ports = kept
        text = (platform.conf_dir / f"{service}.conf").read_text()
        for port in kept:
            text = text.replace(f"{HOST}:{platform.ports[port]}\n", f"{HOST}:{kept[port]}\n")
        conf = platform.conf_dir / f"{name}.conf"
        write(conf, re.sub(r"state_dir = .*", f"state_dir = {platform.own_dir(f'state/{name}')}", text))
        self.process = Process(name, [platform.bin / f"clm-{service}", "--config", conf], platform.log_dir / f"{name}.log", user=platform.user)

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://{HOST}:{self.ports[self.name + '-admin']}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def start(self):
        self.process.start()
        return self

    def wait_ready(self, timeout=60):
        wait_until(f"{self.process.name} to be ready", self.ready, timeout, process=self.process)
        return self

    def stop(self):
        self.process.stop(60)


CONF = """\
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 2s
    timeout client 10m
    timeout server 10m
    retries 3
    option redispatch
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 100ms fall 1 rise 1
"""


class Balancer:
    """HAProxy before gateways, as a Service of Kubernetes stands before them: TLS passes through, who is not ready gets no new connection."""

    def __init__(self, directory, gateways):
        """gateways: one {"agent": port, "operator": port, "gateway-admin": port} each."""
        directory.mkdir(parents=True)
        self.ports = {"agent": free_port(), "operator": free_port()}
        self.conf, self.control = directory / "balancer.cfg", directory / "control"
        text = CONF.replace("global\n", f"global\n    stats socket {self.control} level admin\n")
        for name, port in self.ports.items():
            servers = "".join(f"    server gateway{i} {HOST}:{ports[name]} port {ports['gateway-admin']}\n" for i, ports in enumerate(gateways, 1))
            text += f"listen {name}\n    bind {HOST}:{port}\n    balance leastconn\n{servers}"
        write(self.conf, text)
        self.process = Process("balancer", [shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", self.conf], directory / "balancer.log")

    def start(self):
        self.process.start()
        wait_until("the balancer to listen", self.listens, process=self.process)
        return self

    def listens(self):
        for port in self.ports.values():
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) != 0:
                    return False
        return True

    def _tell(self, command):
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.control))
            control.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: control.recv(65536), b"")).decode()

    def _states(self, number):
        rows = csv.DictReader(io.StringIO(self._tell("show stat").removeprefix("# ")))
        return {row["status"] for row in rows if row["svname"] == f"gateway{number}"}

    def leave_out(self, number):
        """Gateway `number` (1, 2, …) gets no new connection from now on, as a pod that is to end leaves its Service."""
        for name in self.ports:
            self._tell(f"set server {name}/gateway{number} state drain")

    def take_back(self, number):
        for name in self.ports:
            self._tell(f"set server {name}/gateway{number} state ready")
        wait_until(f"the balancer to send connections to gateway {number}", lambda: self._states(number) == {"UP"}, process=self.process)

    def stop(self):
        self.process.stop()
