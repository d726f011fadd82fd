"""The audit log as auditors meet it, and alerts as operators do."""
import base64
import hashlib
import http.server
import json
import socket
import ssl
import threading
import uuid

import pytest

from clm.host import Agent
from clm.platform import ini, write
from clm.ports import HOST
from clm.process import run, wait_until
from clm.rest import RestError


def entries(rest, **query):
    """All records that match, newest first."""
    found, token = [], None
    while True:
        page = rest.get("/api/v1/audit/records", pageSize=500, **query, **({"pageToken": token} if token else {}))
        found += page["entries"]
        token = page.get("nextPageToken")
        if not token:
            return found


def records(rest, **query):
    return [entry["record"] for entry in entries(rest, **query)]


def wait_records(rest, count=1, timeout=30, **query):
    return wait_until(f"{count} audit records with {query}", lambda: (lambda r: r if len(r) >= count else None)(records(rest, **query)), timeout)


def alerts(rest, **query):
    return rest.get("/api/v1/alerts", pageSize=500, **query)["alerts"]


class Witness(http.server.BaseHTTPRequestHandler):
    """Takes heads; says no to the first one that comes, to see it again."""
    seen, refused = [], []

    def do_POST(self):
        head = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (self.seen if self.refused else self.refused).append(head)
        self.send_response(204 if self.seen else 500)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def webhook():
    server = http.server.ThreadingHTTPServer((HOST, 0), Witness)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{server.server_address[1]}/heads"
    server.shutdown()


@pytest.fixture(scope="module")
def own(make_platform, webhook):
    """A platform with heads every second and short windows, whose database a test may alter."""
    platform = make_platform("audit")

    def progress(name, function):
        function()
        if name == "configuration":
            witness = platform.own_dir("witness") / "heads"
            platform.write_config("registry", {"audit": {"head_interval": "1s", "witness_file": witness,
                                                         "witness_webhook": webhook}})
            platform.write_config("gateway", {"gateway": {"refusal_window": "1s", "audit_head_interval": "1s",
                                                          "checkin_interval": "5s"}})
    platform.start(progress)
    platform.witness = platform.root / "witness" / "heads"
    return platform


@pytest.fixture
def own_rest(own):
    client = own.rest()
    yield client
    client.close()


@pytest.fixture
def clmctl(own):
    def call(*arguments):
        return run([own.bin / "clmctl", *arguments], check=False, timeout=120, env={
            "CLMCTL_URL": own.url, "CLMCTL_CA": str(own.roots), "CLMCTL_API_KEY_FILE": str(own.api_key_file)})
    return call


def some_history(rest, n=5):
    """Registers agents; their ids, once a signed head covers them all."""
    ids = [rest.register(f"audit-{uuid.uuid4().hex[:8]}.example.com")["agent"]["id"] for _ in range(n)]
    wait_records(rest, action="agent.registered", agentId=ids[-1])
    last = entries(rest, action="agent.registered", agentId=ids[-1])[0]["index"]

    def covered():
        try:
            return rest.get("/api/v1/audit/head")["treeSize"] > last
        except RestError as error:
            assert error.status == 404
            return False
    wait_until("a head over them", covered)
    return ids


# ---- what is written ------------------------------------------------------------------------------------------


def test_who_did_what_is_written_once_with_the_right_actor(host, rest):
    admin = "api-key:" + host.platform.api_key.split("_")[1]
    task = rest.run_task(host.id, "VALIDATE", {"target": "nginx"})
    wait_records(rest, action="task.finished", agentId=host.id)
    by_action = {}
    for record in records(rest, agentId=host.id):
        by_action.setdefault(record["action"], []).append(record)
    assert [r["actor"] for r in by_action["agent.registered"]] == [admin], by_action
    assert [r["actor"] for r in by_action["token.created"]] == [admin], by_action
    assert [r["actor"] for r in by_action["token.used"]] == [f"agent:{host.id}"], by_action
    assert by_action["identity.issued"][0]["source"] == HOST
    assert len(by_action["identity.issued"]) == len(by_action["identity.confirmed"]) == 1
    assert by_action["identity.issued"][0]["certificateSha256"] == rest.agent(host.id)["identityFingerprintSha256"]
    assert [(r["actor"], r["entityId"]) for r in by_action["task.created"]] == [(admin, task["id"])]
    finished = by_action["task.finished"]
    assert [(r["actor"], r["entityId"], r["outcome"]) for r in finished] == [(f"agent:{host.id}", task["id"], task["state"])]
    receipt = host.platform.sql(f"SELECT encode(sha256, 'hex') FROM tasks.receipts WHERE task_id = '{task['id']}'")[0][0]
    assert base64.b64decode(finished[0]["receiptSha256"]).hex() == receipt
    _, certificate = host.agent.task_identity()
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    assert finished[0]["certificateSha256"] == hashlib.sha256(der).hexdigest()
    ids = [r["eventId"] for r in records(rest, agentId=host.id)]
    assert len(ids) == len(set(ids))


