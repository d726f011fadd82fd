"""envelope.rate: task envelopes a second of one core, beside the P-256 signature and the ECDH that each of them needs."""
import statistics

from clm.benches.figures import ratio_at_least
from clm.process import run

ROUNDS, EACH = 7, 500


def measure(_directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "envelope_rate"], timeout=300)
    ours, bare = [], []
    for line in run([bin_dir / "envelope_rate", ROUNDS, EACH], timeout=300).stdout.splitlines():
        mine, peer = (float(value) for value in line.split())
        ours.append(mine)
        bare.append(peer)
        print(f"  round {len(ours)} of {ROUNDS}: {mine:.0f} us an envelope, {peer:.0f} us a bare signature and ECDH", flush=True)
    return [ratio_at_least("envelope.rate", 1e6 / statistics.median(ours), 1e6 / statistics.median(bare), "1/s", 0.5)]
