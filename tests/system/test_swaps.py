"""A net process, or a gateway, that exchanges what it carries: the service that acts, or exec, notices."""
import socket
import ssl
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clm.host import fingerprint
from clm.ports import HOST, free_port
from clm.process import wait_until
from support import pb
from support.peer import PROTOBUF, SIGN, Link, Peer, error_text
from support.relay import Relay
from support.pki import ENVELOPE_CONTENT, Authority, EnvelopeSigner, cms_sign, csr, envelope_open, from_pem, new_key, to_pem

SUCCEEDED = 1
RESULT = pb.encode((8, 0))
NAME = "www.example.com"


def make_peer(platform, rest, directory):
    answer = rest.register(f"peer-{uuid.uuid4().hex[:8]}", operations=["RENEW", "VALIDATE", "DISCOVER"],
                           dns_names=[NAME], paths=["/etc/nginx/**"])
    peer = Peer(platform, answer["agent"]["id"], answer["token"], directory)
    status, given = peer.bootstrap()
    assert status == 200, error_text(given)
    status, given = peer.connect().confirm()
    assert status == 200, error_text(given)
    return peer


class Leased:
    """A peer that holds a RENEW task, and the pieces of honest requests about it."""

    def __init__(self, platform, rest, directory):
        self.peer = make_peer(platform, rest, directory)
        wait_until("the registry's word on the agent", lambda: rest.agent(self.peer.id)["status"] == "ONLINE"
                   or self.peer.checkin()[0] != 200, 20)
        self.task_id = rest.create_task(self.peer.id, "RENEW", {"target": "nginx", "dnsNames": [NAME]})["id"]
        got, self.attempt, self.lease, self.envelope = self.peer.lease()
        assert got == self.task_id
        self.key = new_key(directory / "site.key")

    def csr(self, name=NAME):
        return csr(self.key, f"/CN={name}", f"DNS:{name}")

    def sign_request(self, request=None, task_id=None, attempt=None, **more):
        return self.peer.signed((4, task_id or self.task_id), (5, attempt or self.attempt), (6, request or self.csr()),
                                purpose=SIGN, **more)

    def receipt(self, outcome=SUCCEEDED, result=RESULT, **more):
        return self.peer.receipt(self.task_id, self.attempt, self.lease, outcome, result, **more)


@pytest.fixture
def leased(platform, rest, tmp_path):
    return Leased(platform, rest, tmp_path / "peer")


def certificates(platform, leased):
    return int(platform.sql(f"SELECT count(*) FROM bootstrap.certificate WHERE agent_id = '{leased.peer.id}'")[0][0])


# ---- what net or a gateway could do to a request for a certificate --------------------------------------------


def test_an_honest_request_is_signed_once_for_the_same_key(platform, leased):
    status, answer = leased.peer.sign(leased.sign_request())
    assert status == 200, error_text(answer)
    again, second = leased.peer.sign(leased.sign_request())
    assert again == 200 and second[2][0] == answer[2][0]
    assert certificates(platform, leased) == 1


def test_a_csr_cannot_be_swapped_inside_a_signed_request(platform, leased):
    honest = leased.sign_request(leased.csr())
    other_key = new_key(leased.peer.dir / "thief.key")
    thief = csr(other_key, f"/CN={NAME}", f"DNS:{NAME}")
    # The content is carried in the clear: exchange the public key in it, byte for byte of the same length.
    point = lambda request: request[request.index(b"\x03\x42\x00\x04") + 3:][:65]  # noqa: E731
    mine = point(leased.csr())
    assert mine in honest
    status, answer = leased.peer.sign(honest.replace(mine, point(thief)))
    assert 400 <= status < 500, (status, answer)
    assert certificates(platform, leased) == 0