def test_what_happened_while_the_registry_was_down_is_written_exactly_once(platform, make_host, rest):
    host = make_host()
    host.slow_reload(seconds=3)
    host.start(rest)
    task_id = rest.create_task(host.id, "RENEW", {"target": "nginx"})["id"]
    wait_until("the reload to begin", host.reload_begun.exists, 30, process=host.agent.process)
    platform["registry"].kill()
    wait_until("the receipt to arrive", lambda: platform.sql(f"SELECT 1 FROM tasks.receipts WHERE task_id = '{task_id}'"), 60)
    platform.start_service("registry")
    platform.wait_ready()
    wait_records(rest, action="task.finished", agentId=host.id)
    assert [r["entityId"] for r in records(rest, action="task.finished", agentId=host.id)] == [task_id]
    assert len(records(rest, action="certificate.issued", agentId=host.id)) == 1


def test_refused_logins_of_a_window_are_one_record_with_a_count(own, own_rest):
    stranger = own.rest(api_key="clm_" + "0" * 16 + "_nothing")
    for _ in range(5):
        assert stranger.raw("GET", "/api/v1/agents")[0] == 401
    stranger.close()

    def counted():
        found = records(own_rest, action="refusal.login")
        return sum(r["count"] for r in found) >= 5 and found
    found = wait_until("the refusals to be written", counted)
    assert len(found) <= 2 and all(r["source"] == HOST and r["outcome"] == "REFUSED" for r in found), found


def test_a_refusal_while_the_registry_is_down_is_written_when_it_is_back(own, own_rest):
    viewer = own.rest(api_key=own.create_api_key(f"viewer-{uuid.uuid4().hex[:6]}", "viewer"))
    before = len(records(own_rest, action="refusal.permission"))
    assert viewer.raw("GET", "/api/v1/audit/records")[0] == 403
    own["registry"].kill()
    viewer.close()
    own.start_service("registry")
    own.wait_ready()
    wait_until("the refusal to be written", lambda: len(records(own_rest, action="refusal.permission")) > before)
    assert sum(r["count"] for r in records(own_rest, action="refusal.permission")[:1]) == 1


