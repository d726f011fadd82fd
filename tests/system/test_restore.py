"""A database restored from an older backup: agents notice it, and `clmctl platform restored` brings the fleet back."""
import json
import uuid

import pytest

from clm.host import Agent
from clm.platform import ini, write
from clm.process import run, wait_until
from conftest import Host, start_platform

DATABASE = ("registry", "bootstrap", "tasks")


@pytest.fixture(scope="module")
def lost(make_platform):
    platform = make_platform("restore")

    def between(name):
        if name == "configuration":
            witness = platform.own_dir("witness") / "heads"
            platform.write_config("bootstrap", {"bootstrap": {"token_failures_per_min": 100000, "identity_life": "120s"}})
            platform.write_config("registry", {"audit": {"head_interval": "1s", "witness_file": witness}})
            platform.write_config("gateway", {"gateway": {"audit_head_interval": "1s", "checkin_interval": "5s"}})
    start_platform(platform, between)
    platform.witness = platform.root / "witness" / "heads"
    platform.copy = platform.root / "state" / "registry" / "platform-copy"
    return platform


@pytest.fixture
def operator(lost):
    client = lost.rest()
    yield client
    client.close()


def clmctl(platform, *arguments):
    return run([platform.bin / "clmctl", *arguments], check=False, timeout=120, env={
        "CLMCTL_URL": platform.url, "CLMCTL_CA": str(platform.roots), "CLMCTL_API_KEY_FILE": str(platform.api_key_file)})


def plain_agent(platform, directory, name):
    agent = Agent(platform, directory, name)
    write(agent.conf, ini({"agent": {"state_dir": agent.state, "net_user": "nobody"}}))
    return agent


def head(platform, agent):
    done = run([platform.bin / "clm-agent", "audit-head", "--config", agent.conf], check=False)
    return dict(line.split(None, 1) for line in done.stdout.splitlines()) if done.returncode == 0 else None


def inconsistent(rest):
    return rest.get("/api/v1/alerts", pageSize=500, kind="AUDIT_INCONSISTENT")["alerts"]


