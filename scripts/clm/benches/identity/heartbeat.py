"""heartbeat.store: batches of 1,000 as the registry stores them beside bare UPDATE … FROM unnest, in one PostgreSQL as it comes."""
import os

from clm.benches.database import rounds
from clm.benches.figures import ratio_at_least

AGENTS = int(os.environ.get("CLM_BENCH_AGENTS", "1000000"))


def measure(directory, bin_dir):
    print(f"  a fleet of {AGENTS} agents", flush=True)
    ours, peer = rounds("heartbeat_store", directory, bin_dir, "heartbeats stored", AGENTS, timeout=1200)
    return [ratio_at_least("heartbeat.store", ours, peer, "rows/s", 0.8)]