def test_a_client_certificate_of_another_ca_is_written_down(own, own_rest, tmp_path):
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-keyout",
         tmp_path / "key", "-out", tmp_path / "crt", "-subj", "/CN=stranger"])
    context = ssl.create_default_context(cafile=own.roots)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with context.wrap_socket(socket.create_connection((HOST, own.ports["agent"])), server_hostname="localhost") as tls:
            tls.sendall(b"POST /agent/v1/checkin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tls.recv(1) != b""
            raise AssertionError("it was let in")
    found = wait_records(own_rest, action="refusal.handshake")
    assert "stranger" in found[0]["actor"] and found[0]["source"] == HOST, found


# ---- who may read it ------------------------------------------------------------------------------------------


def test_the_log_is_for_auditors_and_admins(own, own_rest):
    some_history(own_rest, 1)
    for role, status in (("viewer", 403), ("operator", 403), ("auditor", 200), ("admin", 200)):
        client = own.rest(api_key=own.create_api_key(f"reader-{role}", role))
        for path in ("/api/v1/audit/records", "/api/v1/audit/head", "/api/v1/audit/heads", "/api/v1/audit/records/0:proof",
                     "/api/v1/audit/consistency?first=1&second=1"):
            assert client.raw("GET", path)[0] == status, (role, path)
        client.close()


def test_records_are_found_by_action_time_and_page(own_rest):
    ids = some_history(own_rest, 3)
    assert {r["agentId"] for r in records(own_rest, action="agent.*")} >= set(ids)
    times = sorted(r["occurredAt"] for r in records(own_rest, action="agent.registered"))
    assert all(r["occurredAt"] >= times[1] for r in records(own_rest, action="agent.registered", fromAt=times[1]))
    assert all(r["occurredAt"] < times[-1] for r in records(own_rest, action="agent.registered", untilAt=times[-1]))
    first = own_rest.get("/api/v1/audit/records", pageSize=2, oldestFirst="true")
    assert [e["index"] for e in first["entries"]] == [0, 1]
    second = own_rest.get("/api/v1/audit/records", pageSize=2, oldestFirst="true", pageToken=first["nextPageToken"])
    assert [e["index"] for e in second["entries"]] == [2, 3]
    for query in ({"pageToken": "x"}, {"pageSize": 501}, {"agentId": "no"}, {"fromAt": "yesterday"}):
        with pytest.raises(RestError) as refused:
            own_rest.get("/api/v1/audit/records", **query)
        assert refused.value.status == 400


def test_filters_by_actor_agent_action_and_time_say_the_same_over_rest_and_clmctl(own, own_rest, clmctl):
    mine = some_history(own_rest, 2)
    other = own.rest(api_key=own.create_api_key(f"filters-{uuid.uuid4().hex[:8]}", "admin"))
    theirs = other.register(f"audit-{uuid.uuid4().hex[:8]}.example.com")["agent"]["id"]
    other.close()
    record = wait_records(own_rest, action="agent.registered", agentId=theirs)[0]
    actor, when = record["actor"], record["occurredAt"]

    by_actor = records(own_rest, actor=actor)
    assert {r["actor"] for r in by_actor} == {actor} and theirs in {r["agentId"] for r in by_actor}, by_actor
    assert {r["agentId"] for r in records(own_rest, agentId=mine[0])} == {mine[0]}
    assert {r["agentId"] for r in records(own_rest, actor=actor, action="agent.registered")} == {theirs}
    assert records(own_rest, actor=actor, agentId=mine[0]) == []
    assert {r["action"] for r in records(own_rest, agentId=theirs, action="agent.*")} == {"agent.registered"}
    assert theirs in {r["agentId"] for r in records(own_rest, action="agent.registered", fromAt=when)}  # inclusive
    assert theirs not in {r["agentId"] for r in records(own_rest, action="agent.registered", untilAt=when)}  # exclusive

    def indexes(**query):
        return {entry["index"] for entry in entries(own_rest, **query)}
    option = {"actor": "--actor", "agentId": "--agent", "action": "--action", "fromAt": "--from", "untilAt": "--until"}
    for query in ({"actor": actor}, {"agentId": mine[1]}, {"action": "agent.registered"}, {"action": "agent.*"}, {"fromAt": when},
                  {"untilAt": when}, {"actor": actor, "agentId": mine[0]}, {"action": "agent.registered", "fromAt": when}):
        before = indexes(**query)
        done = clmctl("audit", "list", "--limit", "500", "-o", "json", *(part for name, value in query.items() for part in (option[name], value)))
        assert done.returncode == 0, (query, done.stderr)
        listed = {entry["index"] for entry in json.loads(done.stdout).get("entries", [])}
        assert before <= listed <= indexes(**query), query
    page = clmctl("audit", "list", "--action", "agent.registered", "--limit", "1", "-o", "json")
    token = json.loads(page.stdout)["nextPageToken"]
    behind = clmctl("audit", "list", "--action", "agent.registered", "--limit", "1", "-o", "json", "--page", token)
    assert json.loads(behind.stdout)["entries"][0]["index"] < json.loads(page.stdout)["entries"][0]["index"]
    refused = clmctl("audit", "list", "--from", "yesterday")
    assert refused.returncode != 0 and "from" in refused.stderr.lower(), refused


# ---- proofs, held against hashing of our own ------------------------------------------------------------------


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def tree_hash(leaves):
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def root_of_inclusion(leaf, index, size, proof):
    """RFC 9162 section 2.1.3.2."""
    node, last, value = index, size - 1, leaf_hash(leaf)
    for step in proof:
        assert last > 0
        if node & 1 or node == last:
            value = node_hash(step, value)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, step)
        node, last = node >> 1, last >> 1
    assert last == 0
    return value


