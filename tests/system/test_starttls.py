"""STARTTLS against the servers that speak it: what is served behind it is looked at, and a server that has none says so."""
import ssl
import socket

import pytest

from clm.host import fingerprint
from clm.platform import ini, write
from clm.ports import HOST, free_port
from clm.process import run, wait_until
from clm.servers import SERVERS, Dovecot, Server


class Mail(Dovecot):
    """IMAP and POP3 on their plain ports."""
    ssl = "yes"

    def __init__(self, root):
        super().__init__(root)
        self.pop3 = free_port()

    def configuration(self):
        return (super().configuration().split("service imap-login")[0].replace("protocols = imap\n", "protocols = imap pop3\n")
                .replace("ssl = required", f"ssl = {self.ssl}") +
                "passdb {\n  driver = static\n  args = password=only-a-test\n}\n"
                f"service imap-login {{\n  inet_listener imap {{\n    port = {self.port}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n"
                f"service pop3-login {{\n  inet_listener pop3 {{\n    port = {self.pop3}\n  }}\n  inet_listener pop3s {{\n    port = 0\n  }}\n}}\n")


class Slapd(Server):
    preset, offers_tls = "slapd", True

    def argv(self):
        return ["/usr/sbin/slapd", "-h", f"ldap://{HOST}:{self.port}/", "-f", self.conf, "-d", "0"]

    def configuration(self):
        return (f"pidfile {self.dir}/slapd.pid\nargsfile {self.dir}/slapd.args\nmodulepath /usr/lib/ldap\nmoduleload back_null\n"
                + (f"TLSCertificateFile {self.certificate}\nTLSCertificateKeyFile {self.key}\n" if self.offers_tls else "") +
                "database null\nsuffix \"\"\n")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def der(path):
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.fixture(scope="module")
def look(programs, scratch):
    conf = scratch / "starttls.conf"
    write(conf, ini({"agent": {"state_dir": scratch / "starttls-state"}}))

    def look(port, protocol):
        return run([programs / "clm-agent", "validate", "--config", conf, "--endpoint", f"{HOST}:{port}", "--starttls", protocol], check=False)
    return look


@pytest.fixture(scope="module", params=["imap", "pop3", "ldap", "smtp", "postgresql"])
def speaking(request, scratch):
    """(protocol, port, the certificate's file)"""
    protocol, directory = request.param, scratch / f"starttls-{request.param}"
    if protocol in ("imap", "pop3"):
        server = Mail(directory)
    else:
        server = {"ldap": Slapd, "smtp": SERVERS["postfix"], "postgresql": SERVERS["postgresql"]}[protocol](directory)
    server.start()
    port = server.pop3 if protocol == "pop3" else server.port
    try:
        wait_until(f"{protocol} to listen", lambda: listens(port), process=server.process)
        yield protocol, port, server.certificate
    finally:
        server.stop()


def test_what_is_served_behind_starttls_is_looked_at(speaking, look):
    protocol, port, certificate = speaking
    done = look(port, protocol)
    assert fingerprint(der(certificate)) in done.stdout, done.stdout + done.stderr
    assert "reachable" in done.stdout and "answers" in done.stdout, done.stdout


@pytest.mark.parametrize("protocol, said", [("imap", "refuses STARTTLS"), ("pop3", "refuses"), ("ldap", "result code")])
def test_a_server_without_starttls_says_so(protocol, said, look, tmp_path):
    server = Slapd(tmp_path / "s") if protocol == "ldap" else Mail(tmp_path / "s")
    server.offers_tls, server.ssl = False, "no"
    server.start()
    port = server.pop3 if protocol == "pop3" else server.port
    try:
        wait_until(f"{protocol} to listen", lambda: listens(port), process=server.process)
        done = look(port, protocol)
    finally:
        server.stop()
    assert done.returncode != 0 and said in done.stdout, done.stdout + done.stderr
