"""discover.*: `clm-agent discover` beside grep and find on the same 200,000 files, and beside nmap on the same TLS endpoints.

2,000 of the files hold a certificate each, all different. Everything runs at the priority at which the agent walks (nice 10), grep too.
Cold: before each run the page cache is dropped (root only; elsewhere there is no such figure).
"""
import os
import random
import resource
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from clm.benches.figures import ratio_at_least, ratio_at_most
from clm.platform import ini, write
from clm.ports import free_port
from clm.process import Failed, Process, run, wait_until

FILES, CERTIFICATES, ENDPOINTS, ROUNDS = 200_000, 2_000, 1_024, 3
SIZES = (200, 800, 2_000, 4_000, 8_000, 14_000)
RANGE = "127.1.0.0/22"
NGINX_CONF = """\
daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log; worker_processes 1;
events {{ worker_connections 8192; }}
http {{ access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
        uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
        server {{ listen {port} ssl backlog=4096; ssl_certificate {dir}/0.pem; ssl_certificate_key {dir}/key.pem; return 204; }} }}
"""


def make_certificates(directory):
    """One key, as many certificates as are needed; what is asked of openssl in one process each."""
    key = directory / "key.pem"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key])
    for i in range(CERTIFICATES):
        run(["openssl", "req", "-x509", "-key", key, "-days", "90", "-subj", f"/CN=host{i}.example.test", "-addext",
             f"subjectAltName=DNS:host{i}.example.test", "-out", directory / f"{i}.pem"])


