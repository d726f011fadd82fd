"""issue.rate: certificates a second of one core, clm-bootstrap's issuing code and signer process beside `cfssl serve`.

Processor time is what counts: of both processes of ours, and of cfssl's server. cfssl is asked over HTTP as it comes; ours takes its
CSR from memory, reads its key in the service, sends it to the signer over its socket, which verifies and signs. Both sign with P-256.
"""
import http.client
import json
import os
import shutil
import statistics
from pathlib import Path

from clm.benches.figures import ratio_at_least
from clm.platform import Platform
from clm.ports import HOST, free_port
from clm.process import Process, run, wait_until

ROUNDS, OURS_A_ROUND, PEER_A_ROUND, KEYS = 7, 4000, 2000, 32
CONFIG = {"signing": {"default": {"expiry": "720h", "usages": ["digital signature", "client auth"]}}}


class Cfssl:
    def __init__(self, directory):
        directory.mkdir()
        run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", directory / "ca.key"])
        run(["openssl", "req", "-x509", "-new", "-key", directory / "ca.key", "-days", "30", "-subj", "/CN=cfssl", "-out", directory / "ca.crt"])
        (directory / "config.json").write_text(json.dumps(CONFIG))
        self.port, self.bodies = free_port(), []
        for i in range(KEYS):
            run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", directory / f"{i}.key"])
            csr = run(["openssl", "req", "-new", "-key", directory / f"{i}.key", "-subj", "/CN=host.example.com", "-addext",
                       "subjectAltName=DNS:host.example.com"]).stdout
            self.bodies.append(json.dumps({"certificate_request": csr}))
        self.server = Process("cfssl", [shutil.which("cfssl") or "/usr/bin/cfssl", "serve", "-address", HOST, "-port", self.port, "-loglevel", "5",
                                        "-ca", directory / "ca.crt", "-ca-key", directory / "ca.key", "-config", directory / "config.json"],
                              directory / "cfssl.log", env={"GOMAXPROCS": "1"}).start()
        wait_until("cfssl to sign", self._signs, 20, process=self.server)

    def _signs(self):
        try:
            self.sign(1)
            return True
        except OSError:
            return False

    def sign(self, count):
        link = http.client.HTTPConnection(HOST, self.port, timeout=30)
        for i in range(count):
            link.request("POST", "/api/v1/cfssl/sign", self.bodies[i % KEYS], {"Content-Type": "application/json"})
            answer = json.loads(link.getresponse().read())
            assert answer["success"], answer
        link.close()

    def cpu_us(self):
        """Processor time that the server has used; /proc counts in ticks, so it takes many certificates to see."""
        fields = Path(f"/proc/{self.server.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")

    def us_each(self, count):
        before = self.cpu_us()
        self.sign(count)
        return (self.cpu_us() - before) / count


def measure(directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "issue_rate"], timeout=300)
    platform, cfssl = Platform(directory / "platform", bin_dir), None
    ours, peer = [], []
    try:
        for name, step in platform.steps():
            step()
            if name == "certificate authorities":
                break
        cfssl = Cfssl(directory / "cfssl")
        for i in range(ROUNDS):
            peer.append(cfssl.us_each(PEER_A_ROUND))
            done = run([bin_dir / "issue_rate", bin_dir / "clm-bootstrap", platform.pki / "ca", OURS_A_ROUND], timeout=300,
                       user=platform.user if platform.bin == bin_dir else None)
            service, signer, wall = (float(value) for value in done.stdout.split())
            ours.append(service + signer)
            print(f"  round {i + 1} of {ROUNDS}: {service:.0f} us in the service and {signer:.0f} us in the signer a certificate "
                  f"({wall:.0f} us in all), cfssl {peer[-1]:.0f} us", flush=True)
    finally:
        if cfssl:
            cfssl.server.stop()
        platform.stop()
    return [ratio_at_least("issue.rate", 1e6 / statistics.median(ours), 1e6 / statistics.median(peer), "cert/s", 2.5)]
