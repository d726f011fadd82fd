"""A C program that works on a PostgreSQL of its own, as it comes, and prints a line a round: ours, and the bare thing's."""
import statistics

from clm.platform import Platform
from clm.ports import HOST
from clm.process import run

ROUNDS = 7


def rounds(program, directory, bin_dir, unit, *arguments, service="registry", timeout=600):
    """The medians of both, after telling each round."""
    run(["ninja", "-C", bin_dir.parent, "--quiet", program], timeout=300)
    platform = Platform(directory / "platform", bin_dir)
    try:
        platform.steps()[0][1]()
        platform.write_config(service)
        conninfo = f"host={HOST} port={platform.ports['postgresql']} dbname=clm user={service}"
        done = run([bin_dir / program, conninfo, platform.root / "secrets" / f"{service}.pgpass", ROUNDS, *arguments], timeout=timeout,
                   user=platform.user if platform.bin == bin_dir else None)
    finally:
        platform.stop()
    pairs = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
    for number, (ours, bare) in enumerate(pairs, 1):
        print(f"  round {number} of {ROUNDS}: {ours:.0f} {unit}/s, {bare:.0f} rows/s bare", flush=True)
    return [statistics.median(values) for values in zip(*pairs)]
