"""lease.rate: tasks leased in batches of 100 check-ins, without envelopes, beside a bare queue, in one PostgreSQL as it comes."""
import os

from clm.benches.database import rounds
from clm.benches.figures import ratio_at_least

AGENTS = int(os.environ.get("CLM_BENCH_AGENTS", "20000"))


def measure(directory, bin_dir):
    print(f"  {AGENTS} agents with a task each", flush=True)
    ours, peer = rounds("lease_rate", directory, bin_dir, "tasks leased", AGENTS, service="tasks")
    return [ratio_at_least("lease.rate", ours, peer, "tasks/s", 0.8)]
