"""Bootstrap tokens that are for some hosts only, and what happens to those that are not valid."""
import socket
import struct

import pytest

from clm.process import run, wait_until
from clm.rest import RestError
from conftest import BALANCER
from support.peer import Link, Peer, error_text

INSIDE, OUTSIDE = "198.51.100.7", "203.0.113.7"


def proxy_header(source, command=0x21):
    addresses = socket.inet_aton(source) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 40000, 8443)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes((command, 0x11)) + struct.pack("!H", len(addresses)) + addresses


def behind(platform, source, **more):
    return Link(platform, source=BALANCER, proxy=proxy_header(source), **more)


@pytest.fixture
def make_peer(platform, rest, tmp_path):
    def make(**token):
        answer = rest.register("bound", **token)
        return Peer(platform, answer["agent"]["id"], answer["token"], tmp_path)
    return make


def assert_refused(peer, link=None):
    """As every other token that is not valid."""
    status, answer = peer.bootstrap(link)
    assert status == 401 and "not valid" in error_text(answer), (status, answer)



def test_a_token_for_hostnames_is_refused_elsewhere(make_peer, rest, platform):
    peer = make_peer(tokenHostnamePattern="web-*.example.com")
    peer.hostname = "db-1.example.com"
    assert_refused(peer)
    assert rest.get(f"/api/v1/agents/{peer.id}/tokens")["tokens"][0]["hostnamePattern"] == "web-*.example.com"
    peer.hostname = "web-1.example.com"
    assert peer.bootstrap()[0] == 200


def test_a_token_for_a_network_needs_the_balancers_word(make_peer, platform, rest):
    peer = make_peer(tokenSourceCidr="198.51.100.0/24")
    assert_refused(peer)  # from this host, as it is
    assert_refused(peer, behind(platform, OUTSIDE))
    local = Link(platform, source=BALANCER, proxy=proxy_header(INSIDE, command=0x20))  # the balancer's own check
    assert_refused(peer, local)
    forged = Link(platform, proxy=proxy_header(INSIDE))  # not from the balancer
    with pytest.raises(OSError):
        peer.bootstrap(forged)
    assert peer.bootstrap(behind(platform, INSIDE))[0] == 200
    assert rest.get(f"/api/v1/agents/{peer.id}/tokens")["tokens"][0]["sourceCidr"] == "198.51.100.0/24"


def test_an_agent_lives_behind_a_balancer(make_peer, platform):
    peer = make_peer()
    assert peer.bootstrap(behind(platform, INSIDE))[0] == 200
    peer.link = behind(platform, INSIDE, certificate=peer.identity_crt, key=peer.identity_key)
    assert peer.confirm()[0] == 200


@pytest.mark.parametrize("bounds", [{"tokenHostnamePattern": "web *"}, {"tokenSourceCidr": "10.1.2.3/16"},
                                    {"tokenSourceCidr": "example.com"}])
def test_bounds_that_nothing_meets_are_refused_before_anything_is_made(bounds, rest):
    before = rest.get("/api/v1/dashboard")["total"]
    with pytest.raises(RestError) as refused:
        rest.register("nothing", **bounds)
    assert refused.value.status == 400 and next(iter(bounds)) in str(refused.value)
    assert rest.get("/api/v1/dashboard")["total"] == before


def test_every_refused_token_is_in_the_audit_log_with_its_source(make_peer, platform, rest):
    peer = make_peer(tokenSourceCidr="198.51.100.0/24")
    assert_refused(peer, behind(platform, OUTSIDE))

    def recorded():
        entries = rest.get(f"/api/v1/audit/records?action=token.refused&agentId={peer.id}").get("entries", [])
        return [entry for entry in entries if OUTSIDE in str(entry)]
    assert "source" in str(wait_until("the refusal to be recorded", recorded, 20))


def test_clmctl_binds_a_token(platform, rest, tmp_path):
    done = run([platform.bin / "clmctl", "agents", "register", "cli-bound", "--token-host", "cli-*", "--token-source",
                "198.51.100.0/24", "--token-file", tmp_path / "token"], env={"CLMCTL_CONFIG": str(platform.clmctl_config)})
    agent_id = done.stderr.split()[1]
    token = rest.get(f"/api/v1/agents/{agent_id}/tokens")["tokens"][0]
    assert token["hostnamePattern"] == "cli-*" and token["sourceCidr"] == "198.51.100.0/24"
