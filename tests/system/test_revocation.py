"""Was it revoked? A real OCSP responder, a real CRL, and servers that answer anything: asked only where the local policy allows it."""
import http.server
import json
import threading

import pytest

from clm.platform import TOP, ini, write
from clm.ports import HOST, free_port
from clm.process import Process, run, wait_until


class Served(threading.Thread):
    """Answers every request with `body`; counts them."""

    def __init__(self):
        super().__init__(daemon=True)
        self.body, self.asked = b"", 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.port = self.server.server_address[1]
        self.start()

    def run(self):
        self.server.serve_forever()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Authority:
    """A CA of openssl's with its database, a responder, a CRL, and one certificate that names both."""

    def __init__(self, directory, name="www.example.test"):
        self.dir = directory
        directory.mkdir()
        self.crl, self.ocsp_port, self.responder = Served(), free_port(), None
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self.in_dir(["openssl", "req", "-x509", *key, "-days", "30", "-subj", "/CN=Revoking CA", "-keyout", "ca.key", "-out", "ca.pem"])
        write(directory / "openssl.conf",
              "[ca]\ndefault_ca = a\n[a]\ndatabase = index.txt\nserial = serial\ncertificate = ca.pem\nprivate_key = ca.key\n"
              "default_md = sha256\npolicy = p\nnew_certs_dir = .\ndefault_crl_days = 1\nunique_subject = no\n[p]\ncommonName = supplied\n"
              f"[leaf]\nsubjectAltName = DNS:{name}\nextendedKeyUsage = serverAuth\n"
              f"authorityInfoAccess = OCSP;URI:http://{HOST}:{self.ocsp_port}/\n"
              f"crlDistributionPoints = URI:http://{HOST}:{self.crl.port}/ca.crl\n")
        (directory / "index.txt").touch()
        write(directory / "serial", "1001\n")
        self.in_dir(["openssl", "req", *key, "-subj", f"/CN={name}", "-keyout", "leaf.key", "-out", "leaf.csr"])
        self.in_dir(["openssl", "ca", "-config", "openssl.conf", "-batch", "-days", "20", "-extensions", "leaf", "-in", "leaf.csr", "-out",
                     "leaf.pem", "-notext"])
        (directory / "chain.pem").write_bytes((directory / "leaf.pem").read_bytes() + (directory / "ca.pem").read_bytes())
        self.make_crl()

    def in_dir(self, argv):
        return run(argv, cwd=self.dir)

    def make_crl(self):
        self.in_dir(["openssl", "ca", "-config", "openssl.conf", "-gencrl", "-out", "crl.pem"])
        self.in_dir(["openssl", "crl", "-in", "crl.pem", "-outform", "DER", "-out", "ca.crl"])
        self.crl.body = (self.dir / "ca.crl").read_bytes()

    def revoke(self):
        self.in_dir(["openssl", "ca", "-config", "openssl.conf", "-revoke", "leaf.pem", "-crl_reason", "keyCompromise"])

    def start(self):
        self.responder = Process("ocsp", ["openssl", "ocsp", "-index", self.dir / "index.txt", "-port", self.ocsp_port, "-rsigner",
                                          self.dir / "ca.pem", "-rkey", self.dir / "ca.key", "-CA", self.dir / "ca.pem", "-ndays", "1"],
                                 self.dir / "ocsp.log").start()
        wait_until("the responder to answer", lambda: run(
            ["openssl", "ocsp", "-issuer", self.dir / "ca.pem", "-cert", self.dir / "leaf.pem", "-url", f"http://{HOST}:{self.ocsp_port}/",
             "-CAfile", self.dir / "ca.pem"], check=False).returncode == 0, process=self.responder)
        return self

    def stop_responder(self):
        if self.responder:
            self.responder.stop()
        self.responder = None


@pytest.fixture
def authority(scratch, tmp_path):
    authority = Authority(tmp_path / "ca")
    yield authority
    authority.stop_responder()
    authority.crl.stop()