def test_a_restored_database_is_noticed_and_the_fleet_comes_back(lost, operator, scratch):
    rotating = Host(lost, scratch / "restore-a", "restore-a").start(operator)
    stolen = plain_agent(lost, scratch / "restore-b", "agent-restore-b")
    answer = operator.register("restore-b.example.com", operations=["VALIDATE"])
    stolen_id = answer["agent"]["id"]
    stolen.enrol(answer["token"]).start()
    operator.wait_agent(stolen_id, "ONLINE", process=stolen.process)
    late = operator.register("restore-c.example.com", operations=["VALIDATE"])
    late_id = late["agent"]["id"]
    processes = [rotating.agent.process, stolen.process]
    try:
        wait_until("the agent to hold a head", lambda: head(lost, rotating.agent), 30)
        backup = lost.backup()

        # What the backup does not know: a token that is used, an identity that moved on, an agent that is disabled.
        newcomer = plain_agent(lost, scratch / "restore-c", "agent-restore-c")
        newcomer.enrol(late["token"]).start()
        processes.append(newcomer.process)
        operator.wait_agent(late_id, "ONLINE", process=newcomer.process)
        operator.post(f"/api/v1/agents/{stolen_id}:disable", {"reason": "stolen"})
        scope = operator.agent(rotating.id)["scope"]
        operator.post(f"/api/v1/agents/{rotating.id}:setScope", {"scope": {
            name: scope[name] for name in ("operations", "paths", "dnsNames") if name in scope}})
        wait_until("an order under the new scope", lambda: operator.run_task(rotating.id, "VALIDATE", {
            "certificatePath": str(rotating.nginx.certificate)}) and (rotating.agent.state / "scope").read_text() == "0 2\n", 60)
        wait_until("the next generation", lambda: operator.agent(rotating.id).get("generation", 0) >= 1, 120,
                   process=rotating.agent.process)
        wait_until("the copy outside the database", lambda: lost.copy.exists() and stolen_id in lost.copy.read_text(), 30)
        size = operator.get("/api/v1/audit/head")["treeSize"]
        wait_until("the agents to hold it", lambda: int(head(lost, rotating.agent)["records"]) >= size, 30)
        tree = head(lost, rotating.agent)["tree"]

        for name in DATABASE:
            lost[name].stop()
        lost.restore(backup)
        for name in DATABASE:
            lost.start_service(name)
        lost.wait_ready()

        # It is noticed, by agents and by the copy, and nothing else happens.
        wait_until("the agents to say so", lambda: [a for a in inconsistent(operator) if a.get("agentId")], 60)
        wait_until("the registry to say so", lambda: [a for a in inconsistent(operator) if a["entityId"] == "platform"], 30)
        assert stolen_id in lost.copy.read_text()
        operator.create_task(rotating.id, "VALIDATE", {"certificatePath": str(rotating.nginx.certificate)})
        wait_until("the host to refuse a scope from before", lambda: "an older scope is refused" in rotating.agent.process.text(), 60)

        done = clmctl(lost, "platform", "restored")
        assert done.returncode == 0 and "epoch 1" in done.stdout and "1 tokens" in done.stdout and "1 agents" in done.stdout, done

        assert operator.agent(stolen_id)["status"] == "DISABLED", operator.agent(stolen_id)
        assert not inconsistent(operator), inconsistent(operator)
        for agent, agent_id in ((rotating.agent, rotating.id), (newcomer, late_id)):
            operator.wait_agent(agent_id, "ONLINE", process=agent.process)
            wait_until("its head to be of the new tree", lambda a=agent: head(lost, a)["tree"] != tree, 60)
            wait_until("its identity to be known", lambda a=agent_id: operator.get("/api/v1/audit/records", action="identity.adopted",
                                                                                 agentId=a)["entries"], 60)
            assert not operator.agent(agent_id).get("safeMode")
        task = operator.run_task(rotating.id, "VALIDATE", {"certificatePath": str(rotating.nginx.certificate)}, timeout=60)
        assert task["state"] == "SUCCEEDED", task
        moved = operator.agent(rotating.id)["generation"]
        wait_until("identities to move on", lambda: operator.agent(rotating.id)["generation"] > moved, 90)
        assert not [a for a in operator.get("/api/v1/alerts", pageSize=500)["alerts"] if a["kind"] in ("CLONE", "SAFE_MODE")]

        # The token that was burnt after the backup is not fresh.
        assert operator.get(f"/api/v1/agents/{late_id}/tokens")["tokens"][0]["state"] == "REVOKED"
        thief = plain_agent(lost, scratch / "restore-d", "agent-restore-d")
        thief.enrol(late["token"]).start()
        processes.append(thief.process)
        wait_until("the refusal", lambda: [e for e in operator.get("/api/v1/audit/records", action="token.refused", agentId=late_id)["entries"]], 30)
        assert not (thief.state / "agent.id").exists()

        # The log goes on in another tree, which says where it comes from.
        record = operator.get("/api/v1/audit/records", action="platform.restored")["entries"][0]
        assert record["index"] == 0 and record["tree"] == 2, record
        assert record["record"]["actor"].startswith("api-key:"), record
        named = record["record"]["former"][0]
        assert named["treeId"] == tree and named["treeSize"] >= size, (named, size)
        assert clmctl(lost, "audit", "export", scratch / "restored").returncode == 0
        witness = scratch / "restored-witness"
        covered = operator.get("/api/v1/audit/heads", pageSize=1)["heads"][0]["treeSize"]
        lines = [json.loads(line) for line in lost.witness.read_text().splitlines()]
        # The witness may have seen one head more than an agent did before the services ended; that one nobody can name.
        known = {tree: named["treeSize"]}
        witness.write_text("".join(json.dumps(line) + "\n" for line in lines if line["treeSize"] <= known.get(line["treeId"], covered)))
        done = clmctl(lost, "audit", "verify", scratch / "restored", "--roots", lost.roots, "--witness", witness)
        assert done.returncode == 0 and "2 trees" in done.stdout and "lost at least" in done.stdout, done
        without = [line for line in (scratch / "restored").read_text().splitlines()]
        first = next(i for i, line in enumerate(without) if '"tree":2' in line.replace(" ", ""))
        (scratch / "restored-cut").write_text("".join(line + "\n" for line in without[:first] + without[first + 1:]))
        assert clmctl(lost, "audit", "verify", scratch / "restored-cut", "--roots", lost.roots).returncode == 1
    finally:
        for process in processes:
            process.kill()
        rotating.stop()


