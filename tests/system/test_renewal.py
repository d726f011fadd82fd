"""The platform's own certificates renew themselves: nothing is restarted and no agent loses its connection."""
import datetime
import ssl

import pytest

from clm.platform import HOST, SERVICES, write
from clm.process import run, wait_until
from clm.rest import RestError
from conftest import start_platform
from support.peer import Peer, error_text
from support.pki import OID, Authority, csr, to_pem

LIFE_SEC = 30
SIGNING = (f"extendedKeyUsage=clientAuth,serverAuth,{OID}.1.3\nsubjectAltName=URI:spiffe://clm.test/service/%s")
TLS = f"extendedKeyUsage=serverAuth\nsubjectAltName=URI:spiffe://clm.test/service/gateway,DNS:localhost,IP:{HOST}"
COMMON = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"


def shorten(platform, directory):
    """In place of what init made: certificates that end in LIFE_SEC."""
    services = Authority.of_platform(platform, "services", directory)
    now = datetime.datetime.now(datetime.timezone.utc)
    start, end = ((now + datetime.timedelta(seconds=s)).strftime("%y%m%d%H%M%SZ") for s in (-300, LIFE_SEC))
    for key, subject, extensions, root in (
            *((platform.pki / name / "service.key", name, SIGNING % name, "") for name in SERVICES),
            (platform.pki / "gateway" / "tls.key", "gateway", TLS, platform.roots.read_text())):
        der = services.issue(csr(key, f"/CN={subject}"), COMMON + extensions, start, end)
        text = to_pem(der) + services.certificate.read_text() + root
        write(key.with_suffix(".crt"), text, 0o644, platform.user)


@pytest.fixture(scope="module")
def platform(make_platform, scratch):
    platform = make_platform("renewal")
    directory = scratch / "renewal-ca"

    def between(name):
        if name == "configuration":
            platform.write_config("bootstrap", {"bootstrap": {"service_life": f"{LIFE_SEC}s"}})
        if name == "certificate authorities":
            shorten(platform, directory)
    return start_platform(platform, between)


def renewed(platform, service, name, times):
    text = (platform.log_dir / f"{service}.log").read_text()
    return text.count(f"certificate renewed certificate={name}") >= times


def shown(platform, port):
    """SHA-256 of the certificate that the gateway shows there."""
    pem = ssl.get_server_certificate((HOST, platform.ports[port]))
    return run(["openssl", "x509", "-noout", "-fingerprint", "-sha256"], stdin=pem).stdout


def test_services_outlive_their_certificates(platform, rest, tmp_path):
    answer = rest.register("stays", operations=["VALIDATE"])
    peer = Peer(platform, answer["agent"]["id"], answer["token"], tmp_path)
    assert peer.bootstrap()[0] == 200
    status, answer = peer.connect().confirm()
    assert status == 200, error_text(answer)
    rest.wait_agent(peer.id, "ONLINE")
    connection, before = peer.link.sock, {port: shown(platform, port) for port in ("agent", "operator")}
    pids = {name: platform[name].pid for name in SERVICES}

    # Twice, so that nothing runs on what init made: it has ended by then.
    for name in SERVICES:
        wait_until(f"{name} to renew its identity twice", lambda n=name: renewed(platform, n, "identity", 2), 3 * LIFE_SEC)
    wait_until("the gateway to renew its TLS certificate twice", lambda: renewed(platform, "gateway", "tls", 2), 2 * LIFE_SEC)

    assert peer.checkin()[0] == 200 and peer.link.sock is connection
    assert rest.agent(peer.id)["status"] == "ONLINE"
    for port, former in before.items():
        assert shown(platform, port) != former
    assert rest.create_task(peer.id, "VALIDATE", {"endpoint": "127.0.0.1:1"})["state"] in ("READY", "SCHEDULED")
    assert {name: platform[name].pid for name in SERVICES} == pids
    for name in SERVICES:
        ready, said = platform.ready(name)
        assert ready, (name, said)
        assert 'clm_certificate_not_after_seconds{name="identity"}' in platform.metrics(name)


def test_a_restarted_service_goes_on_with_what_the_ca_gave_it(platform, rest):
    for name in ("registry", "gateway"):
        wait_until(f"{name} to have renewed", lambda n=name: renewed(platform, n, "identity", 2), 3 * LIFE_SEC)
        assert run(["openssl", "x509", "-noout", "-checkend", "0", "-in", platform.pki / name / "service.crt"],
                   check=False).returncode == 1, "what init made should have ended"
        platform[name].stop()
        platform[name].start()
    platform.wait_ready()
    assert rest.get("/api/v1/dashboard")["total"] >= 0


def test_a_kept_certificate_that_is_damaged_is_passed_over(platform):
    """Then the files count; those of init have ended, and the service says so instead of signing with them."""
    kept = platform.root / "state" / "tasks" / "identity.pem"
    good = kept.read_text()
    platform["tasks"].stop()
    write(kept, good[:200], 0o600, platform.user)
    platform["tasks"].start()
    wait_until("tasks to say it", lambda: "expired" in platform.ready("tasks")[1], 20)
    platform["tasks"].stop()
    write(kept, good, 0o600, platform.user)
    # Meanwhile it may have ended, too: the CA directory makes a new one, as an operator would.
    shorten(platform, platform.root / "again")
    platform["tasks"].start()
    platform.wait_ready("tasks")


def test_binding_a_token_to_a_network_needs_a_balancer(rest):
    with pytest.raises(RestError) as refused:
        rest.register("nowhere", tokenSourceCidr="198.51.100.0/24")
    assert refused.value.status in (400, 409, 412) and "proxy_protocol_from" in str(refused.value)
