"""./dev bench: figures beside a peer measured in the same run, in the form that docs/benchmarks.md describes."""
import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from clm.host import Agent, Nginx
from clm.platform import TOP, Platform
from clm.ports import HOST, free_port
from clm.process import Failed, Process, run, wait_until

ROUNDS, TASKS_A_ROUND, ROUND_TRIPS_A_ROUND = 5, 100, 1000
AUDIT_ROUNDS = 7


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def figure(name, ours, peer, unit, limit):
    """One line of the result. `limit` is on ours: a figure without a ratio's target."""
    return {"figure": name, "ours": round(ours, 3), "peer": round(peer, 3), "unit": unit,
            "ratio": round(ours / peer, 2) if peer else None, "target": f"<= {limit}", "met": ours <= limit}


def ratio_figure(name, ours, peer, unit, least):
    """One line of the result. `least` is on the ratio to the peer."""
    return {"figure": name, "ours": round(ours, 3), "peer": round(peer, 3), "unit": unit, "ratio": round(ours / peer, 2),
            "target": f">= {least}", "met": ours / peer >= least}


def milliseconds(rfc3339):
    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).timestamp() * 1000


class BareNats:
    """nats-server as it comes, without TLS or users."""

    def __init__(self, directory, program):
        self.url, self.program = f"nats://{HOST}:{free_port()}", program
        port = self.url.rsplit(":", 1)[1]
        self.server = Process("bare-nats", [shutil.which("nats-server") or "/usr/sbin/nats-server", "-a", HOST, "-p", port],
                              directory / "bare-nats.log").start()
        wait_until("the bare nats-server to listen", lambda: run([program, self.url, "1"], check=False).returncode == 0)

    def round_trips(self, count):
        """Milliseconds of each."""
        return [float(line) / 1000 for line in run([self.program, self.url, count], timeout=120).stdout.split()]

    def stop(self):
        self.server.stop()


def start_delay(rest, agent_id, spec):
    """Milliseconds from before POST /api/v1/tasks until the agent says that it started. Both clocks are this host's."""
    asked = time.time() * 1000
    task = rest.wait_task(rest.create_task(agent_id, "VALIDATE", spec)["id"])
    if "startedAt" not in task:
        raise Failed(f"the task was never started: {task}")
    return milliseconds(task["startedAt"]) - asked


def bench_tasks(directory, bin_dir):
    run(["ninja", "-C", bin_dir.parent, "--quiet", "nats_rtt"], timeout=300)
    platform = Platform(directory / "platform", bin_dir).start()
    nginx, bare = Nginx(directory / "nginx"), None
    agent = Agent(platform, directory / "agent")
    try:
        bare = BareNats(directory, bin_dir / "nats_rtt")
        nginx.start()
        agent.setup(nginx)
        rest = platform.rest()
        answer = rest.register("bench", operations=["VALIDATE"], paths=[f"{nginx.dir}/**"], dns_names=[nginx.name])
        agent.enrol(answer["token"]).start()
        agent_id = answer["agent"]["id"]
        rest.wait_agent(agent_id, "ONLINE", process=agent.process)
        spec = {"certificatePath": str(nginx.certificate)}
        for _ in range(5):
            start_delay(rest, agent_id, spec)
        ours, peer = [], []
        for i in range(ROUNDS):
            peer.append(bare.round_trips(ROUND_TRIPS_A_ROUND))
            delays = []
            for _ in range(TASKS_A_ROUND):
                delays.append(start_delay(rest, agent_id, spec))
                time.sleep(random.uniform(0.02, 0.08))  # spaced: each meets an agent that waits
            ours.append(delays)
            print(f"  round {i + 1} of {ROUNDS}: start p50 {percentile(delays, .5):.1f} ms, "
                  f"bare NATS round trip p50 {percentile(peer[-1], .5):.3f} ms", flush=True)
        print(f"  {ROUNDS * TASKS_A_ROUND} VALIDATE tasks, 1 agent connected")
    finally:
        for part in (agent, nginx, bare, platform):
            if part:
                part.stop()

    def median(rounds, share):
        return statistics.median(percentile(values, share) for values in rounds)
    return [figure("task.start_p50_ms", median(ours, .50), median(peer, .50), "ms", 10),
            figure("task.start_p99_ms", median(ours, .99), median(peer, .99), "ms", 100)]


def bench_identity(directory, bin_dir):
    """Only audit.append yet: a PostgreSQL of its own, as it comes (fsync on)."""
    run(["ninja", "-C", bin_dir.parent, "--quiet", "audit_append"], timeout=300)
    platform = Platform(directory / "platform", bin_dir)
    rounds = []
    try:
        platform.steps()[0][1]()
        platform.write_config("registry")
        conninfo = f"host={HOST} port={platform.ports['postgresql']} dbname=clm user=registry"
        done = run([bin_dir / "audit_append", conninfo, platform.root / "secrets" / "registry.pgpass", AUDIT_ROUNDS], timeout=600,
                   user=platform.user if platform.bin == bin_dir else None)
        for line in done.stdout.splitlines():
            rounds.append([float(value) for value in line.split()])
            print(f"  round {len(rounds)} of {AUDIT_ROUNDS}: {rounds[-1][0]:.0f} records/s appended, "
                  f"{rounds[-1][1]:.0f} rows/s bare", flush=True)
    finally:
        platform.stop()
    ours, peer = (statistics.median(values) for values in zip(*rounds))
    return [ratio_figure("audit.append", ours, peer, "rec/s", 0.8)]


AREAS = {"tasks": bench_tasks, "identity": bench_identity}


def print_table(figures):
    row = "{figure:24} {ours:>10} {peer:>10} {unit:5} {ratio:>8} {target:>8} {met}".format
    print(row(figure="figure", ours="ours", peer="peer", unit="unit", ratio="ratio", target="target", met="met"))
    for one in figures:
        print(row(**{**one, "met": "yes" if one["met"] else "NO"}))


def main():
    parser = argparse.ArgumentParser(prog="./dev bench")
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--bin", type=Path, default=TOP / "build" / "release" / "bin", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON object a figure")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="clm-bench-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        figures = AREAS[args.area](directory, args.bin.resolve())
    except (Failed, subprocess.SubprocessError) as error:
        print(f"bench: {error}\n(files are kept in {directory})", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    print_table(figures)
    if args.json:
        with open(args.json, "a", encoding="utf-8") as out:
            out.writelines(json.dumps(one) + "\n" for one in figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
