"""Revocation lists as anybody gets and judges them: by curl's means and openssl's."""
import ssl
import urllib.request

import pytest

from clm.platform import HOST
from clm.process import run, wait_until
from conftest import CRL_URL
from support.peer import Peer, error_text
from support.pki import from_pem, to_pem


def fetch(platform, name="agents", port="operator"):
    context = ssl.create_default_context(cafile=platform.roots)
    host = "localhost" if port == "operator" else HOST
    with urllib.request.urlopen(f"https://{host}:{platform.ports[port]}/crl/{name}.crl", context=context, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read()


def listed(platform):
    """Once every list is there."""
    def there():
        try:
            return fetch(platform)
        except OSError:
            return None
    return wait_until("the gateway to have a revocation list", there, 30)


def verify(platform, certificate, directory):
    """openssl verify -crl_check"""
    (directory / "crl.der").write_bytes(fetch(platform)[1])
    run(["openssl", "crl", "-inform", "DER", "-in", directory / "crl.der", "-out", directory / "crl.pem"])
    return run(["openssl", "verify", "-crl_check", "-CAfile", platform.roots, "-untrusted", platform.pki / "ca" / "agents.crt",
                "-CRLfile", directory / "crl.pem", certificate], check=False)


@pytest.fixture
def make_peer(platform, admin, tmp_path):
    def make(name):
        answer = admin.register(name, operations=["VALIDATE"])
        peer = Peer(platform, answer["agent"]["id"], answer["token"], tmp_path / name)
        assert peer.bootstrap()[0] == 200
        status, answer = peer.connect().confirm()
        assert status == 200, error_text(answer)
        for name in ("identity", "task"):
            leaf = peer.dir / f"{name}.leaf"
            leaf.write_text(to_pem(from_pem(getattr(peer, f"{name}_crt").read_text())[0]))
        return peer
    return make


@pytest.mark.parametrize("port", ["operator", "agent"])
@pytest.mark.parametrize("name", ["agents", "services", "envelope", "managed"])
def test_each_issuing_ca_has_a_list_for_everybody_on_both_listeners(name, port, platform, tmp_path):
    listed(platform)
    media_type, der = fetch(platform, name, port)
    assert media_type == "application/pkix-crl"
    (tmp_path / "crl").write_bytes(der)
    done = run(["openssl", "crl", "-inform", "DER", "-in", tmp_path / "crl", "-noout", "-text", "-CAfile", platform.pki / "ca" / f"{name}.crt"])
    assert "verify OK" in done.stdout + done.stderr and "X509v3 CRL Number" in done.stdout


@pytest.mark.parametrize("path", ["/crl/root.crl", "/crl/", "/crl/agents", "/crl/agents.crl/x"])
def test_there_are_no_others(path, platform):
    context = ssl.create_default_context(cafile=platform.roots)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"https://localhost:{platform.ports['operator']}{path}", context=context, timeout=10)
    assert refused.value.code in (401, 404)


def test_a_revoked_agents_certificates_are_on_the_list(platform, admin, make_peer, tmp_path):
    listed(platform)
    bad, good = make_peer("bad"), make_peer("good")
    assert verify(platform, bad.dir / "identity.leaf", tmp_path).returncode == 0
    admin.post(f"/api/v1/agents/{bad.id}:revoke")
    for name in ("identity", "task"):
        done = wait_until(f"the {name} certificate to be listed", lambda n=name: next(
            (d for d in [verify(platform, bad.dir / f"{n}.leaf", tmp_path)] if d.returncode != 0), None), 40)
        assert "certificate revoked" in done.stdout + done.stderr
    assert verify(platform, good.dir / "identity.leaf", tmp_path).returncode == 0
    identity = admin.get(f"/api/v1/agents/{bad.id}/identities")["identities"][0]
    assert identity["state"] == "REVOKED" and "revokedAt" in identity


def test_certificates_say_where_the_list_is(make_peer):
    text = run(["openssl", "x509", "-in", make_peer("points").dir / "identity.leaf", "-noout", "-text"]).stdout
    assert f"URI:{CRL_URL}/agents.crl" in text


def test_identities_are_shown_with_serial_fingerprint_and_life(platform, admin, make_peer):
    peer = make_peer("shown")
    identity = admin.get(f"/api/v1/agents/{peer.id}/identities")["identities"][0]
    text = run(["openssl", "x509", "-in", peer.dir / "identity.leaf", "-noout", "-serial", "-fingerprint", "-sha256"]).stdout
    assert f"serial={identity['serial'].upper()}" in text
    assert identity["fingerprintSha256"].upper() in text.replace(":", "")
    assert identity["generation"] == 0 and identity["state"] == "CURRENT" and identity["tokenId"]
    assert identity["issuedAt"] <= identity["confirmedAt"] < identity["notAfterAt"]
    done = run([platform.bin / "clmctl", "agents", "get", peer.id], env={"CLMCTL_CONFIG": str(platform.clmctl_config)})
    assert identity["serial"] in done.stdout and "CURRENT" in done.stdout
