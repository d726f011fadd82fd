"""A connection cut at any byte, a server or a host killed at any step of bootstrap: nobody is stranded, no second identity is made."""
import os
import socket
import subprocess
import threading
import time
import uuid

import pytest

from clm.platform import HOST, PG_BIN
from clm.process import wait_until
from support.peer import PROTOBUF, Link, Peer, error_text

STEP_BYTES = 97  # no divisor of a record's size: cuts fall into heads, bodies and between them


class Cutter(threading.Thread):
    """Carries one connection to the gateway; resets both sides after so many bytes up or down."""

    def __init__(self, platform, up=None, down=None):
        super().__init__(daemon=True)
        self.limit, self.seen = {"up": up, "down": down}, {"up": 0, "down": 0}
        self.listener = socket.create_server((HOST, 0))
        self.port, self.target = self.listener.getsockname()[1], (HOST, platform.ports["agent"])
        self.start()

    def carry(self, direction, source, sink):
        try:
            while data := source.recv(65536):
                left = None if self.limit[direction] is None else self.limit[direction] - self.seen[direction]
                sink.sendall(data if left is None else data[:left])
                self.seen[direction] += len(data) if left is None else min(len(data), left)
                if left is not None and len(data) >= left:
                    break
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def run(self):
        client, _ = self.listener.accept()
        server = socket.create_connection(self.target)
        back = threading.Thread(target=self.carry, args=("down", server, client), daemon=True)
        back.start()
        self.carry("up", client, server)
        back.join()
        for end in (client, server, self.listener):
            end.close()


@pytest.fixture(scope="module")
def keys(platform, admin, tmp_path_factory):
    """One pair of keys for all the tokens of the sweep: only the token is new each time."""
    answer = admin.register("sweep")
    return Peer(platform, answer["agent"]["id"], answer["token"], tmp_path_factory.mktemp("sweep"))


def fresh(admin, peer):
    answer = admin.register("sweep")
    peer.id, peer.generation = answer["agent"]["id"], None
    peer.token = type(peer.token)(answer["token"])
    return peer


def identities(platform, agent_id):
    return platform.sql(f"SELECT encode(identity_certificate, 'hex') FROM bootstrap.identity WHERE agent_id = '{agent_id}'")


def assert_one_identity(platform, peer):
    """It gets through now, and what it gets is all that there is."""
    status, answer = peer.bootstrap()
    assert status == 200, error_text(answer)
    assert [bytes.fromhex(row[0]) for row in identities(platform, peer.id)] == [answer[3][0]]


def through(platform, peer, **limits):
    """Tries once through a cutter; whether an answer came."""
    cutter = Cutter(platform, **limits)
    try:
        return peer.bootstrap(Link(platform, port=cutter.port))[0] == 200, cutter
    except OSError:  # ssl.SSLError is one
        return False, cutter
    except Exception as error:  # http.client's: half an answer
        assert "IncompleteRead" in repr(error) or "RemoteDisconnected" in repr(error) or "BadStatusLine" in repr(error), error
        return False, cutter
    finally:
        cutter.join(30)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_connection_cut_at_any_byte(direction, platform, admin, keys):
    answered, whole = through(platform, fresh(admin, keys))
    assert answered
    total, early = whole.seen[direction], 0
    for at in [*range(0, total, STEP_BYTES), total - 1]:
        peer = fresh(admin, keys)
        answered, cutter = through(platform, peer, **{direction: at})
        assert not answered or cutter.seen[direction] < at + 1
        early += not answered
        assert_one_identity(platform, peer)
    assert early > total // STEP_BYTES // 2, "the cuts cut nothing"


# ---- the server is killed ----