@pytest.mark.parametrize("how", ["by the identity key", "by a stranger", "not at all"])
def test_a_request_is_refused_that_is_signed(how, platform, leased, tmp_path):
    peer = leased.peer
    if how == "by the identity key":
        request = leased.sign_request(key=peer.identity_key, certificate=peer.identity_crt)
    elif how == "by a stranger":
        stranger = Authority(tmp_path / "stranger")
        request = leased.sign_request(key=stranger.key, certificate=stranger.certificate)
    else:
        request = pb.encode((1, SIGN), (2, peer.id), (3, 0), (4, leased.task_id), (5, 1), (6, leased.csr()))
    status, answer = peer.sign(request)
    assert 400 <= status < 500, (status, answer)
    assert certificates(platform, leased) == 0


def test_a_name_outside_the_scope_is_refused_by_the_ca_itself(platform, leased):
    status, answer = leased.peer.sign(leased.sign_request(leased.csr("bank.example.org")))
    assert status == 403, (status, error_text(answer))
    assert certificates(platform, leased) == 0


def test_a_request_under_somebody_elses_task_is_refused(platform, rest, leased, tmp_path):
    other = Leased(platform, rest, tmp_path / "other")
    status, answer = leased.peer.sign(leased.sign_request(task_id=other.task_id))
    assert 400 <= status < 500, (status, answer)
    # Nor does a request signed by the other agent pass over this agent's connection.
    status, answer = leased.peer.sign(other.sign_request())
    assert 400 <= status < 500, (status, answer)
    assert certificates(platform, leased) == certificates(platform, other) == 0


def test_a_request_under_another_attempt_is_refused(platform, leased):
    status, answer = leased.peer.sign(leased.sign_request(attempt=leased.attempt + 1))
    assert 400 <= status < 500, (status, answer)
    assert certificates(platform, leased) == 0


# ---- receipts -------------------------------------------------------------------------------------------------


def submit(leased, receipt, data=RESULT):
    return leased.peer.result(leased.task_id, leased.attempt, data, receipt)


def test_an_honest_receipt_ends_the_task_and_may_be_repeated(rest, leased):
    receipt = leased.receipt()
    for _ in range(3):
        status, answer = submit(leased, receipt)
        assert status == 200, error_text(answer)
    assert rest.task(leased.task_id)["state"] == "SUCCEEDED"


def test_a_receipt_is_refused_that_was_changed_on_its_way(rest, leased, tmp_path):
    honest = leased.receipt()
    stranger = Authority(tmp_path / "stranger")
    cases = {
        "a bit of the content": honest.replace(b"by hand", b"by hamd"),
        "a bit of the signature": honest[:-1] + bytes([honest[-1] ^ 1]),
        "signed by the identity key": leased.receipt(key=leased.peer.identity_key, certificate=leased.peer.identity_crt),
        "signed by a stranger": leased.receipt(key=stranger.key, certificate=stranger.certificate),
        "another agent's name": leased.receipt(agent_id="01890a5d-ac96-774b-bcce-b302099a8057"),
        "a request instead of a receipt": leased.sign_request(),
    }
    assert cases["a bit of the content"] != honest
    for case, receipt in cases.items():
        status, answer = submit(leased, receipt)
        assert 400 <= status < 500, (case, status, answer)
    status, answer = submit(leased, honest, data=pb.encode((8, 1)))
    assert 400 <= status < 500, ("another result under an honest receipt", status, answer)
    assert rest.task(leased.task_id)["state"] in ("LEASED", "RUNNING")
    assert submit(leased, honest)[0] == 200


def test_a_receipt_for_somebody_elses_task_is_refused(platform, rest, leased, tmp_path):
    other = Leased(platform, rest, tmp_path / "other")
    receipt = leased.peer.receipt(other.task_id, 1, 1, SUCCEEDED, RESULT)
    status, answer = leased.peer.result(other.task_id, 1, RESULT, receipt)
    assert 400 <= status < 500, (status, answer)
    assert rest.task(other.task_id)["state"] in ("LEASED", "RUNNING")


# ---- a gateway that was taken over ----------------------------------------------------------------------------


