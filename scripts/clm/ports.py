"""TCP ports for servers that a test starts, restarts, and expects to find free each time.

A port that the kernel hands out (bind to 0) may be handed out again, as the source of somebody's outgoing connection,
between two starts of the server that it was meant for. So ports come from below that range, and each is reserved, for as
long as this process lives, by an abstract socket of its name: like the port, the name is known in the network namespace
only. tests/unit/support/port.c does the same, so that all test processes of a machine keep out of each other's way.
"""
import errno
import random
import socket
from pathlib import Path

from clm.process import Failed

HOST = "127.0.0.1"
FIRST = 10000
_held = []


def _outgoing():
    """The first port that the kernel uses for outgoing connections."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])


def _take(port):
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0clm-port-{port}")
        with socket.socket() as probe:
            probe.bind((HOST, port))
    except OSError as error:
        name.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    _held.append(name)
    return True


def free_port():
    """A port of 127.0.0.1 that nobody listens on and that no other test process is given while this one lives."""
    ports = range(FIRST, max(_outgoing(), FIRST + 1000))
    for _ in range(1000):
        port = random.choice(ports)
        if _take(port):
            return port
    raise Failed(f"no free TCP port between {ports.start} and {ports.stop}")