# What the service waits for when the table, or the token's row, is held; in the order in which it comes to them.
HELD = {
    "looks for the token": "LOCK TABLE bootstrap.token IN ACCESS EXCLUSIVE MODE;",
    "takes the agent's lock": "LOCK TABLE bootstrap.agent_identity IN EXCLUSIVE MODE;",
    "binds the token": "SELECT 1 FROM bootstrap.token WHERE agent_id = '{agent}' FOR UPDATE;",
    "stores what the signer made": "LOCK TABLE bootstrap.identity IN EXCLUSIVE MODE;",
    "writes the event": "LOCK TABLE bootstrap.outbox IN EXCLUSIVE MODE;",
}


class Holder:
    """A session that holds a lock until it is let go."""

    def __init__(self, platform, statement):
        self.psql = subprocess.Popen(
            [PG_BIN / "psql", "-X", "-q", "-A", "-t", "-h", HOST, "-p", str(platform.ports["postgresql"]), "-U", "admin", "-d", "clm"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PGPASSWORD": platform._passwords["admin"]})
        self.psql.stdin.write(f"BEGIN;\n{statement}\n\\echo held\n")
        self.psql.stdin.flush()
        while self.psql.stdout.readline().strip() != "held":
            assert self.psql.poll() is None, "psql ended"

    def let_go(self):
        self.psql.stdin.close()
        self.psql.wait(10)


def waiting(platform, agent_id):
    """A session of clm-bootstrap waits for a lock, in the work that this bootstrap began."""
    return int(platform.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bootstrap' AND wait_event_type = 'Lock' "
                            "AND query ~ '(token|identity|outbox)' AND query !~ 'stream_seq'")[0][0])


def begin(platform, peer):
    """Sends the request; whoever it was is not there any more when the answer comes."""
    link = Link(platform)
    link.request("POST", "/agent/v1/bootstrap", peer.bootstrap_body(), {"Content-Type": PROTOBUF})
    return link


@pytest.mark.parametrize("step,killed", [*((step, "bootstrap") for step in HELD), ("looks for the token", "gateway"),
                                         ("writes the event", "gateway")])
def test_a_server_killed_while_it(step, killed, platform, admin, tmp_path):
    answer = admin.register("killed")
    peer = Peer(platform, answer["agent"]["id"], answer["token"], tmp_path)
    holder = Holder(platform, HELD[step].format(agent=peer.id))
    try:
        link = begin(platform, peer)
        wait_until(f"clm-bootstrap to stand still where it {step}", lambda: waiting(platform, peer.id), 20)
        platform[killed].kill()
    finally:
        holder.let_go()
    link.close()
    platform[killed].start()
    platform.wait_ready()
    deadline = time.monotonic() + 30
    while True:  # 503 while it finds its feet
        status, answer = peer.bootstrap()
        if status == 200:
            break
        assert status in (429, 503) and time.monotonic() < deadline, error_text(answer)
    assert_one_identity(platform, peer)
    status, answer = peer.connect().confirm()
    assert status == 200, error_text(answer)


# ---- the host is killed ----

APPEARED = {
    "exec's key is there": lambda state: (state / "task-0.key").exists(),
    "net's key is there": lambda state: (state / "net" / "identity-0.key").exists(),
    "the roots are there": lambda state: (state / "roots.pem").exists(),
    "its certificates are there": lambda state: (state / "task-0.pem").exists(),
    "it has its id": lambda state: (state / "agent.id").exists(),
}


@pytest.mark.parametrize("step", APPEARED)
def test_a_host_killed_when(step, platform, admin, make_host):
    host = make_host(f"brk-{uuid.uuid4().hex[:8]}")
    host.prepare()
    host.register(admin)
    host.agent.start()
    deadline = time.monotonic() + 30
    while not APPEARED[step](host.agent.state):
        assert time.monotonic() < deadline, f"not reached: {step}\n{host.agent.process.tail()}"
    host.agent.process.kill()
    host.agent.start()
    admin.wait_agent(host.id, "ONLINE", process=host.agent.process)
    assert len(identities(platform, host.id)) == 1
    assert not host.agent.token.exists() and not admin.agent(host.id).get("safeMode")