def make_tree(root, certificates):
    """As hosts have them: text and binary files of a few kilobytes, in directories of a hundred."""
    random.seed(1)
    text = b"some = value # as configurations have it\n" * 400
    binary = random.randbytes(16_384)
    for i in range(FILES):
        directory = root / f"{i // 5000:03}" / f"{i // 100 % 50:02}"
        if i % 100 == 0:
            directory.mkdir(parents=True)
        with open(directory / f"f{i}", "wb") as out:
            if i % (FILES // CERTIFICATES) == 0:
                out.write((certificates / f"{i // (FILES // CERTIFICATES)}.pem").read_bytes())
            else:
                out.write((text, binary)[i % 2][:random.choice(SIZES)])


def timed(argv):
    """(seconds, processor seconds with all children, stdout)"""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=1800)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise Failed(f"{argv[0]}: {done.returncode}\n{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


class Files:
    def __init__(self, directory, bin_dir):
        self.tree, self.state = directory / "tree", directory / "state"
        self.agent = ["nice", "-n", "10", bin_dir / "clm-agent", "discover", "--config", directory / "agent.conf", "--root",
                      self.tree, "--no-listening", "--no-configurations"]
        self.grep = ["nice", "-n", "10", "grep", "-rlF", "--", "-----BEGIN CERTIFICATE", self.tree]

    def full(self):
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(mode=0o700)
        return self.look()

    def look(self):
        wall, cpu, out = timed(self.agent)
        if out.count("\n") != CERTIFICATES:
            raise Failed(f"{out.count(chr(10))} certificates were found, there are {CERTIFICATES}")
        return wall, cpu

    def peer(self):
        wall, cpu, out = timed(self.grep)
        if out.count("\n") != CERTIFICATES:
            raise Failed(f"grep found {out.count(chr(10))} files, there are {CERTIFICATES}")
        return wall, cpu


def measure_files(directory, bin_dir):
    files = Files(directory, bin_dir)
    files.peer()
    warm, unchanged, grep, cold, grep_cold = [], [], [], [], []
    for i in range(ROUNDS):
        warm.append(files.full())
        time.sleep(3)  # what was written just now is not remembered
        files.full()
        unchanged.append(files.look())
        grep.append(files.peer())
        if os.geteuid() == 0:
            drop_caches()
            cold.append(files.full())
            drop_caches()
            grep_cold.append(files.peer())
            files.peer()
        print(f"  files, round {i + 1} of {ROUNDS}: full {warm[-1][0]:.2f} s ({warm[-1][1]:.2f} cpu), unchanged {unchanged[-1][0]:.2f} s, "
              f"grep {grep[-1][0]:.2f} s ({grep[-1][1]:.2f} cpu)"
              + (f", cold {cold[-1][0]:.1f} s, grep cold {grep_cold[-1][0]:.1f} s" if cold else ""), flush=True)
    find = timed(["find", files.tree, "-type", "f", "-name", "f*00", "-exec", "openssl", "x509", "-noout", "-in", "{}", ";"])
    print(f"  for comparison, find -exec openssl x509 of the {CERTIFICATES} alone: {find[0]:.0f} s", flush=True)

    def median(rows):
        return statistics.median(row[0] for row in rows)
    figures = [ratio_at_most("discover.files.warm", median(warm), median(grep), "s", 0.6),
               ratio_at_most("discover.files.unchanged", median(unchanged), median(warm), "s", 0.3)]
    if cold:
        figures.append(ratio_at_most("discover.files.cold", median(cold), median(grep_cold), "s", 0.35))
    return figures


def measure_network(directory, bin_dir):
    port = free_port()
    for i in range(1, 6):
        (directory / f"t{i}").mkdir()
    write(directory / "nginx.conf", NGINX_CONF.format(dir=directory, port=port))
    nginx = Process("nginx", [shutil.which("nginx") or "/usr/sbin/nginx", "-e", directory / "error.log", "-c",
                              directory / "nginx.conf"], directory / "nginx.out").start()
    agent = ["nice", "-n", "10", bin_dir / "clm-agent", "discover", "--config", directory / "agent.conf", "--range", RANGE, "--port", port, "--no-files",
             "--no-listening", "--no-configurations"]
    nmap = ["nice", "-n", "10", "nmap", "-n", "-Pn", "-p", port, "--script", "ssl-cert", "--min-parallelism", "64", RANGE]
    ours, peers = [], []
    try:
        wait_until("nginx to serve", lambda: run(["openssl", "s_client", "-connect", f"127.1.0.1:{port}", "-brief"], stdin="",
                                                  check=False).returncode == 0)
        for i in range(ROUNDS):
            for rows, argv, count in ((ours, agent, lambda out: out.count("\n")), (peers, nmap, lambda out: out.count("ssl-cert: Subject"))):
                wall, cpu, out = timed(argv)
                if count(out) != ENDPOINTS:
                    raise Failed(f"{argv[3]} saw {count(out)} of {ENDPOINTS} endpoints")
                rows.append((ENDPOINTS / wall, cpu / ENDPOINTS * 1e6))
            print(f"  network, round {i + 1} of {ROUNDS}: {ours[-1][0]:.0f}/s, {ours[-1][1]:.0f} us each; nmap {peers[-1][0]:.0f}/s, "
                  f"{peers[-1][1]:.0f} us each", flush=True)
    finally:
        nginx.stop()
    rate, cpu = (statistics.median(values) for values in zip(*ours))
    peer_rate, peer_cpu = (statistics.median(values) for values in zip(*peers))
    return [ratio_at_least("discover.net.rate", rate, peer_rate, "1/s", 6), ratio_at_most("discover.net.cpu", cpu, peer_cpu, "us", 0.2)]


def measure(directory, bin_dir):
    if not shutil.which("nmap"):
        raise Failed("nmap is needed: ./dev bench installs it (scripts/packages.txt)")
    write(directory / "agent.conf", ini({"agent": {"state_dir": directory / "state"},
                                         "policy": {"discovery_roots": directory / "tree", "probe_hosts": "127.0.0.0/8",
                                                    "probe_rate": 100000}}))
    print(f"  making {FILES} files and {CERTIFICATES} certificates", flush=True)
    make_certificates(directory)
    make_tree(directory / "tree", directory)
    (directory / "state").mkdir(mode=0o700)
    return measure_network(directory, bin_dir) + measure_files(directory, bin_dir)
