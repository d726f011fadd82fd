"""Who may be an agent: tokens that work once, and certificates that the gateway lets in."""
import datetime
import ssl
import threading
import uuid

import pytest

from clm.process import run, wait_until
from support import pb
from support.peer import Link, Peer, error_text
from support.pki import OID, Authority, csr, from_pem, new_key, to_pem

CONCURRENT, KEYS = 1000, 25
AGENT_EXTENSIONS = ("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                    f"extendedKeyUsage=clientAuth,{OID}.1.1\nsubjectAltName=URI:spiffe://clm.test/agent/%s")


def utc(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%y%m%d%H%M%SZ")


@pytest.fixture
def token(rest):
    """(agent id, token) of a fresh registration"""
    answer = rest.register(f"peer-{uuid.uuid4().hex[:8]}", operations=["RENEW", "VALIDATE", "DISCOVER"],
                           dns_names=["www.example.com"], paths=["/etc/nginx/**"])
    return answer["agent"]["id"], answer["token"]


@pytest.fixture
def peer(platform, token, tmp_path):
    """A confirmed identity, by hand."""
    peer = Peer(platform, *token, tmp_path / "peer")
    status, answer = peer.bootstrap()
    assert status == 200, error_text(answer)
    status, answer = peer.connect().confirm()
    assert status == 200, error_text(answer)
    return peer


def at_once(platform, bodies):
    """POSTs all bodies at the same moment, each on a connection of its own; (status, answer) of each."""
    links = [Link(platform) for _ in bodies]
    for link in links:
        link.connect()
    barrier, answers = threading.Barrier(len(bodies)), [None] * len(bodies)

    def post(i):
        barrier.wait()
        answers[i] = links[i].call("/agent/v1/bootstrap", bodies[i])
    threads = [threading.Thread(target=post, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for link in links:
        link.close()
    assert all(answers), "somebody got no answer"
    return answers


def identities(platform, agent_id):
    return int(platform.sql(f"SELECT count(*) FROM bootstrap.identity WHERE agent_id = '{agent_id}'")[0][0])


# ---- tokens ---------------------------------------------------------------------------------------------------


def test_a_token_gives_both_certificates_of_generation_0(platform, token, tmp_path):
    peer = Peer(platform, *token, tmp_path)
    status, answer = peer.bootstrap()
    assert status == 200, error_text(answer)
    assert answer[1] == [peer.id.encode()] and answer[2] == [0]
    assert answer[5] == from_pem(platform.roots.read_text())
    for file, purpose in ((peer.identity_crt, f"{OID}.1.1"), (peer.task_crt, f"{OID}.1.2")):
        text = run(["openssl", "x509", "-in", file, "-noout", "-text"]).stdout
        assert f"URI:spiffe://clm.test/agent/{peer.id}" in text and purpose in text
        assert "NIST CURVE: P-256" in text


def test_one_token_with_many_different_keys_at_once_gives_one_identity(platform, token, tmp_path):
    peer = Peer(platform, *token, tmp_path)
    bodies = [pb.replace(peer.bootstrap_body(), 2, csr(new_key(tmp_path / f"{i}.key"))) for i in range(KEYS)]
    answers = at_once(platform, [bodies[i % KEYS] for i in range(CONCURRENT)])
    assert len({answer[3][0] for status, answer in answers if status == 200}) <= 1
    assert all(400 <= status < 500 for status, _ in answers if status != 200), {status for status, _ in answers}
    assert identities(platform, peer.id) == 1


def test_one_token_with_the_same_keys_at_once_gives_the_same_certificates(platform, token, tmp_path):
    peer = Peer(platform, *token, tmp_path)
    answers = at_once(platform, [peer.bootstrap_body()] * CONCURRENT)
    given = {(answer[3][0], answer[4][0]) for status, answer in answers if status == 200}
    assert len(given) == 1
    assert all(status in (200, 429, 503) for status, _ in answers), {status for status, _ in answers}
    assert identities(platform, peer.id) == 1


def test_a_token_is_burnt_when_its_identity_is_confirmed(peer):
    status, answer = peer.bootstrap()
    assert 400 <= status < 500, status
    assert peer.token.secret_text not in error_text(answer)


@pytest.mark.parametrize("secret", ["", "A" * 43, "!" * 43, "A" * 4000])
def test_a_token_that_nobody_made_is_refused(secret, platform, token, tmp_path):
    peer = Peer(platform, *token, tmp_path)
    link = Link(platform)
    status, _ = link.call("/agent/v1/bootstrap", pb.replace(peer.bootstrap_body(), 1, secret))
    assert 400 <= status < 500, status
    assert identities(platform, peer.id) == 0


def bad_csrs(directory):
    good = csr(new_key(directory / "good.key"))
    rsa = directory / "rsa.key"
    run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", rsa])
    return {"a bad signature": good[:-1] + bytes([good[-1] ^ 1]), "nothing": b"", "rubbish": b"\x30\x82" * 50,
            "half of one": good[:len(good) // 2], "trailing bytes": good + b"\0", "an RSA key": csr(rsa)}


@pytest.mark.parametrize("which", ["a bad signature", "nothing", "rubbish", "half of one", "trailing bytes", "an RSA key"])
@pytest.mark.parametrize("field", [2, 3], ids=["identity", "task"])
def test_a_csr_is_refused_that_is(which, field, platform, token, tmp_path):
    peer = Peer(platform, *token, tmp_path)
    status, answer = Link(platform).call("/agent/v1/bootstrap",
                                         pb.replace(peer.bootstrap_body(), field, bad_csrs(tmp_path)[which]))
    assert 400 <= status < 500 and error_text(answer), (status, answer)
    assert identities(platform, peer.id) == 0
    # The token was not used up by it.
    assert peer.bootstrap()[0] == 200


@pytest.mark.parametrize("body", [b"", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe"])
def test_a_body_that_is_no_message_is_refused(body, platform):
    status, answer = Link(platform).call("/agent/v1/bootstrap", body)
    assert status == 400 and error_text(answer), (status, answer)


# ---- certificates ---------------------------------------------------------------------------------------------


def refused_in_the_handshake(link, *alerts):
    """With TLS 1.3 a client learns that it was refused at its first read."""
    with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
        link.call("/agent/v1/checkin", b"")
    text = str(refused.value).lower().replace("_", " ")
    assert not alerts or any(alert in text for alert in alerts), text


def test_without_a_certificate_nothing_but_bootstrap_is_served(platform):
    for path in ("/agent/v1/checkin", "/agent/v1/certificates/sign",
                 "/agent/v1/tasks/01890a5d-ac96-774b-bcce-b302099a8057/result"):
        status, answer = Link(platform).call(path, pb.encode((1, 0)))
        assert status in (401, 403), (path, status, answer)


def test_a_certificate_of_another_ca_is_refused(platform, peer, tmp_path):
    other = Authority(tmp_path / "ca")
    key = new_key(tmp_path / "key")
    der = other.issue(csr(key), AGENT_EXTENSIONS % peer.id, utc(-1), utc(1))
    (tmp_path / "crt").write_text(to_pem(der))
    refused_in_the_handshake(Link(platform, tmp_path / "crt", key), "unknown ca")


def test_an_expired_certificate_of_our_own_ca_is_refused(platform, peer, tmp_path):
    agents = Authority.of_platform(platform, "agents", tmp_path / "ca")
    subject = f"/serialNumber=0/CN={peer.id}"
    for name, start, end in (("good", utc(-0.5), utc(0.5)), ("expired", utc(-2), utc(-1))):
        der = agents.issue(csr(peer.identity_key, subject), AGENT_EXTENSIONS % peer.id, start, end)
        (tmp_path / name).write_text(to_pem(der) + agents.certificate.read_text())
    status, answer = Link(platform, tmp_path / "good", peer.identity_key).call("/agent/v1/checkin", pb.encode(
        (1, 0), (2, peer.instance), (3, peer.instance), (4, 0), (6, 0), (11, 0)))
    assert status == 200, error_text(answer)  # it is the date alone that is wrong with the other one
    refused_in_the_handshake(Link(platform, tmp_path / "expired", peer.identity_key), "certificate expired")


def test_a_task_certificate_is_no_identity(platform, peer):
    refused_in_the_handshake(Link(platform, peer.task_crt, peer.task_key))


def test_a_services_certificate_is_no_agents_identity(platform):
    directory = platform.pki / "registry"
    refused_in_the_handshake(Link(platform, directory / "service.crt", directory / "service.key"))


def test_tls_1_2_is_refused_on_the_agent_listener(platform):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Link(platform, version=ssl.TLSVersion.TLSv1_2).call("/agent/v1/bootstrap", b"")


def test_a_disabled_agent_is_told_so_and_works_again_when_enabled(rest, peer):
    assert peer.checkin()[0] == 200
    rest.post(f"/api/v1/agents/{peer.id}:disable", {"reason": "test"})

    def told():
        try:
            status, answer = peer.checkin()
        except (ConnectionError, ssl.SSLError):
            peer.connect()
            return False
        return status == 403 and error_text(answer)
    assert "disabled" in wait_until("the agent to be refused", told, 10)
    rest.post(f"/api/v1/agents/{peer.id}:enable")
    wait_until("the agent to be let in", lambda: peer.checkin()[0] == 200, 10)
