"""events.lag_p99_ms: from the row in the outbox to the watcher's socket, at 1,000 events a second. Of the 1,000 streams ten take every
event and the others filter for one that does not come: a million copies a second are more than this host's TLS carries."""
import os
import selectors
import socket
import ssl
import time

from clm.benches.figures import at_most, percentile
from clm.platform import Platform
from clm.ports import HOST
from clm.process import Failed

STREAMS = int(os.environ.get("CLM_BENCH_STREAMS", "1000"))
TAKE_ALL, RATE, SECONDS = 10, 1000, 10

# Copies of one real event, each a row of its own; what a trigger of the outbox does with rows happens as always.
PUBLISH = """SET search_path = registry;
INSERT INTO outbox (id, subject, body) SELECT gen_random_uuid(), subject, body FROM
  (SELECT subject, body FROM outbox ORDER BY id LIMIT 1) one, generate_series(1, {});
SELECT pg_notify('clm_outbox_registry', '');"""


class Streams:
    """Sockets of watchers; arrival times of the events that those that take all have seen."""

    def __init__(self, platform, keys):
        self.selector, self.rests, self.arrived = selectors.DefaultSelector(), {}, {}
        context = ssl.create_default_context(cafile=platform.roots)
        for i in range(STREAMS):
            plain = socket.create_connection((HOST, platform.ports["operator"]), 30)
            tls = context.wrap_socket(plain, server_hostname="localhost")
            query = "" if i < TAKE_ALL else "?type=nothing.happens"
            tls.sendall(f"GET /api/v1/events{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {keys[i % len(keys)]}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                more = tls.recv(65536)
                if not more:
                    raise Failed(f"stream {i} was ended: {head[:200]!r}")
                head += more
            if not head.startswith(b"HTTP/1.1 200"):
                raise Failed(f"stream {i}: {head[:300]!r}")
            tls.setblocking(False)
            self.selector.register(tls, selectors.EVENT_READ, i)
            self.rests[i] = b""

    def read_until(self, end):
        while (left := end - time.time()) > 0:
            for key, _ in self.selector.select(left):
                self._read(key.fileobj, key.data)

    def _read(self, tls, i):
        try:
            while True:
                data = tls.recv(262144)
                if not data:
                    raise Failed(f"stream {i} ended")
                if i < TAKE_ALL:
                    self._take(i, data)
        except ssl.SSLWantReadError:
            pass

    def _take(self, i, data):
        now = time.time()
        *lines, self.rests[i] = (self.rests[i] + data).split(b"\n")
        for line in lines:
            if line.startswith(b"id: "):
                self.arrived.setdefault(int(line[4:]), []).append(now)


def measure(directory, bin_dir):
    platform = Platform(directory / "platform", bin_dir).start()
    try:
        rest = platform.rest()
        rest.register("bench", operations=["VALIDATE"])
        keys = [rest.post("/api/v1/api-keys", {"name": f"bench-{i}", "roles": ["VIEWER"]})["key"] for i in range(STREAMS // 25 + 1)]
        streams = Streams(platform, keys)
        streams.read_until(time.time() + 2)
        streams.arrived.clear()
        for _ in range(SECONDS * 10):
            began = time.time()
            platform.sql(PUBLISH.format(RATE // 10))
            streams.read_until(began + 0.1)
        streams.read_until(time.time() + 5)
        rows = platform.sql("SELECT stream_seq, extract(epoch FROM created_at) FROM registry.outbox WHERE stream_seq IS NOT NULL")
        made = {int(seq): float(at) for seq, at in rows}
        lags = [(at - made[seq]) * 1000 for seq, ats in streams.arrived.items() if seq in made for at in ats]
        wanted = SECONDS * RATE * TAKE_ALL
        if len(lags) < wanted:
            raise Failed(f"{len(lags)} of {wanted} events arrived")
        print(f"  {len(lags)} arrivals at {TAKE_ALL} of {STREAMS} streams: p50 {percentile(lags, .5):.0f} ms, p99 {percentile(lags, .99):.0f} ms")
        return [at_most("events.lag_p99_ms", percentile(lags, .99), None, "ms", 250)]
    finally:
        platform.stop()
