"""An agent in Python that speaks the agent protocol by hand: what a taken-over net process or a stranger could send."""
import base64
import hashlib
import http.client
import socket
import ssl
import time
from pathlib import Path

from clm.ports import HOST
from support import pb
from support.pki import REQUEST_CONTENT, RECEIPT_CONTENT, cms_sign, csr, new_key, to_pem

PROTOBUF = "application/x-protobuf"
CONFIRM, SIGN = 1, 2


class Token:
    def __init__(self, text):
        kind, _, body = text.partition(".")
        assert kind == "clmt1", kind
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        self.pin, self.secret, self.gateway = raw[:32], raw[32:64], raw[64:].decode()
        self.secret_text = base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode()


class Link(http.client.HTTPConnection):
    """TLS 1.3 to the agent listener; the server is verified against the platform's root."""

    def __init__(self, platform, certificate=None, key=None, port=None, version=ssl.TLSVersion.TLSv1_3,
                 source=None, proxy=b""):
        """From the address `source`, with the bytes `proxy` before everything."""
        super().__init__(HOST, port or platform.ports["agent"], timeout=30)
        self.source, self.proxy = source, proxy
        self.context = ssl.create_default_context(cafile=platform.roots)
        self.context.check_hostname = False
        self.context.minimum_version = self.context.maximum_version = version
        if certificate:
            self.context.load_cert_chain(certificate, key)

    def connect(self):
        plain = socket.create_connection((self.host, self.port), self.timeout, (self.source, 0) if self.source else None)
        plain.sendall(self.proxy)
        self.sock = self.context.wrap_socket(plain, server_hostname=self.host)

    def call(self, path, body):
        """(HTTP status, decoded body or AgentError)"""
        self.request("POST", path, body, {"Content-Type": PROTOBUF})
        answer = self.getresponse()
        return answer.status, pb.decode(answer.read())


class Peer:
    """Bootstraps with a token; then holds both keys and certificates as files in `directory`."""

    def __init__(self, platform, agent_id, token, directory):
        self.platform, self.id, self.dir = platform, agent_id, Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.token = Token(token)
        self.identity_key, self.task_key = new_key(self.dir / "identity.key"), new_key(self.dir / "task.key")
        self.identity_crt, self.task_crt = self.dir / "identity.crt", self.dir / "task.crt"
        self.generation, self.hostname = None, "peer"
        self.instance = "01890a5d-ac96-774b-bcce-b302099a8057"
        self.link = None

    @classmethod
    def of_agent(cls, platform, agent_id, state, directory):
        """In the name of an agent whose state directory was copied; it is stopped meanwhile."""
        self = cls.__new__(cls)
        self.platform, self.id, self.dir, self.generation = platform, agent_id, Path(directory), 0
        self.dir.mkdir(parents=True, exist_ok=True)
        self.identity_key, self.identity_crt = state / "net" / "identity-0.key", state / "identity-0.pem"
        self.task_key, self.task_crt = state / "task-0.key", state / "task-0.pem"
        self.instance = "01890a5d-ac96-774b-bcce-b302099a8057"
        return self.connect()

    def bootstrap_body(self):
        facts = pb.encode((1, self.hostname), (2, "test"), (5, "0.1.0"))
        return pb.encode((1, self.token.secret_text), (2, csr(self.identity_key)), (3, csr(self.task_key)), (4, facts))

    def bootstrap(self, link=None):
        link = link or Link(self.platform)
        status, answer = link.call("/agent/v1/bootstrap", self.bootstrap_body())
        link.close()
        if status == 200:
            self.generation = answer.get(2, [0])[0]
            self.identity_crt.write_text("".join(to_pem(der) for der in answer[3]))
            self.task_crt.write_text("".join(to_pem(der) for der in answer[4]))
        return status, answer

    def signed(self, *fields, purpose, key=None, certificate=None):
        """CMS over a SignedRequest by the task key (or another)."""
        body = pb.encode((1, purpose), (2, self.id), (3, self.generation), *fields, (7, int(time.time() * 1000)))
        return cms_sign(body, REQUEST_CONTENT, key or self.task_key, certificate or self.task_crt, self.dir)

    def receipt(self, task_id, attempt, lease, outcome, result, key=None, certificate=None, **more):
        now = int(time.time() * 1000)
        body = pb.encode((1, more.get("agent_id", self.id)), (2, task_id), (3, attempt), (4, lease), (5, self.generation),
                         (6, outcome), (8, "by hand"), (9, now), (10, now), (11, 1),
                         (12, hashlib.sha256(result).digest()))
        return cms_sign(body, RECEIPT_CONTENT, key or self.task_key, certificate or self.task_crt, self.dir)

    def connect(self):
        self.link = Link(self.platform, self.identity_crt, self.identity_key)
        return self

    def checkin(self, *fields, hold_ms=0, free_slots=2):
        return self.link.call("/agent/v1/checkin", pb.encode(
            (1, self.generation), (2, self.instance), (3, self.instance), (4, int(time.time() * 1000)), (6, free_slots),
            *fields, (11, hold_ms)))

    def confirm(self):
        """The first check-in of a generation."""
        status, answer = self.checkin((10, self.signed(purpose=CONFIRM)))
        return status, answer

    def lease(self, timeout=20):
        """The first delivery that comes: (task id, attempt, lease, envelope)."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            status, answer = self.checkin(hold_ms=2000)
            assert status == 200, (status, answer)
            for delivery in answer.get(1, []):
                fields = pb.decode(delivery)
                return fields[1][0].decode(), fields[2][0], fields[3][0], fields[4][0]
        raise AssertionError(f"no task came within {timeout} s")

    def sign(self, request):
        return self.link.call("/agent/v1/certificates/sign", pb.encode((1, request)))

    def result(self, task_id, attempt, data, receipt, page=1):
        return self.link.call(f"/agent/v1/tasks/{task_id}/result",
                              pb.encode((1, attempt), (2, page), (3, data), (4, receipt)))


def error_text(answer):
    """The message of an AgentError."""
    return answer.get(2, [b""])[0].decode(errors="replace")
