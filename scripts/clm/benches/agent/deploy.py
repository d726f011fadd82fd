"""deploy.overhead_ms: what a DEPLOY to a served and verified certificate on nginx takes beyond nginx's own reload."""
import statistics
import time
from datetime import datetime

from clm.benches.figures import at_most, percentile
from clm.host import Agent, Nginx, fingerprint, served
from clm.platform import Platform, write
from clm.process import Failed, run

ROUNDS, DEPLOYS_A_ROUND = 5, 10


def milliseconds(rfc3339):
    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).timestamp() * 1000


class Issuer:
    """A CA of the bench's own; every certificate is a new one for the key in place."""

    def __init__(self, directory, nginx):
        self.dir, self.nginx, self.key, self.certificate = directory, nginx, directory / "ca.key", directory / "ca.crt"
        directory.mkdir()
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-keyout", self.key, "-out", self.certificate, "-subj", "/CN=bench", "-addext", "basicConstraints=critical,CA:true",
             "-addext", "keyUsage=critical,keyCertSign"])
        write(directory / "ext.cnf", f"subjectAltName=DNS:{nginx.name}\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n")
        run(["openssl", "req", "-new", "-key", nginx.key, "-subj", f"/CN={nginx.name}", "-out", directory / "csr.pem"])

    def chain(self):
        leaf = run(["openssl", "x509", "-req", "-in", self.dir / "csr.pem", "-CA", self.certificate, "-CAkey", self.key,
                    "-CAcreateserial", "-days", "20", "-extfile", self.dir / "ext.cnf"]).stdout
        return leaf + self.certificate.read_text()


QUIET_SEC = .25  # without an answer of a former worker: nginx lets them go 100 ms after it has started the new ones


def settled(nginx, wanted):
    """When the endpoint began to answer with that certificate and nothing else. How long it takes to be sure of it does not
    count, which the agent's own looking does."""
    since, quiet, deadline = None, time.perf_counter(), time.monotonic() + 30
    while not since or time.perf_counter() - quiet < QUIET_SEC:
        if time.monotonic() > deadline:
            raise Failed("nginx does not serve the certificate that was put in place")
        if fingerprint(served(nginx.port, nginx.name)) != wanted:
            since, quiet = None, time.perf_counter()
        elif not since:
            since = time.perf_counter()
    return since


def bare_reload(nginx, issuer):
    """Milliseconds from `nginx -s reload` until a certificate that somebody just put there is served, and no other any more:
    what no agent can make faster."""
    chain = issuer.chain()
    write(nginx.certificate, chain)
    wanted = run(["openssl", "x509", "-noout", "-fingerprint", "-sha256"], stdin=chain).stdout
    wanted = wanted.split("=")[1].strip().replace(":", "").lower()
    started = time.perf_counter()
    run([nginx.program, "-e", nginx.dir / "error.log", "-c", nginx.conf, "-s", "reload"])
    return (settled(nginx, wanted) - started) * 1000


def deploy(rest, agent_id, issuer):
    """(wall, reload): milliseconds from before POST /api/v1/tasks until the agent says that the new certificate is served,
    and those of nginx's own command in them. Both clocks are this host's."""
    chain = issuer.chain()
    asked = time.time() * 1000
    task = rest.wait_task(rest.create_task(agent_id, "DEPLOY", {"target": "nginx", "chainPem": chain})["id"])
    if task["state"] != "SUCCEEDED":
        raise Failed(f"a deployment failed: {task}")
    steps = {step["name"]: step for step in task["result"]["steps"]}
    verified = milliseconds(steps["verify"]["startedAt"]) + steps["verify"].get("durationMs", 0)
    return verified - asked, steps["reload"].get("durationMs", 0)


def measure(directory, bin_dir):
    platform = Platform(directory / "platform", bin_dir).start()
    nginx = Nginx(directory / "nginx")
    agent = Agent(platform, directory / "agent")
    walls, bare, commands = [], [], []
    try:
        nginx.start()
        issuer = Issuer(directory / "ca", nginx)
        agent.setup(nginx)
        rest = platform.rest()
        answer = rest.register("bench", operations=["DEPLOY"], paths=[f"{nginx.dir}/**"], dns_names=[nginx.name])
        agent.enrol(answer["token"]).start()
        agent_id = answer["agent"]["id"]
        rest.wait_agent(agent_id, "ONLINE", process=agent.process)
        for _ in range(3):
            bare_reload(nginx, issuer)
            deploy(rest, agent_id, issuer)
        for i in range(ROUNDS):
            bare.append([bare_reload(nginx, issuer) for _ in range(DEPLOYS_A_ROUND)])
            taken = [deploy(rest, agent_id, issuer) for _ in range(DEPLOYS_A_ROUND)]
            walls.append([wall for wall, _ in taken])
            commands.append([command for _, command in taken])
            print(f"  round {i + 1} of {ROUNDS}: DEPLOY p50 {percentile(walls[-1], .5):.0f} ms, nginx's reload alone p50 "
                  f"{percentile(bare[-1], .5):.0f} ms", flush=True)
    finally:
        for part in (agent, nginx, platform):
            part.stop()
    wall = statistics.median(percentile(values, .5) for values in walls)
    own = statistics.median(percentile(values, .5) for values in bare)
    command = statistics.median(percentile(values, .5) for values in commands)
    print(f"  {ROUNDS * DEPLOYS_A_ROUND} DEPLOYs: {wall:.0f} ms from the request to served and verified, of which nginx's own reload "
          f"{own:.0f} ms ({own / wall:.0%}), its command {command:.0f} ms")
    return [at_most("deploy.overhead_ms", wall - own, own, "ms", 100)]
