"""What scans find becomes the inventory, which operators list."""
import pytest

from clm.host import fingerprint
from clm.platform import write
from clm.process import run, wait_until
from conftest import Host


@pytest.fixture(scope="module")
def host(platform, scratch):
    host = Host(platform, scratch / "discovery", "discovery")
    rest = platform.rest()
    host.start(rest)
    yield host
    rest.close()
    host.stop()


def certificates(rest, **query):
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return rest.get(f"/api/v1/certificates?{text}").get("certificates", [])


def test_scans_fill_the_inventory_and_replace_what_is_gone(host, rest):
    served = fingerprint(host.nginx.served())
    copy = host.nginx.dir / "copy.pem"
    copy.write_bytes(host.nginx.certificate.read_bytes())
    task = rest.run_task(host.id, "DISCOVER", {"roots": [str(host.nginx.dir)]})
    assert task["state"] == "SUCCEEDED", task

    def known():
        return certificates(rest, agentId=host.id, fingerprintSha256=served)
    view = wait_until("the inventory", known)[0]
    places = {(p["source"], p["place"]): p for p in view["places"]}
    assert ("FILE", str(copy)) in places and ("FILE", str(host.nginx.certificate)) in places
    listener = places["LISTENER", f"127.0.0.1:{host.nginx.port}"]
    assert listener["served"] and listener["process"] == "nginx" and listener["hostname"]
    assert view["served"] and view["agentCount"] == 1
    assert certificates(rest, agentId=host.id, served="false", fingerprintSha256=served) == []
    assert certificates(rest, agentId=host.id, issuer="nobody") == []

    # The dashboard counts the inventory by time to expiry, and what of it is served.
    ends = rest.get("/api/v1/dashboard")["certificatesByEnd"]
    assert [end.get("withinSec") for end in ends] == [0, 86400, 604800, 2592000, 7776000, None], ends
    assert sum(end["n"] for end in ends) >= 1 and sum(end["served"] for end in ends) >= 1, ends

    copy.unlink()
    assert rest.run_task(host.id, "DISCOVER", {"roots": [str(host.nginx.dir)]})["state"] == "SUCCEEDED"
    wait_until("the copy to be gone", lambda: all(p["place"] != str(copy) for p in known()[0]["places"]))
    assert ("FILE", str(host.nginx.certificate)) in {(p["source"], p["place"]) for p in known()[0]["places"]}


def places_of(rest, host, fingerprint_sha256):
    return {(p["source"], p["place"], p.get("serverName", "")): p
            for view in certificates(rest, agentId=host.id, fingerprintSha256=fingerprint_sha256) for p in view["places"]}


def test_what_was_deployed_is_in_the_inventory_at_once(host, rest):
    """No scan has to come by: the receipt of the deployment says what lies at the target and what is served."""
    before = fingerprint(host.nginx.served())
    assert rest.run_task(host.id, "DISCOVER", {"roots": [str(host.nginx.dir)]})["state"] == "SUCCEEDED"
    was = wait_until("the former one", lambda: places_of(rest, host, before))
    listener = f"127.0.0.1:{host.nginx.port}"
    assert {("FILE", str(host.nginx.certificate), ""), ("LISTENER", listener, ""), ("LISTENER", listener, host.nginx.name)} <= set(was)
    task = rest.run_task(host.id, "RENEW", {"target": "nginx"})
    assert task["state"] == "SUCCEEDED", task
    after = task["result"]["fingerprintAfterSha256"]
    now = wait_until("the new one", lambda: places_of(rest, host, after))
    assert set(now) == set(was), now
    assert now["FILE", str(host.nginx.certificate), ""]["keyPath"] == str(host.nginx.key)
    assert now["LISTENER", listener, ""]["process"] == "nginx" and all(p["served"] for p in now.values())
    assert not places_of(rest, host, before)
    views = certificates(rest, agentId=host.id, served="true", fingerprintSha256=after)
    assert len(views) == 1 and views[0]["certificate"]["dnsNames"] == [host.nginx.name]
    # A scan afterwards says the same.
    assert rest.run_task(host.id, "DISCOVER", {"roots": [str(host.nginx.dir)]})["state"] == "SUCCEEDED"
    assert set(places_of(rest, host, after)) == set(now)


def test_ranges_are_refused_unless_the_policy_holds_them(host, rest):
    task = rest.run_task(host.id, "DISCOVER", {"files": False, "ranges": ["127.0.0.0/30"],
                                              "ports": [host.nginx.port]})
    assert task["state"] == "SUCCEEDED", task
    found = task["result"]["certificates"]
    assert any(c["source"] == "NETWORK" and c["endpoint"] == f"127.0.0.1:{host.nginx.port}" for c in found), found
    task = rest.run_task(host.id, "DISCOVER", {"files": False, "ranges": ["192.0.2.0/30"]})
    assert task["state"] == "FAILED" and "probe_hosts" in task["message"], task


def test_clmctl_lists_them(host, platform, rest, tmp_path):
    served = fingerprint(host.nginx.served())
    wait_until("the inventory", lambda: certificates(rest, agentId=host.id, fingerprintSha256=served))
    write(tmp_path / "config", f"[clmctl]\ncontext = test\n[context test]\nurl = {platform.url}\nca = {platform.roots}\n"
          f"api_key_file = {platform.api_key_file}\n")
    done = run([platform.bin / "clmctl", "certificates", "list", "--agent", host.id, "--served", "true", "-o", "json"],
               env={"CLMCTL_CONFIG": str(tmp_path / "config")})
    assert str(host.nginx.certificate) in done.stdout and served in done.stdout


def test_by_hand_the_host_says_the_same(host, programs):
    done = run([programs / "clm-agent", "discover", "--config", host.agent.conf, "--state-dir", host.dir / "by-hand",
                "--root", host.nginx.dir, "--no-listening"])
    assert str(host.nginx.certificate) in done.stdout
    done = run([programs / "clm-agent", "validate", "--config", host.agent.conf, "--target", "nginx"], check=False)
    assert "key-match" in done.stdout and done.returncode == 0, done.stdout  # warnings only
