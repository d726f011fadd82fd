"""gateway.rest_mb, gateway.agent_kb: what a gateway takes at rest, and what each connected agent adds, with 10,000 of them.

Each agent (fleet.py) holds a check-in and is known to the gateway by an identity of its own. Private memory of the process. CLM_BENCH_AGENTS
in the environment: with fewer, where there is less time.
"""
import os
import re
import time

from clm.benches.agent.idle import memory
from clm.benches.figures import at_most
from clm.benches.fleet import Held, enrol
from clm.platform import Platform
from clm.process import Failed, run, wait_until

AGENTS, TRIES = int(os.environ.get("CLM_BENCH_AGENTS", "10000")), 5
REST_SEC = 5  # what a start allocates and frees is over
ROUND_SEC = 35  # longer than a check-in is held: every agent has been answered and asks again


def connected(platform):
    return sum(int(n) for n in re.findall(r"^clm_gateway_agents_connected(?:\{.*\})? (\d+)$", platform.metrics("gateway"), re.M))


def let_in(lines, platform, program, directory):
    """Held; a gateway that is full for a moment turns somebody away, which ends the simulation."""
    for tries in range(TRIES):
        try:
            return Held(program, platform, directory, lines)
        except Failed:
            if tries == TRIES - 1:
                raise


def with_agents(platform, program, directory, ids):
    """(proportional, private) KiB of the gateway while each has been answered and has asked again."""
    agents = let_in([f"{one} {platform.ports['agent']} {one}" for one in ids], platform, program, directory)
    try:
        wait_until("every agent to be connected", lambda: connected(platform) == len(ids), 120, 0.5)
        time.sleep(ROUND_SEC)
        return memory(platform["gateway"].pid)
    finally:
        agents.stop()


def measure(directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "hold_agents"], timeout=600)
    platform = Platform(directory / "platform", bin_dir)
    try:
        platform.start()
        agents = directory / "agents"
        agents.mkdir()
        begun = time.monotonic()
        ids = enrol(platform, agents, AGENTS)
        print(f"  {len(ids)} agents enrolled in {time.monotonic() - begun:.0f} s", flush=True)
        platform["gateway"].stop(60)
        platform["gateway"].start()
        platform.wait_ready()
        time.sleep(REST_SEC)
        pss, rest = memory(platform["gateway"].pid)
        full_pss, full = with_agents(platform, bin_dir / "hold_agents", agents, ids)
    finally:
        platform.stop()
    print(f"  at rest {pss} KiB proportional, {rest} private; with {len(ids)} agents {full_pss} proportional, {full} private", flush=True)
    return [at_most("gateway.rest_mb", rest / 1024, None, "MiB", 32), at_most("gateway.agent_kb", (full - rest) / len(ids), None, "KiB", 32)]
