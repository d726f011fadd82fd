"""Who is turned away, where, and with which reason: by every gateway, and by one that has a session of theirs to resume."""
import datetime
import http.client
import re
import socket
import ssl

import pytest

from clm.platform import HOST
from clm.process import run, wait_until
from clm.replicas import Replica
from support import pb
from support.peer import Link, Peer, error_text
from support.pki import OID, Authority, csr, new_key, to_pem

FORM = ("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        f"extendedKeyUsage=clientAuth,{OID}.1.1\n")


def utc(hours):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)).strftime("%y%m%d%H%M%SZ")


@pytest.fixture
def peer(platform, admin, tmp_path):
    answer = admin.register("refused", operations=["VALIDATE"])
    peer = Peer(platform, answer["agent"]["id"], answer["token"], tmp_path / "peer")
    assert peer.bootstrap()[0] == 200
    status, answer = peer.connect().confirm()
    assert status == 200, error_text(answer)
    return peer


@pytest.fixture(scope="module")
def gateways(platform):
    """Agent ports of three gateways of one platform."""
    further = [Replica(platform, "gateway", number).start().wait_ready() for number in (2, 3)]
    yield [platform.ports["agent"], *(replica.ports["agent"] for replica in further)]
    for replica in further:
        replica.stop()


def hold(link, peer):
    """A check-in that is held; answered or cut later."""
    body = pb.encode((1, peer.generation), (2, peer.instance), (3, peer.instance), (6, 1), (11, 30000))
    link.request("POST", "/agent/v1/checkin", body, {"Content-Type": "application/x-protobuf"})


def was_cut(link):
    link.sock.settimeout(20)
    try:
        answer = link.getresponse()
        return answer.status == 403
    except (ConnectionError, ssl.SSLError, http.client.HTTPException):
        return True


def resume(platform, peer, port, session):
    """A connection that offers the session; (was it taken, the answer's status)."""
    link = Link(platform, peer.identity_crt, peer.identity_key, port=port)
    link.context = session[0]  # a session belongs to its context
    plain = socket.create_connection((HOST, port), 30)
    link.sock = link.context.wrap_socket(plain, server_hostname=HOST, session=session[1])
    reused = link.sock.session_reused
    status, _ = link.call("/agent/v1/checkin", pb.encode((1, peer.generation), (2, peer.instance), (3, peer.instance), (6, 0), (11, 0)))
    link.close()
    return reused, status


def session_of(platform, peer, port):
    link = Link(platform, peer.identity_crt, peer.identity_key, port=port)
    assert link.call("/agent/v1/checkin", pb.encode((1, peer.generation), (2, peer.instance), (3, peer.instance), (6, 0), (11, 0)))[0] == 200
    session = (link.context, link.sock.session)
    link.close()
    return session


def test_a_disabled_agent_is_cut_from_every_gateway_and_resumes_nowhere(platform, admin, peer, gateways):
    links = [Link(platform, peer.identity_crt, peer.identity_key, port=port) for port in gateways]
    sessions = [session_of(platform, peer, port) for port in gateways]
    for port, session in zip(gateways, sessions):
        assert resume(platform, peer, port, session) == (True, 200)
    sessions = [session_of(platform, peer, port) for port in gateways]
    for link in links:
        hold(link, peer)
    admin.post(f"/api/v1/agents/{peer.id}:disable", {"reason": "test"})
    assert all(was_cut(link) for link in links)
    for port, session in zip(gateways, sessions):
        assert resume(platform, peer, port, session)[1] == 403
    admin.post(f"/api/v1/agents/{peer.id}:enable")

    def let_in():
        return all(Link(platform, peer.identity_crt, peer.identity_key, port=port).call("/agent/v1/checkin", pb.encode(
            (1, peer.generation), (2, peer.instance), (3, peer.instance), (6, 0), (11, 0)))[0] == 200 for port in gateways)
    wait_until("every gateway to let it in again", let_in, 20)


def test_a_revoked_agent_is_refused_in_the_handshake_on_resumption_too(platform, admin, peer, gateways):
    sessions = [session_of(platform, peer, port) for port in gateways]
    admin.post(f"/api/v1/agents/{peer.id}:revoke")
    for port, session in zip(gateways, sessions):
        def refused(port=port):
            try:
                Link(platform, peer.identity_crt, peer.identity_key, port=port).call("/agent/v1/checkin", b"")
            except ssl.SSLError as error:
                return "revoked" in str(error).lower()
            except ConnectionError:
                return False
            return False
        wait_until("the alert certificate_revoked", refused, 20)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            resume(platform, peer, port, session)


# ---- many connections ----

def asks(platform, port, source, *identity):
    """A connection that goes on after its first answer; None: it was closed at once."""
    link = Link(platform, *identity, port=port, source=source)
    try:
        link.request("POST", "/agent/v1/checkin", b"", {"Content-Type": "application/x-protobuf"})
        answer = link.getresponse()
        answer.read()
        return link
    except (ConnectionError, ssl.SSLError, http.client.HTTPException):
        link.close()
        return None


