"""Keys, requests and certificates by the openssl command line: nothing of the product makes what tests judge it by."""
import base64
import re
import subprocess
import time
from pathlib import Path

from clm.process import run

OID = "1.3.6.1.4.1.55555"
REQUEST_CONTENT, RECEIPT_CONTENT = f"{OID}.2.2", f"{OID}.2.1"
ENVELOPE_CONTENT = "1.2.840.113549.1.9.16.1.23"


def new_key(path):
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path])
    Path(path).chmod(0o600)
    return Path(path)


def csr(key, subject="/CN=test", san=None):
    """DER"""
    argv = ["openssl", "req", "-new", "-key", str(key), "-subj", subject, "-outform", "DER"]
    if san:
        argv += ["-addext", f"subjectAltName={san}"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def to_pem(der):
    text = base64.encodebytes(der).decode().replace("\n", "")
    lines = "\n".join(text[i:i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def from_pem(text):
    """DER of each certificate."""
    return [base64.b64decode(body) for body in
            re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, re.S)]


def cms_sign(content, content_type, key, certificate, directory, chain=None):
    """SignedData over `content` as the product makes it; `certificate` is a PEM file, `chain` one of what is above it."""
    source = Path(directory) / "content"
    source.write_bytes(content)
    return subprocess.run(["openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", str(source),
                           "-econtent_type", content_type, "-signer", str(certificate), "-inkey", str(key), "-md", "sha256",
                           *(["-certfile", str(chain)] if chain else [])], check=True, capture_output=True).stdout


def envelope_open(envelope, roots, key, certificate, directory):
    """The order in a task envelope, by the holder of the task key."""
    outer, inner = Path(directory) / "outer", Path(directory) / "inner"
    outer.write_bytes(envelope)
    subprocess.run(["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(outer), "-CAfile", str(roots),
                    "-purpose", "any", "-out", str(inner)], check=True, capture_output=True)
    return subprocess.run(["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", str(inner), "-inkey", str(key),
                           "-recip", str(certificate)], check=True, capture_output=True).stdout


class EnvelopeSigner:
    """The tasks service's own hand: a certificate of the platform's CA for envelopes, for orders that it should never make."""

    def __init__(self, platform, directory):
        self.dir = Path(directory)
        self.authority = Authority.of_platform(platform, "envelope", self.dir)
        self.key, self.certificate = new_key(self.dir / "tasks.key"), self.dir / "tasks.crt"
        start, end = (time.strftime("%y%m%d%H%M%SZ", time.gmtime(time.time() + s)) for s in (-300, 3600))
        self.certificate.write_text(to_pem(self.authority.issue(
            csr(self.key, "/CN=tasks"), "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            f"extendedKeyUsage={OID}.1.4\nsubjectAltName=URI:spiffe://clm.test/service/tasks", start, end)))

    def seal(self, order, recipient):
        """The envelope of an order for whoever has the task certificate `recipient` (PEM file)."""
        plain = self.dir / "plain"
        plain.write_bytes(order)
        inner = subprocess.run(["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", "-in", str(plain), "-aes-256-gcm",
                                "-recip", str(recipient), "-keyopt", "ecdh_kdf_md:sha256"], check=True, capture_output=True).stdout
        return cms_sign(inner, ENVELOPE_CONTENT, self.key, self.certificate, self.dir, self.authority.certificate)


class Authority:
    """A CA of our own making."""

    def __init__(self, directory, name="somebody else's CA"):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.key, self.certificate = self.dir / "ca.key", self.dir / "ca.crt"
        self.password_file = None
        new_key(self.key)
        run(["openssl", "req", "-x509", "-new", "-key", self.key, "-days", "30", "-subj", f"/CN={name}", "-out", self.certificate])

    @classmethod
    def of_platform(cls, platform, name, directory):
        """One of the platform's own issuing CAs: what only the signer process should hold, for tests that need its signature."""
        self = cls.__new__(cls)
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        ca = platform.pki / "ca"
        self.key, self.certificate, self.password_file = ca / f"{name}.key", ca / f"{name}.crt", ca / "passphrase"
        return self

    def issue(self, request, extensions, start, end):
        """DER of a certificate over a DER request; start and end are YYMMDDHHMMSSZ."""
        (self.dir / "index.txt").write_text("")
        (self.dir / "index.txt.attr").write_text("unique_subject = no\n")
        (self.dir / "request.der").write_bytes(request)
        (self.dir / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.dir}/index.txt\nnew_certs_dir={self.dir}\nrand_serial=yes\n"
            f"default_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=optional\nserialNumber=optional\n[e]\n{extensions}\n")
        run(["openssl", "ca", "-config", self.dir / "ca.cnf", "-batch", "-notext", "-preserveDN", "-inform", "DER",
             "-in", self.dir / "request.der", "-cert", self.certificate, "-keyfile", self.key,
             *(["-passin", f"file:{self.password_file}"] if self.password_file else []),
             "-startdate", start, "-enddate", end, "-out", self.dir / "out.crt"])
        return from_pem((self.dir / "out.crt").read_text())[-1]
