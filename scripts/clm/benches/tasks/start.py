"""task.start_p50_ms, task.start_p99_ms: from before the REST request until the agent starts; beside a bare NATS round trip."""
import random
import shutil
import statistics
import time
from datetime import datetime

from clm.benches.figures import at_most, percentile
from clm.host import Agent, Nginx
from clm.platform import Platform
from clm.ports import HOST, free_port
from clm.process import Failed, Process, run, wait_until

ROUNDS, TASKS_A_ROUND, ROUND_TRIPS_A_ROUND = 5, 100, 1000


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


def measure(directory, bin_dir):
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
    return [at_most("task.start_p50_ms", median(ours, .50), median(peer, .50), "ms", 10),
            at_most("task.start_p99_ms", median(ours, .99), median(peer, .99), "ms", 100)]