def test_who_shows_no_certificate_gets_a_share_of_the_connections(platform, peer):
    """A quarter of them, an eighth for one source; agents that show theirs have the rest."""
    replica = Replica(platform, "gateway", 4)
    conf = platform.conf_dir / "gateway-4.conf"
    text = re.sub(r"(?m)^(threads|max_connections) *=.*\n", "", conf.read_text())
    conf.write_text(text.replace("[gateway]\n", "[gateway]\nthreads = 1\nmax_connections = 127\n"))
    port = replica.ports["agent"]
    replica.start().wait_ready()
    try:
        first = [asks(platform, port, "127.0.0.2") for _ in range(20)]
        assert [link is not None for link in first] == [True] * 16 + [False] * 4
        second = [asks(platform, port, "127.0.0.3") for _ in range(20)]
        assert [link is not None for link in second] == [True] * 16 + [False] * 4
        assert asks(platform, port, "127.0.0.4") is None, "all of them together"
        assert asks(platform, port, "127.0.0.2", peer.identity_crt, peer.identity_key), "an agent that shows its certificate"
        first[0].close()
        assert wait_until("its place to be free", lambda: asks(platform, port, "127.0.0.2"), 10)
    finally:
        replica.stop()


# ---- certificates that are almost right ----

def refused(platform, certificate, key, reason):
    """In the handshake, and the gateway says why."""
    log = platform.log_dir / "gateway.log"
    before = len(log.read_text(errors="replace"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Link(platform, certificate, key).call("/agent/v1/checkin", b"")

    def said():
        lines = [line for line in log.read_text(errors="replace")[before:].splitlines() if "handshake refused" in line]
        return lines and re.search(reason, lines[-1]) and lines[-1]
    assert wait_until(f"the gateway to say {reason!r}", said, 10)


WRONG_SANS = {
    "of another trust domain": ("URI:spiffe://elsewhere.test/agent/{id}", "not the identity of an agent of clm.test"),
    "of a service": ("URI:spiffe://clm.test/service/registry", "not the identity of an agent"),
    "of no agent's id": ("URI:spiffe://clm.test/agent/somebody", "not the identity of an agent"),
    "of a host": ("DNS:gateway.clm.test", "URI"),
    "of two agents": ("URI:spiffe://clm.test/agent/{id},URI:spiffe://clm.test/agent/01890a5d-ac96-774b-bcce-b302099a8057", "URI"),
    "of an agent that nobody registered": ("URI:spiffe://clm.test/agent/01890a5d-ac96-774b-bcce-b302099a8057", "not registered here"),
}


@pytest.mark.parametrize("which", WRONG_SANS)
def test_a_certificate_of_our_own_ca_with_the_name(which, platform, peer, tmp_path):
    san, reason = WRONG_SANS[which]
    agents = Authority.of_platform(platform, "agents", tmp_path / "ca")
    der = agents.issue(csr(peer.identity_key, f"/serialNumber=0/CN={peer.id}"), FORM + f"subjectAltName={san.format(id=peer.id)}",
                       utc(-1), utc(1))
    (tmp_path / "crt").write_text(to_pem(der) + agents.certificate.read_text())
    refused(platform, tmp_path / "crt", peer.identity_key, reason)


def test_a_certificate_of_another_ca_is_refused_for_that(platform, peer, tmp_path):
    other = Authority(tmp_path / "ca")
    der = other.issue(csr(peer.identity_key, f"/serialNumber=0/CN={peer.id}"),
                      FORM + f"subjectAltName=URI:spiffe://clm.test/agent/{peer.id}", utc(-1), utc(1))
    (tmp_path / "crt").write_text(to_pem(der) + other.certificate.read_text())
    refused(platform, tmp_path / "crt", peer.identity_key, "issuer certificate|self.signed")


@pytest.mark.parametrize("ca", ["agents", "services", "root"])
def test_a_ca_certificate_is_no_client_certificate(ca, platform, tmp_path):
    """With its own key: what a stolen CA key is good for without a certificate that it signed."""
    directory = platform.pki / "ca"
    run(["openssl", "pkey", "-in", directory / f"{ca}.key", "-passin", f"file:{directory}/passphrase", "-out", tmp_path / "key"])
    refused(platform, directory / f"{ca}.crt", tmp_path / "key", "")


def test_a_forged_csr_is_refused_for_its_signature(platform, admin, tmp_path):
    """Its key is another's: whoever sends it cannot sign for it."""
    answer = admin.register("forged")
    peer = Peer(platform, answer["agent"]["id"], answer["token"], tmp_path)
    mine, others = csr(peer.identity_key), csr(new_key(tmp_path / "other.key"))
    forged = others[:-64] + mine[-64:]  # the other's request under a signature of ours
    status, answer = Link(platform).call("/agent/v1/bootstrap", pb.replace(peer.bootstrap_body(), 2, forged))
    assert status == 400 and "CSR" in error_text(answer), (status, error_text(answer))
    assert peer.bootstrap()[0] == 200