def test_proofs_over_rest_lead_to_the_root_of_the_records(own_rest):
    some_history(own_rest, 4)
    size = own_rest.get("/api/v1/audit/head")["treeSize"]
    leaves = [base64.b64decode(e["leaf"]) for e in sorted(entries(own_rest), key=lambda e: e["index"])][:size]
    root = tree_hash(leaves)
    for index in {0, 1, size // 2, size - 1}:
        proof = own_rest.get(f"/api/v1/audit/records/{index}:proof", treeSize=size)
        assert base64.b64decode(proof["entry"]["leaf"]) == leaves[index]
        assert root_of_inclusion(leaves[index], index, size, [base64.b64decode(h) for h in proof["inclusion"]]) == root
        assert proof["head"]["treeSize"] == size
    consistency = own_rest.get("/api/v1/audit/consistency", first=size // 2, second=size)
    assert base64.b64decode(consistency["firstRootSha256"]) == tree_hash(leaves[:size // 2])
    assert base64.b64decode(consistency["secondRootSha256"]) == root
    for bad in ({"first": 0, "second": 1}, {"first": 2, "second": 1}, {"first": 1, "second": 10 ** 9}):
        with pytest.raises(RestError) as refused:
            own_rest.get("/api/v1/audit/consistency", **bad)
        assert refused.value.status == 400


# ---- clmctl ---------------------------------------------------------------------------------------------------


def test_an_export_verifies_offline_with_the_witness(own, own_rest, clmctl, tmp_path):
    some_history(own_rest)
    done = clmctl("audit", "export", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    done = clmctl("audit", "verify", tmp_path / "log", "--roots", own.roots)
    assert done.returncode == 0 and "hold" in done.stdout, done
    witness = tmp_path / "witness"
    lines = [line for line in own.witness.read_text().splitlines() if json.loads(line)["treeSize"] <= json.loads(
        own_rest.raw("GET", "/api/v1/audit/head")[2])["treeSize"]]
    exported = sum('"entry"' in line for line in (tmp_path / "log").read_text().splitlines())
    witness.write_text("".join(line + "\n" for line in lines if json.loads(line)["treeSize"] <= exported))
    done = clmctl("audit", "verify", tmp_path / "log", "--roots", own.roots, "--witness", witness)
    assert done.returncode == 0 and "witness" in done.stdout, done
    listed = clmctl("audit", "list", "--action", "agent.registered", "--limit", "3")
    assert listed.returncode == 0 and listed.stdout.count("agent.registered") == 3, listed


def test_every_head_reaches_the_witnesses_outside(own, own_rest):
    some_history(own_rest, 1)
    size = own_rest.get("/api/v1/audit/head")["treeSize"]
    wait_until("the webhook to have seen it", lambda: any(head["treeSize"] >= size for head in Witness.seen))
    wait_until("the file to have it", lambda: any(json.loads(line)["treeSize"] >= size for line in own.witness.read_text().splitlines()))
    in_file = {json.loads(line)["treeSize"]: json.loads(line)["head"] for line in own.witness.read_text().splitlines()}
    shown = [head["treeSize"] for head in Witness.seen]
    assert shown == sorted(set(shown)) and Witness.refused[0]["treeSize"] == shown[0], (shown, Witness.refused)
    assert all(in_file[head["treeSize"]] == head["head"] for head in Witness.seen if head["treeSize"] in in_file)


def test_an_export_with_anything_missing_or_moved_is_refused(own, own_rest, clmctl, tmp_path):
    some_history(own_rest)
    assert clmctl("audit", "export", tmp_path / "log").returncode == 0
    lines = (tmp_path / "log").read_text().splitlines()
    is_entry = ['"entry"' in line for line in lines]
    first, second = [i for i, yes in enumerate(is_entry) if yes][:2]
    swapped = list(lines)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    cases = {"a record is missing": lines[:first] + lines[first + 1:], "two records are swapped": swapped,
             "no head is left": [line for line, yes in zip(lines, is_entry) if yes], "nothing is left": []}
    for name, altered in cases.items():
        (tmp_path / "altered").write_text("".join(line + "\n" for line in altered))
        done = clmctl("audit", "verify", tmp_path / "altered", "--roots", own.roots)
        assert done.returncode == 1 and done.stderr, (name, done)
    (tmp_path / "cut").write_text(lines[0] + "\n")
    done = clmctl("audit", "verify", tmp_path / "cut", "--roots", own.roots, "--witness", own.witness)
    assert done.returncode == 1, done
    stranger = tmp_path / "stranger.pem"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-keyout",
         tmp_path / "key", "-out", stranger, "-subj", "/CN=another root"])
    assert clmctl("audit", "verify", tmp_path / "log", "--roots", stranger).returncode == 1
    assert clmctl("audit", "verify", tmp_path / "log").returncode == 2
    assert clmctl("audit", "verify", tmp_path / "nowhere", "--roots", own.roots).returncode == 2


def test_a_record_altered_in_the_database_fails_verification(own, own_rest, clmctl, tmp_path):
    ids = some_history(own_rest)
    index = entries(own_rest, agentId=ids[0], action="agent.registered")[0]["index"]
    leaf = own.sql(f"SELECT encode(leaf, 'hex') FROM registry.audit_records WHERE index = {index}")[0][0]
    other = bytes.fromhex(leaf).replace(b"api-key:", b"api-kez:")
    own.sql(f"UPDATE registry.audit_records SET leaf = decode('{other.hex()}', 'hex') WHERE index = {index}")
    try:
        assert clmctl("audit", "export", tmp_path / "log").returncode == 0
        done = clmctl("audit", "verify", tmp_path / "log", "--roots", own.roots)
        assert done.returncode == 1 and "altered" in done.stderr, done
        proof = own_rest.get(f"/api/v1/audit/records/{index}:proof")
        proved = root_of_inclusion(base64.b64decode(proof["entry"]["leaf"]), index, proof["treeSize"],
                                   [base64.b64decode(h) for h in proof["inclusion"]])
        honest = root_of_inclusion(bytes.fromhex(leaf), index, proof["treeSize"],
                                   [base64.b64decode(h) for h in proof["inclusion"]])
        root = own_rest.get("/api/v1/audit/consistency", first=proof["treeSize"], second=proof["treeSize"])["secondRootSha256"]
        assert honest == base64.b64decode(root) != proved
    finally:
        own.sql(f"UPDATE registry.audit_records SET leaf = decode('{leaf}', 'hex') WHERE index = {index}")
    assert clmctl("audit", "export", tmp_path / "again").returncode == 0
    assert clmctl("audit", "verify", tmp_path / "again", "--roots", own.roots).returncode == 0


# ---- alerts and activity --------------------------------------------------------------------------------------


def test_a_failed_task_is_an_alert_that_is_acknowledged_and_resolved(host, rest):
    kinds = {"TASK_FAILED", "TASK_REFUSED"}
    for _ in range(2):
        assert rest.run_task(host.id, "VALIDATE", {"certificatePath": f"{host.dir}/nothing.pem"}, maxAttempts=1)["state"] == "FAILED"

    def raised():
        found = [a for a in alerts(rest, agentId=host.id) if a["kind"] in kinds]
        return found if found and found[0]["count"] == 2 else None
    alert, = wait_until("the alert", raised)
    assert alert["state"] == "OPEN" and alert["hostname"] == host.name and alert["lastAt"] >= alert["firstAt"], alert
    assert alert["id"] in [a["id"] for a in rest.get("/api/v1/dashboard")["recentAlerts"]]
    open_alerts = rest.get("/api/v1/dashboard")["openAlerts"]
    acknowledged = rest.post(f"/api/v1/alerts/{alert['id']}:acknowledge")
    assert acknowledged["state"] == "ACKNOWLEDGED" and acknowledged["acknowledgedBy"].startswith("api-key:"), acknowledged
    assert rest.get("/api/v1/dashboard")["openAlerts"] < open_alerts
    assert rest.post(f"/api/v1/alerts/{alert['id']}:resolve")["state"] == "RESOLVED"
    assert alert["id"] not in [a["id"] for a in alerts(rest, agentId=host.id)]
    assert alert["id"] in [a["id"] for a in alerts(rest, agentId=host.id, state="RESOLVED")]
    steps = wait_until("the alert's records", lambda: (lambda r: r if len(r) >= 3 else None)(
        [r["action"] for r in records(rest, action="alert.*", agentId=host.id) if r["entityId"] == alert["id"]]))
    assert sorted(steps) == ["alert.acknowledged", "alert.raised", "alert.resolved"]


def test_a_refused_token_is_an_alert(platform, make_host, rest):
    first, second = make_host(), make_host()
    first.start(rest)
    second.prepare()
    token = first.agent.token
    answer = rest.register(f"spent-{uuid.uuid4().hex[:6]}.example.com")
    assert answer["token"] and not token.exists()
    third = make_host().prepare()
    third.agent.enrol(answer["token"]).start()
    rest.wait_agent(answer["agent"]["id"], "ONLINE", process=third.agent.process)
    second.agent.enrol(answer["token"]).start()
    wait_until("the alert", lambda: [a for a in alerts(rest, agentId=answer["agent"]["id"]) if a["kind"] in ("BOOTSTRAP_REFUSED", "CLONE")])
    assert [r["outcome"] for r in wait_records(rest, action="token.refused", agentId=answer["agent"]["id"])][:1] == ["REFUSED"]


def test_activity_is_listed_and_filtered(host, rest):
    rest.run_task(host.id, "VALIDATE", {"target": "nginx"})
    wait_until("the activity", lambda: rest.get("/api/v1/activity", agentId=host.id, event="task.finished")["activity"])
    listed = rest.get("/api/v1/activity", agentId=host.id, pageSize=500)["activity"]
    assert {a["agentId"] for a in listed} == {host.id}
    assert {a["event"] for a in rest.get("/api/v1/activity", agentId=host.id, event="task.*")["activity"]} <= {
        a["event"] for a in listed if a["event"].startswith("task.")}
    page = rest.get("/api/v1/activity", agentId=host.id, pageSize=1)
    after = rest.get("/api/v1/activity", agentId=host.id, pageSize=1, pageToken=page["nextPageToken"])
    assert page["activity"] != after["activity"]


# ---- the dashboard ---------------------------------------------------------------------------------------------


def test_the_dashboard_and_an_agents_page_show_what_is_kept(host, rest):
    assert rest.run_task(host.id, "VALIDATE", {"target": "nginx"})["state"] in ("SUCCEEDED", "FAILED")
    failed = rest.run_task(host.id, "VALIDATE", {"certificatePath": f"{host.dir}/nothing.pem"}, maxAttempts=1)
    jobs, = rest.get(f"/api/v1/agents/{host.id}/jobs")["jobs"]
    assert jobs["kind"] == "VALIDATE" and int(jobs["succeeded"]) + int(jobs["failed"]) == 2, jobs
    assert jobs["lastTaskId"] == failed["id"] and jobs["lastState"] == "FAILED" and jobs["lastMessage"], jobs
    assert int(jobs["meanMs"]) <= int(jobs["longestMs"]) and jobs["lastFinishedAt"], jobs
    board = rest.get("/api/v1/dashboard")
    counted = sum(board[k] for k in ("online", "offline", "disabled", "expired", "safeMode", "bootstrapping"))
    assert board["total"] == counted >= 1, board
    assert sum(end["n"] for end in board["identitiesByEnd"]) >= 1 and board["identitiesByEnd"][0]["withinSec"] == 0, board
    assert sum(version["n"] for version in board["versions"]) >= 1, board
    assert sum(day["failed"] for day in board["tasks"]["days"]) >= 1 and board["tasks"]["hours"], board
    by_kind = wait_until("the alert to be counted", lambda: [k for k in rest.get("/api/v1/dashboard")["openAlertsByKind"] if k["kind"] in ("TASK_FAILED", "TASK_REFUSED")])
    assert by_kind[0]["n"] >= 1
    agent = rest.agent(host.id)
    assert agent["identityDaysLeft"] >= 0 and agent["bootstrappedAt"] and agent["createdAt"], agent
    assert agent["facts"]["agentVersion"] and agent["facts"]["operations"], agent
    with pytest.raises(RestError) as nobody:
        rest.get(f"/api/v1/agents/{uuid.uuid4()}/jobs")
    assert nobody.value.status == 404


def test_clmctl_shows_the_dashboard(own, clmctl):
    done = clmctl("dashboard")
    assert done.returncode == 0 and "identities end" in done.stdout and "open alerts" in done.stdout, done


# ---- what agents hold -----------------------------------------------------------------------------------------


def test_an_agent_keeps_the_head_and_notices_when_history_is_changed(own, own_rest, clmctl, scratch):
    agent = Agent(own, scratch / "audit-agent", "agent-audit")
    write(agent.conf, ini({"agent": {"state_dir": agent.state, "net_user": "nobody"}}))
    answer = own_rest.register(f"witness-{uuid.uuid4().hex[:6]}.example.com", operations=["VALIDATE"])
    agent_id = answer["agent"]["id"]
    agent.enrol(answer["token"]).start()
    try:
        own_rest.wait_agent(agent_id, "ONLINE", process=agent.process)

        def head():
            done = run([own.bin / "clm-agent", "audit-head", "--config", agent.conf], check=False)
            return dict(line.split(None, 1) for line in done.stdout.splitlines()) if done.returncode == 0 else None
        first = wait_until("the agent to hold a head", head, 60)
        some_history(own_rest, 2)
        later = wait_until("the agent to hold a later head", lambda: (lambda h: h if int(h["records"]) > int(first["records"]) else None)(head()), 60)
        root = own_rest.get("/api/v1/audit/consistency", first=later["records"], second=later["records"])["secondRootSha256"]
        assert later["root"] == base64.b64decode(root).hex()
        assert not alerts(own_rest, kind="AUDIT_INCONSISTENT")

        # It co-signs one head a day with its task key: the first one it has.
        def cosignatures():
            return own_rest.get("/api/v1/audit/cosignatures", agentId=agent_id)["cosignatures"]
        said = wait_until("the co-signature", cosignatures, 30)[0]
        assert said == own_rest.get("/api/v1/audit/cosignatures", treeSize=said["treeSize"])["cosignatures"][0]
        assert not own_rest.get("/api/v1/audit/cosignatures", treeSize=1000000).get("cosignatures")
        key, certificate = agent.task_identity()
        (scratch / "said.der").write_bytes(base64.b64decode(said["cosignature"]))
        content = run(["openssl", "cms", "-verify", "-inform", "DER", "-in", scratch / "said.der", "-CAfile", own.roots,
                       "-certfile", certificate, "-purpose", "any", "-binary", "-out", scratch / "said.pb"], check=False)
        assert content.returncode == 0, content
        assert agent_id.encode() in (scratch / "said.pb").read_bytes()
        assert clmctl("audit", "export", scratch / "log").returncode == 0
        done = clmctl("audit", "verify", scratch / "log", "--roots", own.roots)
        assert done.returncode == 0 and "1 co-signatures" in done.stdout, done
        lines = (scratch / "log").read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if '"cosignature"' in line)
        for name, altered in {"under another head": [*lines[:at], *lines[at + 1:], lines[at]],
                              "of another agent": [line.replace(agent_id, str(uuid.uuid4())) if i == at else line for i, line in enumerate(lines)]}.items():
            (scratch / "altered").write_text("".join(line + "\n" for line in altered))
            assert clmctl("audit", "verify", scratch / "altered", "--roots", own.roots).returncode == 1, name
        with pytest.raises(RestError) as refused:
            own_rest.get("/api/v1/audit/cosignatures", pageToken="x.y")
        assert refused.value.status == 400

        # Somebody with the database and the registry makes another history: the tree is as it was before the last records.
        own["registry"].stop()
        own["gateway"].stop()
        kept = head()  # the newest one that an honest registry gave
        keep = int(first["records"])
        frontier = own.sql(f"SELECT index, encode(leaf, 'hex') FROM registry.audit_records WHERE index < {keep} ORDER BY index")
        leaves = [leaf_hash(bytes.fromhex(leaf)) for _, leaf in frontier]
        hashes, at = b"", 0
        for bit in reversed(range(keep.bit_length())):
            if keep >> bit & 1:
                level = leaves[at:at + (1 << bit)]
                while len(level) > 1:
                    level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level), 2)]
                hashes, at = hashes + level[0], at + (1 << bit)
        own.sql(f"DELETE FROM registry.audit_records WHERE index >= {keep}; DELETE FROM registry.audit_heads WHERE size > {keep};"
                f"DELETE FROM registry.audit_nodes WHERE (index + 1) * (1 << level) > {keep};"
                f"UPDATE registry.audit_tree SET size = {keep}, frontier = decode('{hashes.hex()}', 'hex')")
        (own.root / "state" / "registry" / "platform-copy").unlink(missing_ok=True)  # theirs, too
        own.start_service("registry")
        own.start_service("gateway")
        own.wait_ready()
        alert = wait_until("the alert", lambda: alerts(own_rest, kind="AUDIT_INCONSISTENT"), 90)[0]
        assert alert["agentId"] == agent_id and alert["message"], alert
        agent_now = own_rest.wait_agent(agent_id, "ONLINE")
        assert not agent_now.get("safeMode"), agent_now
        assert head() == kept
    finally:
        agent.process.kill()