def test_without_the_copy_the_stream_says_who_was_held_back(lost, operator, scratch):
    """Disabled, revoked and deleted after the backup; the copy is one from before, or gone. Enabling is never repeated."""
    agents = {}
    processes = []
    for name in ("disabled", "revoked", "deleted", "returned", "waiting"):
        agent = plain_agent(lost, scratch / f"stream-{name}", f"agent-stream-{name}")
        answer = operator.register(f"{name}.stream.example.com", operations=["VALIDATE"])
        agent.enrol(answer["token"]).start()
        processes.append(agent.process)
        agents[name] = answer["agent"]["id"]
    try:
        for agent_id, process in zip(agents.values(), processes):
            operator.wait_agent(agent_id, "ONLINE", process=process)
        operator.post(f"/api/v1/agents/{agents['waiting']}:disable", {"reason": "before the backup"})
        wait_until("the copy outside the database", lambda: agents["waiting"] in lost.copy.read_text(), 30)
        backup, copy = lost.backup(), lost.copy.read_text()

        operator.post(f"/api/v1/agents/{agents['disabled']}:disable", {"reason": "stolen"})
        operator.post(f"/api/v1/agents/{agents['revoked']}:revoke")
        operator.post(f"/api/v1/agents/{agents['deleted']}:delete")
        operator.post(f"/api/v1/agents/{agents['returned']}:disable", {"reason": "a mistake"})
        operator.post(f"/api/v1/agents/{agents['returned']}:enable")
        operator.post(f"/api/v1/agents/{agents['waiting']}:enable")
        wait_until("the gateway to know, and so the stream to have it all", lambda: operator.agent(agents["waiting"])["status"] == "ONLINE", 60)
        epoch = operator.get("/api/v1/platform").get("epoch")

        for name in DATABASE:
            lost[name].stop()
        lost.restore(backup)
        lost.copy.write_text(copy)
        for name in DATABASE:
            lost.start_service(name)
        lost.wait_ready()
        wait_until("the registry to say so", lambda: [a for a in inconsistent(operator)
                                                      if a["entityId"] == "platform" and "stream" in a["message"]], 60)
        lost.copy.unlink()

        done = clmctl(lost, "platform", "restored")
        assert done.returncode == 0 and "1 that were deleted" in done.stdout, (done, epoch)
        for name, reason in (("disabled", "stolen"), ("revoked", "revoked"), ("waiting", "before the backup")):
            agent = operator.agent(agents[name])
            assert (agent["status"], agent["reason"]) == ("DISABLED", reason), agent
        assert operator.raw("GET", f"/api/v1/agents/{agents['deleted']}")[0] == 404
        operator.wait_agent(agents["returned"], "ONLINE", process=processes[3])
        wait_until("the alert to be over", lambda: not [a for a in inconsistent(operator) if a["entityId"] == "platform"], 30)
    finally:
        for process in processes:
            process.kill()


def test_only_an_admin_declares_a_restore(lost, operator):
    for role, status in (("viewer", 403), ("operator", 403), ("auditor", 403)):
        client = lost.rest(api_key=lost.create_api_key(f"restore-{role}-{uuid.uuid4().hex[:4]}", role))
        assert client.raw("POST", "/api/v1/platform:restored")[0] == status, role
        client.close()
