"""DEPLOY: a certificate that an operator brings along, for the key that is on the host already. What is served is what counts."""
import pytest

from clm.host import fingerprint
from clm.platform import write
from clm.process import run, wait_until


def certificate_for(key, name, out, days=30):
    """A certificate of a CA of the test's own, as PEM with its issuer."""
    ca_key, ca = out / "ca.key", out / "ca.crt"
    if not ca.exists():
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
             "-keyout", ca_key, "-out", ca, "-subj", "/CN=an outside CA", "-addext", "basicConstraints=critical,CA:true",
             "-addext", "keyUsage=critical,keyCertSign"])
    csr, leaf, extensions = out / "csr.pem", out / "leaf.crt", out / "ext.cnf"
    write(extensions, f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n")
    run(["openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", csr])
    run(["openssl", "x509", "-req", "-in", csr, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", str(days),
         "-extfile", extensions, "-out", leaf])
    return leaf.read_text() + ca.read_text()


@pytest.fixture
def deploy(host, rest, tmp_path):
    """Deploys a chain; gives the task, and the fingerprints served before and after."""
    def run_it(chain):
        before = fingerprint(host.nginx.served())
        task = rest.run_task(host.id, "DEPLOY", {"target": "nginx", "chainPem": chain})
        return task, before, fingerprint(host.nginx.served())
    return run_it


def test_a_certificate_brought_along_is_served(deploy, host, tmp_path):
    key_before = host.nginx.key.read_bytes()
    task, before, _ = deploy(certificate_for(host.nginx.key, host.nginx.name, tmp_path))
    assert task["state"] == "SUCCEEDED", task
    after = task["result"]["fingerprintAfterSha256"]
    assert task["result"]["fingerprintBeforeSha256"] == before != after
    # A worker of before the reload may answer for an instant longer.
    wait_until("the new certificate to be served", lambda: fingerprint(host.nginx.served()) == after, 10)
    assert host.nginx.key.read_bytes() == key_before
    assert host.nginx.reloads() == 1


def test_a_certificate_for_another_key_changes_nothing(deploy, host, tmp_path):
    other = tmp_path / "other.key"
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other])
    task, before, after = deploy(certificate_for(other, host.nginx.name, tmp_path))
    assert task["state"] == "FAILED" and "key" in task["message"], task
    assert before == after and host.nginx.reloads() == 0


def test_a_certificate_for_another_name_changes_nothing(deploy, host, tmp_path):
    task, before, after = deploy(certificate_for(host.nginx.key, "somebody-else.example.com", tmp_path))
    assert task["state"] == "FAILED" and f"does not cover {host.nginx.name}" in task["message"], task
    assert before == after and host.nginx.reloads() == 0


def test_a_server_that_refuses_its_configuration_goes_on_with_the_old_certificate(deploy, host, tmp_path):
    chain = certificate_for(host.nginx.key, host.nginx.name, tmp_path)
    write(host.nginx.conf, host.nginx.conf.read_text() + "this is no directive;\n")
    files = host.nginx.certificate.read_bytes(), host.nginx.key.read_bytes()
    task, before, after = deploy(chain)
    assert task["state"] == "FAILED" and "configuration test" in task["message"], task
    assert before == after
    assert (host.nginx.certificate.read_bytes(), host.nginx.key.read_bytes()) == files
