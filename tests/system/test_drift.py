"""Served = intended, always: what differs on a host is an alert and an event within seconds, and over when it is mended."""
import shutil
import signal

import pytest

from clm.platform import write
from clm.process import Process, run, wait_until
from conftest import Host


@pytest.fixture(scope="module")
def host(platform, scratch):
    """What it serves was deployed by the agent."""
    host = Host(platform, scratch / "drift", "drift")
    rest = platform.rest()
    host.nginx.listen = "ssl reuseport"
    host.prepare()
    host.agent.change("[policy]", "[policy]\nwatch_interval = 5s")  # what no file's change tells, sooner
    host.register(rest)
    host.agent.start()
    rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
    task = rest.run_task(host.id, "RENEW", {"target": "nginx"})
    assert task["state"] == "SUCCEEDED", task
    yield host
    rest.close()
    host.stop()


def alerts(rest, host, **query):
    text = "".join(f"&{name}={value}" for name, value in query.items())
    return rest.get(f"/api/v1/alerts?kind=SERVED_DIFFERS&agentId={host.id}{text}").get("alerts", [])


def activity(rest, host, event):
    return [a for a in rest.get(f"/api/v1/activity?agentId={host.id}&event={event}").get("activity", [])]


def told(rest, host, what):
    return wait_until(f"the alert \"{what}\"", lambda: [a for a in alerts(rest, host) if what in a["message"]])[0]


def mended(rest, host):
    wait_until("the alert to be resolved", lambda: not alerts(rest, host))
    assert alerts(rest, host, state="RESOLVED")
    assert activity(rest, host, "certificate.mended")


def other_pair(host):
    """Somebody else's certificate for the same name, in the files."""
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-keyout",
         host.nginx.key, "-out", host.nginx.certificate, "-subj", f"/CN={host.nginx.name}"])


def test_an_overwritten_file_is_told_and_over_when_it_is_back(host, rest):
    kept = host.nginx.certificate.read_bytes(), host.nginx.key.read_bytes()
    other_pair(host)
    alert = told(rest, host, "was overwritten")
    assert alert["entityId"] == f"{host.id}/nginx" and alert["count"] == 1
    assert activity(rest, host, "certificate.drifted")
    host.nginx.certificate.write_bytes(kept[0])
    host.nginx.key.write_bytes(kept[1])
    mended(rest, host)


def test_a_server_that_went_on_with_something_else_is_told_though_the_files_are_right(host, rest):
    kept, served = (host.nginx.certificate.read_bytes(), host.nginx.key.read_bytes()), host.nginx.served()
    other_pair(host)
    host.nginx.process.signal(signal.SIGHUP)
    wait_until("nginx to serve the other", lambda: host.nginx.served() != served)
    told(rest, host, "was overwritten")
    host.nginx.certificate.write_bytes(kept[0])
    host.nginx.key.write_bytes(kept[1])  # but nobody reloads
    told(rest, host, "reload the server")
    host.nginx.process.signal(signal.SIGHUP)
    mended(rest, host)


def test_a_chain_that_lost_its_intermediate_is_told(host, rest):
    kept = host.nginx.certificate.read_text()
    end = "-----END CERTIFICATE-----\n"
    assert kept.count(end) > 1, kept
    host.nginx.certificate.write_text(kept[:kept.index(end) + len(end)])
    alert = told(rest, host, "issuer is not known")
    assert alert["entityId"] == f"{host.id}/nginx"
    host.nginx.certificate.write_text(kept)
    mended(rest, host)


def test_a_process_that_still_serves_the_former_certificate_is_told(host, rest):
    """Two servers share the port; what one of them has was replaced meanwhile."""
    old = host.dir / "old"
    (old / "tmp").mkdir(parents=True)
    for file in (host.nginx.certificate, host.nginx.key):
        shutil.copy(file, old / file.name)
    write(old / "nginx.conf", host.nginx.conf.read_text().replace(str(host.nginx.dir), str(old)))
    assert rest.run_task(host.id, "RENEW", {"target": "nginx"})["state"] == "SUCCEEDED"
    second = Process("nginx-old", [host.nginx.program, "-e", old / "error.log", "-c", old / "nginx.conf"], old / "stdout.log")
    second.start()
    try:
        told(rest, host, "(some of its processes)")
    finally:
        second.stop()
    mended(rest, host)


def test_renewing_is_no_drift(host, rest):
    before = len(activity(rest, host, "certificate.drifted"))
    assert rest.run_task(host.id, "RENEW", {"target": "nginx"})["state"] == "SUCCEEDED"
    assert rest.run_task(host.id, "VALIDATE", {"target": "nginx"})["state"] == "SUCCEEDED"
    # What a check behind these would have told is told before this.
    kept = host.nginx.certificate.read_bytes(), host.nginx.key.read_bytes()
    other_pair(host)
    told(rest, host, "was overwritten")
    assert len(activity(rest, host, "certificate.drifted")) == before + 1
    host.nginx.certificate.write_bytes(kept[0])
    host.nginx.key.write_bytes(kept[1])
    mended(rest, host)