class TakenGateway:
    """Has the real gateway's TLS key. Carries bootstrap to the real one and changes what comes back; answers check-ins with
    whatever deliveries it is given; takes no results."""

    def __init__(self, platform, change=lambda status, answer: answer, deliveries=()):
        self.seen, self.port, outer = [], free_port(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((self.path, body))
                status, answer = 200, pb.encode((5, 0))
                if self.path == "/agent/v1/bootstrap":
                    link = Link(platform)
                    link.request("POST", self.path, body, {"Content-Type": PROTOBUF})
                    real = link.getresponse()
                    status, answer = real.status, change(real.status, real.read())
                elif self.path == "/agent/v1/checkin":
                    answer = pb.encode(*[(1, delivery) for delivery in deliveries], (3, 0))
                    if len(outer.seen) > 3:
                        outer.pause.wait(1)
                elif self.path.endswith("/result"):
                    status = 503
                self.send_response(status)
                self.send_header("Content-Type", PROTOBUF)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                self.close_connection = outer.pause.is_set()  # stopped: whoever is connected has to come anew

            def log_message(self, *args):
                pass

        self.pause = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(platform.pki / "gateway" / "tls.crt", platform.pki / "gateway" / "tls.key")
        context.load_verify_locations(platform.roots)
        context.load_verify_locations(platform.pki / "intermediates.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        self.server = ThreadingHTTPServer((HOST, self.port), Handler)
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.pause.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def take_over(platform):
    made = []

    def take(**more):
        made.append(TakenGateway(platform, **more))
        return made[-1]
    yield take
    for gateway in made:
        gateway.stop()


def swapped_roots(directory):
    other = from_pem(Authority(directory, "SSL CLM Agents root CA").certificate.read_text())
    return lambda status, answer: pb.replace(answer, 5, *other) if status == 200 else answer


def added_root(directory):
    other = from_pem(Authority(directory, "SSL CLM Agents root CA").certificate.read_text())
    return lambda status, answer: pb.replace(answer, 5, *pb.decode(answer)[5], *other) if status == 200 else answer


def swapped_certificates(directory):
    def change(status, answer):
        if status != 200:
            return answer
        fields = pb.decode(answer)
        return pb.replace(pb.replace(answer, 3, *fields[4]), 4, *fields[3])
    return change


@pytest.mark.parametrize("swap", [swapped_roots, swapped_certificates])
def test_an_agent_refuses_a_bootstrap_answer_with(swap, platform, make_host, rest, take_over, tmp_path):
    host = make_host()
    host.prepare()
    host.register(rest)
    gateway = take_over(change=swap(tmp_path / "ca"))
    host.use_gateway(f"{HOST}:{gateway.port}")
    host.agent.start()
    wait_until("the agent to ask for its identity", lambda: gateway.seen, 20)
    wait_until("the agent to refuse", lambda: "refus" in host.agent.process.text().lower()
               or host.agent.process.exit_code() is not None, 20)
    assert rest.agent(host.id)["status"] == "BOOTSTRAPPING"
    assert not any(path == "/agent/v1/checkin" for path, _ in gateway.seen)


def test_an_agent_keeps_the_pinned_root_only(platform, make_host, rest, take_over, tmp_path):
    host = make_host()
    host.prepare()
    host.register(rest)
    gateway = take_over(change=added_root(tmp_path / "ca"))
    host.use_gateway(f"{HOST}:{gateway.port}")
    host.agent.start()
    wait_until("the agent to check in", lambda: any(path == "/agent/v1/checkin" for path, _ in gateway.seen), 20)
    assert from_pem((host.agent.state / "roots.pem").read_text()) == from_pem(platform.roots.read_text())


def test_an_agent_does_not_give_its_token_to_a_gateway_that_the_token_does_not_pin(platform, make_host, rest, tmp_path):
    """A server with a certificate of somebody else's CA never sees the request."""
    host = make_host()
    host.prepare()
    host.register(rest)
    other = Authority(tmp_path / "ca")
    key = new_key(tmp_path / "tls.key")
    der = other.issue(csr(key), f"subjectAltName=IP:{HOST}\nextendedKeyUsage=serverAuth", "200101000000Z", "400101000000Z")
    (tmp_path / "tls.crt").write_text(to_pem(der) + other.certificate.read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", key)
    received, attempts = [], []
    listener = socket.create_server((HOST, 0))

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            attempts.append(1)
            try:
                with context.wrap_socket(plain, server_side=True) as tls:
                    received.append(tls.recv(65536))
            except (OSError, ssl.SSLError):
                pass
    threading.Thread(target=serve, daemon=True).start()
    host.use_gateway(f"{HOST}:{listener.getsockname()[1]}")
    host.agent.start()
    wait_until("the agent to try", lambda: attempts, 20)
    wait_until("the agent to say why not", lambda: "certificate" in host.agent.process.text().lower()
               or host.agent.process.exit_code() is not None, 20)
    listener.close()
    assert not any(received), received


def forged(what, platform, rest, directory):
    """(task, attempt, envelope) of a delivery that exec must refuse, made of one that is another agent's."""
    other = Leased(platform, rest, directory / "other")
    task_id, envelope = other.task_id, other.envelope
    if what == "a changed envelope":
        envelope = envelope[:-1] + bytes([envelope[-1] ^ 1])
    elif what == "no envelope at all":
        envelope = b"\x30\x80" + b"\x00" * 300
    elif what == "an envelope that somebody else signed":
        stranger = Authority(directory / "stranger")
        envelope = cms_sign(envelope, ENVELOPE_CONTENT, stranger.key, stranger.certificate, directory)
    return task_id, 1, envelope


def refusals(rest, agent_id):
    return rest.get("/api/v1/alerts", kind="TASK_REFUSED", agentId=agent_id)["alerts"]


def rejected(rest, agent_id):
    """The alert that the agent's report became."""
    return next((a for a in refusals(rest, agent_id) if a["entityId"] == f"{agent_id}/order"), None)


def delivery(task_id, attempt, lease, envelope):
    return pb.encode((1, task_id), (2, attempt), (3, lease), (4, envelope))


def said_by_a_taken_gateway(platform, host, take_over, what, then):
    """The agent gets the delivery from a gateway that was taken over, and is heard by the honest one, which is back at the address, while
    `then` waits for what comes of it."""
    gateway = take_over(deliveries=[delivery(*what)])
    host.use_gateway(f"{HOST}:{gateway.port}")
    host.agent.start()
    wait_until("the agent to send what came of it", lambda: any(path.endswith("/result") for path, _ in gateway.seen), 30)
    assert not any(path.endswith("/sign") for path, _ in gateway.seen)
    gateway.stop()
    relay = Relay(gateway.port, platform.ports["agent"])
    try:
        return then()
    finally:
        relay.stop()


@pytest.mark.parametrize("what", ["a changed envelope", "an envelope for another agent", "no envelope at all",
                                  "an envelope that somebody else signed"])
def test_exec_refuses_and_the_platform_is_told_of(what, platform, host, rest, take_over, tmp_path):
    before, reloads = fingerprint(host.nginx.served()), host.nginx.reloads()
    host.agent.stop()
    task_id, attempt, envelope = forged(what, platform, rest, tmp_path)
    alert = said_by_a_taken_gateway(platform, host, take_over, (task_id, attempt, 1, envelope), lambda: wait_until(
        "the alert", lambda: rejected(rest, host.id), 60, process=host.agent.process))
    assert host.nginx.reloads() == reloads and fingerprint(host.nginx.served()) == before
    assert host.agent.process.running()
    assert "not genuine" in alert["message"] or "cannot open" in alert["message"], alert
    assert rest.task(task_id)["state"] in ("LEASED", "RUNNING")
    wait_until("it to be in the audit log", lambda: rest.get(
        "/api/v1/audit/records", action="task.order_rejected", agentId=host.id)["entries"], 20)


# ---- what the tasks service signed itself: kept and sent again, or made under another's control -------------------


class Kept:
    """A task of the host that somebody on the way leased in its name while it was stopped, and keeps."""

    def __init__(self, platform, rest, host, directory):
        host.agent.stop()
        self.host, self.platform, self.dir = host, platform, directory
        created = rest.create_task(host.id, "VALIDATE", {"certificatePath": str(host.nginx.certificate)})["id"]
        thief = Peer.of_agent(platform, host.id, host.agent.state, directory)
        self.task_id, self.attempt, self.lease, self.envelope = thief.lease()
        thief.link.close()
        assert self.task_id == created

    def delivery(self, envelope=None):
        return self.task_id, self.attempt, self.lease, envelope or self.envelope

    def altered(self, *fields):
        """The same order with other fields, signed by the tasks service."""
        key, certificate = self.host.agent.task_identity()
        order = envelope_open(self.envelope, self.platform.roots, key, certificate, self.dir)
        for number, value in fields:
            order = pb.replace(order, number, value)
        return EnvelopeSigner(self.platform, self.dir / "signer").seal(order, certificate)


@pytest.fixture
def kept(platform, rest, host, tmp_path):
    return Kept(platform, rest, host, tmp_path / "kept")


TASK, ATTEMPT, AGENT, GENERATION, NOT_BEFORE, NOT_AFTER, SCOPE = 1, 2, 3, 4, 5, 6, 9
HOUR = 3600 * 1000
SOMEBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
NOT_GENUINE = {
    "expired": ((NOT_BEFORE, lambda now: now - 2 * HOUR), (NOT_AFTER, lambda now: now - HOUR), "it is no longer valid"),
    "made for tomorrow": ((NOT_BEFORE, lambda now: now + HOUR), (NOT_AFTER, lambda now: now + 2 * HOUR), "it is not valid yet"),
    "for another agent": ((AGENT, lambda now: SOMEBODY), "it is for another agent"),
    "for another generation": ((GENERATION, lambda now: 7), "it is for generation 7"),
    "of another task": ((TASK, lambda now: SOMEBODY), "it is for another task"),
    "of another attempt": ((ATTEMPT, lambda now: 9), "it is for attempt 9"),
}


@pytest.mark.parametrize("what", NOT_GENUINE)
def test_exec_refuses_a_signed_order(what, platform, rest, host, kept, take_over):
    *fields, reason = NOT_GENUINE[what]
    now = int(time.time() * 1000)
    envelope = kept.altered(*((number, value(now)) for number, value in fields))
    alert = said_by_a_taken_gateway(platform, host, take_over, kept.delivery(envelope), lambda: wait_until(
        "the alert", lambda: rejected(rest, host.id), 60, process=host.agent.process))
    assert "not genuine" in alert["message"] and reason in alert["message"], alert


def test_exec_refuses_a_replayed_order(platform, rest, host, kept, take_over):
    """The very envelope, once more, when the platform has the receipt: it is not run again."""
    task = said_by_a_taken_gateway(platform, host, take_over, kept.delivery(), lambda: rest.wait_task(kept.task_id))
    assert task["state"] == "SUCCEEDED", task
    wait_until("the agent to know that the receipt is there", lambda: "receipt acknowledged" in host.agent.process.text(), 60)
    host.agent.stop()
    alert = said_by_a_taken_gateway(platform, host, take_over, kept.delivery(), lambda: wait_until(
        "the alert", lambda: rejected(rest, host.id), 60, process=host.agent.process))
    assert "it was replayed" in alert["message"], alert
    assert rest.task(kept.task_id)["state"] == "SUCCEEDED"


REFUSED = {
    "outside its scope": ((4,), 1, "the agent's scope does not allow validate"),
    "with an older scope than was seen": ((1, 2, 3, 4), 0, "an older scope is refused"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_exec_refuses_and_ends_an_order(what, platform, rest, host, kept, take_over):
    operations, version, reason = REFUSED[what]
    [[epoch]] = platform.sql("SELECT epoch FROM registry.platform")
    (host.agent.state / "scope").write_text(f"{epoch} 1\n")  # as after the first order under the host's scope
    scope = pb.encode(*((1, operation) for operation in operations), (4, version))
    task = said_by_a_taken_gateway(platform, host, take_over, kept.delivery(kept.altered((SCOPE, scope))),
                                   lambda: rest.wait_task(kept.task_id))
    assert task["state"] == "FAILED" and reason in task["message"], task
    alert = wait_until("the alert", lambda: next((a for a in refusals(rest, host.id) if reason in a["message"]), None), 30)
    assert alert["state"] == "OPEN", alert
