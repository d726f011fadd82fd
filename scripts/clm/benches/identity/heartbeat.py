"""heartbeat.store: batches of 1,000 as the registry stores them beside bare UPDATE … FROM unnest, in one PostgreSQL as it comes."""
import os
import statistics

from clm.benches.figures import ratio_at_least
from clm.platform import Platform
from clm.ports import HOST
from clm.process import run

ROUNDS = 7
AGENTS = int(os.environ.get("CLM_BENCH_AGENTS", "1000000"))


def measure(directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "heartbeat_store"], timeout=300)
    platform = Platform(directory / "platform", bin_dir)
    rounds = []
    try:
        platform.steps()[0][1]()
        platform.write_config("registry")
        print(f"  a fleet of {AGENTS} agents", flush=True)
        conninfo = f"host={HOST} port={platform.ports['postgresql']} dbname=clm user=registry"
        done = run([bin_dir / "heartbeat_store", conninfo, platform.root / "secrets" / "registry.pgpass", ROUNDS, AGENTS],
                   timeout=1200, user=platform.user if platform.bin == bin_dir else None)
        for line in done.stdout.splitlines():
            rounds.append([float(value) for value in line.split()])
            print(f"  round {len(rounds)} of {ROUNDS}: {rounds[-1][0]:.0f} heartbeats/s stored, "
                  f"{rounds[-1][1]:.0f} rows/s bare", flush=True)
    finally:
        platform.stop()
    ours, peer = (statistics.median(values) for values in zip(*rounds))
    return [ratio_at_least("heartbeat.store", ours, peer, "rows/s", 0.8)]