@pytest.fixture
def check(programs, authority, tmp_path):
    """The outcome of "revocation", or None; `policy`: what stands in [policy] beside the roots."""
    tmp_path.chmod(0o755)

    def check(**policy):
        write(tmp_path / "agent.conf", ini({"agent": {"state_dir": tmp_path / "state"},
                                            "policy": {"discovery_roots": tmp_path, **(policy or {"fetch_hosts": HOST})}}))
        done = run([programs / "clm-agent", "validate", "--config", tmp_path / "agent.conf", "--certificate",
                    authority.dir / "chain.pem", "--json"], check=False)
        checks = [c for c in json.loads(done.stdout)["checks"] if c["id"] == "revocation"]
        assert len(checks) < 2, checks
        return checks[0] if checks else None
    return check


def test_the_responder_is_asked_and_believed(authority, check):
    authority.start()
    assert check()["outcome"] == "PASS"
    authority.stop_responder()
    authority.revoke()
    authority.start()
    found = check()
    assert found["outcome"] == "FAIL" and found["severity"] == "CRITICAL", found
    assert "keyCompromise" in found["reason"] and found["remedy"], found
    assert authority.crl.asked == 0


def test_without_a_responder_the_crl_says_it(authority, check):
    assert check()["outcome"] == "PASS"
    authority.revoke()
    authority.make_crl()
    found = check()
    assert found["outcome"] == "FAIL" and "ca.crl" in found["reason"], found


@pytest.mark.parametrize("answer", [b"", b"\x30\x82\xff\xff", b"\x30" * 3000, b"x" * (5 * 1024 * 1024), b"-----BEGIN X509 CRL-----\n"],
                         ids=["empty", "cut", "nested", "huge", "unclosed"])
def test_answers_that_make_no_sense_are_no_answers(authority, check, answer):
    authority.crl.body = answer
    found = check()
    assert found["outcome"] == "WARN" and "nobody said" in found["reason"], found


def test_a_crl_of_somebody_else_is_no_answer(authority, check, tmp_path):
    other = Authority(tmp_path / "other")
    authority.crl.body = other.crl.body
    other.crl.stop()
    found = check()
    assert found["outcome"] == "WARN" and "not signed by the issuer" in found["reason"], found


def test_nobody_is_asked_whom_the_policy_does_not_name(authority, check):
    assert check(probe_rate=10) is None
    found = check(fetch_hosts="ocsp.example.test")
    assert found["outcome"] == "WARN" and "fetch_hosts" in found["reason"], found
    assert authority.crl.asked == 0


def test_the_table_of_checks_stands_in_the_documentation(programs):
    table = run([programs / "clm-agent", "checks"]).stdout
    assert table.count("\n") > 10 and table in (TOP / "docs" / "checks.md").read_text()


@pytest.mark.parametrize("revoked", [False, True], ids=["good", "revoked"])
def test_a_revoked_certificate_is_not_gone_back_to(revoked, make_host, rest, tmp_path):
    """nginx is never told to reload, so the new certificate is not served: is the former one worth going back to?"""
    host = make_host()
    authority = Authority(tmp_path / "ca", host.nginx.name)
    try:
        if revoked:
            authority.revoke()
            authority.make_crl()
        write(host.nginx.certificate, (authority.dir / "chain.pem").read_text())
        write(host.nginx.key, (authority.dir / "leaf.key").read_text(), 0o600)
        host.prepare()
        host.agent.change("[policy]", f"[policy]\nfetch_hosts = {HOST}")
        host.agent.change("command = ", "command = /bin/true ")
        host.agent.change("timeout = 30s", "timeout = 3s")
        host.register(rest)
        host.agent.start()
        rest.wait_agent(host.id, "ONLINE", process=host.agent.process)
        before = host.nginx.certificate.read_bytes()
        task = rest.run_task(host.id, "RENEW", {"target": "nginx"}, maxAttempts=1)
    finally:
        authority.crl.stop()
    assert "still serves another certificate" in task["message"], task
    asked = [step for step in task["result"]["steps"] if step["name"] == "revocation" and step["ok"]]
    assert len(asked) == 1 and authority.crl.asked == 1, task
    assert task["state"] == ("INSTALLED_UNVERIFIED" if revoked else "FAILED"), task
    assert (host.nginx.certificate.read_bytes() == before) == (not revoked)
