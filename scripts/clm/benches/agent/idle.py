"""agent.pss_kb, agent.private_kb, agent.binary_kb, agent.start_ms, agent.wakeups_extra: the agent at rest, both processes, connected."""
import re
import shutil
import statistics
import time
from pathlib import Path

from clm.benches.figures import at_most
from clm.host import Agent, Nginx
from clm.platform import Platform
from clm.process import Failed, run, wait_until

STARTS, SETTLE_SEC, IDLE_SEC, LOOK_SEC = 7, 45, 240, 0.25


def processes(agent):
    """(exec, net)."""
    pid = agent.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise Failed(f"the agent is not at rest: children {children}")
    return pid, int(children[0])


def memory(pid):
    """(proportional, private) KiB."""
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M))
    return int(sizes["Pss"]), int(sizes["Private_Clean"]) + int(sizes["Private_Dirty"])


def switches(pid):
    """How often it went to sleep of itself: at least once for each time that it was woken."""
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M).group(1))
               for task in Path(f"/proc/{pid}/task").iterdir())


def checkins(platform):
    found = re.search(r"^clm_gateway_checkins_total (\d+)", platform.metrics("gateway"), re.M)
    return int(found.group(1)) if found else 0


def first_checkin_ms(platform, agent):
    """From just before the program is started until its gateway has taken a check-in."""
    before, begun = checkins(platform), time.monotonic()
    agent.start()
    wait_until("the first check-in", lambda: checkins(platform) > before, interval=0.002, process=agent.process)
    return (time.monotonic() - begun) * 1000


def binary_kib(program, directory):
    stripped = directory / "clm-agent.stripped"
    shutil.copy(program, stripped)
    run(["strip", stripped])
    return stripped.stat().st_size / 1024


def moments(pids):
    """How often something was awake in IDLE_SEC: looks that saw a change, next to each other counted as one."""
    seen, awake, before = 0, False, [switches(pid) for pid in pids]
    end = time.monotonic() + IDLE_SEC
    while time.monotonic() < end:
        time.sleep(LOOK_SEC)
        now = [switches(pid) for pid in pids]
        seen += now != before and not awake
        awake, before = now != before, now
    return seen


def rest_of(platform, agent):
    """(proportional KiB, private KiB, wake-ups a minute, check-ins a minute)"""
    time.sleep(SETTLE_SEC)  # the first answers, heads of the audit log
    pids = processes(agent)
    before, asked, begun = [switches(pid) for pid in pids], checkins(platform), time.monotonic()
    woken = moments(pids)
    minutes = (time.monotonic() - begun) / 60
    sizes = [memory(pid) for pid in pids]
    for name, pid, was, (pss, private) in zip(("exec", "net"), pids, before, sizes):
        print(f"  {name}: {pss} KiB proportional, {private} KiB private, {(switches(pid) - was) / minutes:.1f} voluntary context switches "
              f"a minute", flush=True)
    return sum(s[0] for s in sizes), sum(s[1] for s in sizes), woken / minutes, (checkins(platform) - asked) / minutes


def measure(directory, bin_dir):
    platform = Platform(directory / "platform", bin_dir).start()
    nginx = Nginx(directory / "nginx")
    agent = Agent(platform, directory / "agent")
    try:
        nginx.start()
        agent.setup(nginx)
        rest = platform.rest()
        answer = rest.register("bench", operations=["VALIDATE"], paths=[f"{nginx.dir}/**"], dns_names=[nginx.name])
        agent.enrol(answer["token"]).start()
        rest.wait_agent(answer["agent"]["id"], "ONLINE", process=agent.process)
        starts = []
        for _ in range(STARTS):
            agent.stop()
            starts.append(first_checkin_ms(platform, agent))
        print(f"  starts: {', '.join(f'{ms:.0f}' for ms in starts)} ms to the first check-in", flush=True)
        pss, private, woken, asked = rest_of(platform, agent)
        print(f"  {woken:.1f} moments awake and {asked:.1f} check-ins a minute", flush=True)
    finally:
        for part in (agent, nginx, platform):
            part.stop()
    return [at_most("agent.pss_kb", pss, None, "KiB", 8192),
            at_most("agent.private_kb", private, None, "KiB", 3072),
            at_most("agent.binary_kb", binary_kib(platform.bin / "clm-agent", directory), None, "KiB", 4096),
            at_most("agent.start_ms", statistics.median(starts), None, "ms", 1000),
            at_most("agent.wakeups_extra", woken - asked, None, "/min", 0.5)]
