"""api.list, api.search, api.dashboard: the p50 of a REST answer beside bare SQL, one after the other, with 1,000,000 agents. Neither side
looks into what it gets: pgbench drops the rows, the REST client the body."""
import glob
import os
import socket
import ssl
import time
import urllib.parse

from clm.benches.figures import percentile, ratio_at_most
from clm.platform import PG_BIN, Platform, write
from clm.ports import HOST
from clm.process import Failed, run

AGENTS = int(os.environ.get("CLM_BENCH_AGENTS", "1000000"))
ROUNDS, EACH = 5, 40

# Hosts of ten clusters; what is searched for is in one of a hundred thousand names. Two of three are ONLINE, the others OFFLINE, and the
# sweep lets them be: one that changed each of them would be measured instead.
FILL = f"""
SET search_path = registry;
INSERT INTO agents (id, hostname, status, labels, scope, created_at, created_by, agent_version)
  SELECT lpad(to_hex(x'018f0000'::bigint + i / 65536), 8, '0') || '-' || lpad(to_hex(i % 65536), 4, '0') || '-7000-8000-' || lpad(to_hex(i), 12, '0'),
         'host-' || i || '.c' || i % 10 || '.example.com', CASE WHEN i % 3 = 0 THEN 4 ELSE 6 END, jsonb_build_object('cluster', 'c' || i % 10), '', now(), 'bench', '0.1.0'
  FROM (SELECT i, i FROM generate_series(1, {AGENTS}) g(i)) s(i, j);
INSERT INTO heartbeats (agent_id, last_at) SELECT id, now() FROM agents ON CONFLICT DO NOTHING;
INSERT INTO agent_counts (status, n) SELECT status, count(*) FROM agents GROUP BY status;
ANALYZE agents; ANALYZE heartbeats;
"""
FILL = FILL.replace("SELECT lpad(", "SELECT (lpad(", 1).replace("lpad(to_hex(i), 12, '0'),", "lpad(to_hex(i), 12, '0'))::uuid,", 1)

PAGE = ("SELECT a.*, h.last_at, h.clock_skew_ms FROM registry.agents a JOIN registry.heartbeats h ON h.agent_id = a.id "
        "WHERE {} ORDER BY a.id LIMIT 51;")
PEERS = {"list": PAGE.format("a.status = 6"), "search": PAGE.format("a.hostname LIKE '%host-77777%'"),
         "dashboard": "SELECT status, count(*) FROM registry.agents GROUP BY status;"}
CALLS = {"list": ("/api/v1/agents", {"status": "ONLINE"}), "search": ("/api/v1/agents", {"search": "host-77777"}),
         "dashboard": ("/api/v1/dashboard", {})}
LIMITS = {"list": 2, "search": 2, "dashboard": 0.05}


def bare(platform, directory, name, count):
    """Milliseconds of each run of the peer's statement, prepared, in one session."""
    script, log = directory / f"{name}.sql", directory / f"{name}-log"
    write(script, PEERS[name] + "\n")
    for old in glob.glob(f"{log}.*"):
        os.unlink(old)
    run([PG_BIN / "pgbench", "-n", "-M", "prepared", "-f", script, "-t", str(count), "-l", "--log-prefix", log, "-h", HOST,
         "-p", platform.ports["postgresql"], "-U", "admin", "clm"], env=platform.sql_environment(), timeout=600)
    return [int(line.split()[2]) / 1000 for path in glob.glob(f"{log}.*") for line in open(path, encoding="utf-8")]


class Caller:
    """One kept TLS connection; an answer is over when as many bytes have come as it says."""

    def __init__(self, platform, key):
        context = ssl.create_default_context(cafile=platform.roots)
        plain = socket.create_connection((HOST, platform.ports["operator"]), 120)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls, self._key = context.wrap_socket(plain, server_hostname="localhost"), key

    def close(self):
        self._tls.close()

    def _answer(self, request):
        self._tls.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Failed(f"{head[:300]!r}")
        length = int(next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")).split(b":")[1])
        while len(body) < length:
            body += self._more()
        return body

    def _more(self):
        data = self._tls.recv(65536)
        if not data:
            raise Failed("the gateway ended the connection")
        return data

    def take(self, name, count):
        """Milliseconds of each of so many calls."""
        path, query = CALLS[name]
        if query:
            path += "?" + urllib.parse.urlencode(query)
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\n\r\n".encode()
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            self._answer(request)
            taken.append((time.perf_counter() - began) * 1000)
        return taken


def measure(directory, bin_dir):
    platform = Platform(directory / "platform", bin_dir).start()
    try:
        began = time.time()
        platform.sql(FILL, timeout=1800)
        print(f"  {AGENTS} agents in {time.time() - began:.0f} s", flush=True)
        rest = platform.rest(timeout=120)
        caller = Caller(platform, rest.post("/api/v1/api-keys", {"name": "bench", "roles": ["VIEWER"]})["key"])
        rest.close()
        figures = []
        for name in CALLS:
            caller.take(name, EACH)
            mine, peer = [], []
            for _ in range(ROUNDS):
                mine += caller.take(name, EACH)
                peer += bare(platform, directory, name, EACH)
            figures.append(ratio_at_most(f"api.{name}", percentile(mine, .5), percentile(peer, .5), "ms", LIMITS[name]))
            print(f"  {name}: {percentile(mine, .5):.2f} ms, bare SQL {percentile(peer, .5):.2f} ms", flush=True)
        caller.close()
        return figures
    finally:
        platform.stop()
