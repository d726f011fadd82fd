"""audit.append: records into the tree beside bare rows, in a PostgreSQL of its own as it comes (fsync on)."""
import statistics

from clm.benches.figures import ratio_at_least
from clm.platform import Platform
from clm.ports import HOST
from clm.process import run

ROUNDS = 7


def measure(directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "audit_append"], timeout=300)
    platform = Platform(directory / "platform", bin_dir)
    rounds = []
    try:
        platform.steps()[0][1]()
        platform.write_config("registry")
        conninfo = f"host={HOST} port={platform.ports['postgresql']} dbname=clm user=registry"
        done = run([bin_dir / "audit_append", conninfo, platform.root / "secrets" / "registry.pgpass", ROUNDS], timeout=600,
                   user=platform.user if platform.bin == bin_dir else None)
        for line in done.stdout.splitlines():
            rounds.append([float(value) for value in line.split()])
            print(f"  round {len(rounds)} of {ROUNDS}: {rounds[-1][0]:.0f} records/s appended, "
                  f"{rounds[-1][1]:.0f} rows/s bare", flush=True)
    finally:
        platform.stop()
    ours, peer = (statistics.median(values) for values in zip(*rounds))
    return [ratio_at_least("audit.append", ours, peer, "rec/s", 0.8)]
