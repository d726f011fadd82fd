"""revoke.cut_ms: from before the REST request that revokes an agent until the last of three gateways has cut its connection, p99.

1,000 agents hold check-ins, spread over the gateways; those that are revoked, one after the other, are connected to all three. The agents
are simulated (fleet.py).
"""
import time

from clm.benches.figures import at_most, percentile
from clm.benches.fleet import Held, enrol
from clm.platform import Platform
from clm.process import Failed, run
from clm.replicas import Replica

AGENTS, REVOKED = 1000, 200


def measure(directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "hold_agents"], timeout=300)
    platform, processes, held = Platform(directory / "platform", bin_dir), [], None
    try:
        platform.start()
        processes = [Replica(platform, "gateway", number).start().wait_ready() for number in (2, 3)]
        ports = [platform.ports["agent"], *(replica.ports["agent"] for replica in processes)]
        rest = platform.rest()
        agents = directory / "agents"
        agents.mkdir()
        ids = enrol(platform, agents, AGENTS)
        lines = [f"{one} {port} {one}" for one in ids[:REVOKED] for port in ports]
        lines += [f"{one} {ports[i % 3]} {one}" for i, one in enumerate(ids[REVOKED:])]
        held = Held(bin_dir / "hold_agents", platform, agents, lines)
        print(f"  {len(ids)} agents on {len(lines)} connections to 3 gateways", flush=True)
        took = []
        for one in ids[:REVOKED]:
            began_us = time.monotonic_ns() // 1000
            rest.post(f"/api/v1/agents/{one}:revoke")
            took.append((held.wait_cut(one, len(ports)) - began_us) / 1000)
        if len(held.cuts) != REVOKED:
            raise Failed("others than those were cut")
        print(f"  {REVOKED} revoked one after the other: p50 {percentile(took, .5):.1f} ms, p99 {percentile(took, .99):.1f} ms, "
              f"longest {max(took):.1f} ms", flush=True)
    finally:
        if held:
            held.stop()
        for process in processes:
            process.stop()
        platform.stop()
    return [at_most("revoke.cut_ms", percentile(took, .99), None, "ms", 2000)]
