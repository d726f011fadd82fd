"""People and programs: who may do what to whom. Operators by invitation, API keys, grants limited to labels."""
import json
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from clm.process import wait_until
from clm.rest import RestError

PASSWORD = "correct horse battery staple"
OURS = {"Content-Type": "application/json", "X-Clm-Csrf": "1", "Sec-Fetch-Site": "same-origin"}
COOKIE = "__Host-clm-session"


@pytest.fixture(scope="module")
def admin(platform):
    client = platform.rest()
    yield client
    client.close()


@pytest.fixture(scope="module")
def nobody(platform):
    client = platform.rest(api_key="")
    yield client
    client.close()


def name():
    return f"g{uuid.uuid4().hex[:8]}"


def refused(call, status):
    with pytest.raises(RestError) as error:
        call()
    assert error.value.status == status, error.value
    return error.value.body


def redeem(nobody, link):
    """(status, Cookie header)"""
    status, headers, body = nobody.raw("POST", "/api/v1/links:redeem", json.dumps({"link": link, "password": PASSWORD}).encode(), OURS)
    return status, headers["Set-Cookie"].split(";")[0] if status == 201 else body


def read(nobody, cookie, path):
    return nobody.raw("GET", path, headers={"Cookie": cookie})[0]


def new_key(platform, admin, roles, selector="", **more):
    answer = admin.post("/api/v1/api-keys", {"name": name(), "roles": roles, "labelSelector": selector, **more})
    return answer["apiKey"], platform.rest(api_key=answer["key"])


# ---- operators ------------------------------------------------------------------------------------------------


def test_an_operator_is_invited_comes_and_is_shown_out(platform, admin, nobody):
    who = name()
    invitation = admin.post("/api/v1/operators", {"name": who, "roles": ["OPERATOR"]})
    operator = invitation["operator"]
    path = f"/api/v1/operators/{operator['id']}"
    assert operator["state"] == "INVITED" and invitation["link"] and invitation["linkNotAfterAt"]
    assert refused(lambda: admin.post("/api/v1/operators", {"name": who, "roles": ["VIEWER"]}), 409)
    status, cookie = redeem(nobody, invitation["link"])
    assert status == 201 and redeem(nobody, invitation["link"])[0] == 401
    assert admin.get(path)["state"] == "ACTIVE" and admin.get(path)["lastLoginAt"]
    assert invitation["link"] not in json.dumps(admin.get("/api/v1/operators"))
    assert read(nobody, cookie, "/api/v1/agents") == 200 and read(nobody, cookie, "/api/v1/operators") == 403
    admin.post(f"{path}:setGrant", {"roles": ["AUDITOR"]})
    wait_until("the role to be another", lambda: read(nobody, cookie, "/api/v1/audit/records") == 200, 30)
    assert [s["name"] for s in admin.get(f"{path}/sessions")["sessions"]] == [who]
    assert admin.post(f"{path}:disable")["state"] == "DISABLED"
    wait_until("the session to end", lambda: read(nobody, cookie, "/api/v1/agents") == 401, 30)
    assert admin.get(f"{path}/sessions")["sessions"] == []
    assert refused(lambda: admin.post(f"{path}:invite"), 409)
    admin.post(f"{path}:enable")
    link = admin.post(f"{path}:invite", {"linkTtlSec": 600})["link"]
    assert redeem(nobody, link)[0] == 201
    assert link not in platform.dump()
    events = {a["event"] for a in admin.get("/api/v1/activity", event="operator.*")["activity"]}
    assert {"operator.invited", "operator.granted", "operator.disabled", "operator.enabled"} <= events


def test_sessions_of_an_operator_are_ended(admin, nobody):
    invitation = admin.post("/api/v1/operators", {"name": name(), "roles": ["VIEWER"]})
    _, cookie = redeem(nobody, invitation["link"])
    assert read(nobody, cookie, "/api/v1/sessions/current") == 200
    admin.post(f"/api/v1/operators/{invitation['operator']['id']}:endSessions")
    wait_until("the session to end", lambda: read(nobody, cookie, "/api/v1/agents") == 401, 30)


@pytest.mark.parametrize("body", [
    {"name": "x", "roles": []}, {"name": "x"}, {"name": "", "roles": ["VIEWER"]}, {"name": "a b", "roles": ["VIEWER"]},
    {"name": "x", "roles": ["ROOT"]}, {"name": "x", "roles": ["VIEWER"], "labelSelector": "=a"},
    {"name": "x", "roles": ["VIEWER"], "linkTtlSec": 1}, {"name": "x", "roles": ["VIEWER"], "linkTtlSec": 10**7}], ids=str)
def test_an_operator_that_makes_no_sense_is_refused(admin, body):
    refused(lambda: admin.post("/api/v1/operators", body), 400)


def test_operators_are_listed_in_pages(admin):
    made = {admin.post("/api/v1/operators", {"name": name(), "roles": ["VIEWER"]})["operator"]["id"] for _ in range(3)}
    seen, token = [], None
    while True:
        page = admin.get("/api/v1/operators", pageSize=2, **({"pageToken": token} if token else {}))
        seen += [o["id"] for o in page["operators"]]
        assert len(page["operators"]) <= 2
        token = page.get("nextPageToken")
        if not token:
            break
    assert made <= set(seen) and len(seen) == len(set(seen))


# ---- API keys -------------------------------------------------------------------------------------------------


def test_a_key_is_made_used_listed_and_revoked(platform, admin):
    key, client = new_key(platform, admin, ["VIEWER"])
    assert "lastUsedAt" not in key and key["createdBy"].startswith("api-key:")
    days = datetime.fromisoformat(key["expiresAt"].replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert timedelta(days=89) < days < timedelta(days=91)
    assert client.get("/api/v1/agents")["agents"] is not None
    path = f"/api/v1/api-keys/{key['id']}"
    assert admin.get(path)["lastUsedAt"]
    listed = {k["id"] for k in admin.get("/api/v1/api-keys", pageSize=500)["apiKeys"]}
    assert key["id"] in listed
    assert admin.post(f"{path}:revoke")["revokedAt"]
    assert admin.post(f"{path}:revoke")["revokedAt"] == admin.get(path)["revokedAt"]
    wait_until("the key to be refused", lambda: client.raw("GET", "/api/v1/agents")[0] == 401, 30)
    assert key["id"] not in {k["id"] for k in admin.get("/api/v1/api-keys", pageSize=500)["apiKeys"]}
    assert key["id"] in {k["id"] for k in admin.get("/api/v1/api-keys", pageSize=500, ended="true")["apiKeys"]}
    client.close()


def test_a_key_ends_when_it_expires_whatever_a_gateway_remembers(platform, admin):
    ends = datetime.now(timezone.utc) + timedelta(seconds=8)
    key = admin.post("/api/v1/api-keys", {"name": name(), "roles": ["VIEWER"], "expiresAt": ends.isoformat(
        timespec="milliseconds").replace("+00:00", "Z")})["key"]
    clients = [platform.rest(api_key=key) for _ in range(8)]  # of different workers: each remembers for itself
    assert [client.raw("GET", "/api/v1/agents")[0] for client in clients] == [200] * 8
    late = []
    while len(late) < 3:
        began = datetime.now(timezone.utc)
        codes = {client.raw("GET", "/api/v1/agents")[0] for client in clients}
        if began > ends + timedelta(milliseconds=50):
            late.append(codes)
    for client in clients:
        client.close()
    assert late == [{401}] * 3, late


@pytest.mark.parametrize("more", [{"expiresAt": "2020-01-01T00:00:00Z"}, {"expiresAt": "2200-01-01T00:00:00Z"}, {"roles": []},
                                  {"labelSelector": ","}, {"name": "x" * 65}], ids=str)
def test_a_key_that_makes_no_sense_is_refused(admin, more):
    refused(lambda: admin.post("/api/v1/api-keys", {"name": name(), "roles": ["VIEWER"], **more}), 400)


def test_what_is_created_twice_with_one_idempotency_key_is_there_once(admin):
    once = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"name": name(), "roles": ["VIEWER"]}
    first, second = (admin.post("/api/v1/operators", body, once) for _ in range(2))
    assert first["operator"]["id"] == second["operator"]["id"] and first["link"] != second["link"]
    assert refused(lambda: admin.post("/api/v1/operators", {**body, "roles": ["ADMIN"]}, once), 409)
    assert refused(lambda: admin.post("/api/v1/api-keys", body, once), 409)
    once = {"Idempotency-Key": uuid.uuid4().hex}
    first, second = (admin.post("/api/v1/api-keys", body, once) for _ in range(2))
    assert first["apiKey"]["id"] == second["apiKey"]["id"] and second["key"]
    assert [k["name"] for k in admin.get("/api/v1/api-keys", pageSize=500)["apiKeys"]].count(body["name"]) == 1
    invite = f"/api/v1/operators/{admin.post('/api/v1/operators', {'name': name(), 'roles': ['VIEWER']})['operator']['id']}:invite"
    once = {"Idempotency-Key": uuid.uuid4().hex}
    links = [admin.post(invite, {}, once)["link"] for _ in range(2)]
    assert links[0] != links[1]
    assert admin.post(invite, {})["link"] and "link" not in admin.post(invite, {}, once)
    once = {"Idempotency-Key": uuid.uuid4().hex}
    agent = {"hostname": f"{body['name']}.example.com"}
    agents = {admin.post("/api/v1/agents", agent, once)["agent"]["id"] for _ in range(2)}
    assert len(agents) == 1
    tokens = f"/api/v1/agents/{agents.pop()}/tokens"
    once_more = {"Idempotency-Key": uuid.uuid4().hex}
    first, second = (admin.post(tokens, {}, once_more) for _ in range(2))
    assert first["tokenId"] == second["tokenId"] and first["token"] != second["token"]
    admin.post(tokens, {})
    again = admin.post(tokens, {}, once_more)  # another was made since: what repeats the first takes nothing away
    assert "token" not in again and [t["state"] for t in admin.get(tokens)["tokens"]].count("OPEN") == 1
    assert refused(lambda: admin.post(tokens, {"tokenTtlSec": 60}, once_more), 409)
    assert refused(lambda: admin.post("/api/v1/agents", {"hostname": "another.example.com"}, once), 409)


def test_only_administrators_of_the_whole_fleet_give_rights(platform, admin):
    someone = admin.post("/api/v1/operators", {"name": name(), "roles": ["VIEWER"]})["operator"]["id"]
    clients = [new_key(platform, admin, [role])[1] for role in ("VIEWER", "OPERATOR", "AUDITOR")]
    clients.append(new_key(platform, admin, ["ADMIN"], "team=a")[1])
    for client in clients:
        for path in ("/api/v1/operators", "/api/v1/api-keys", f"/api/v1/operators/{someone}", f"/api/v1/operators/{someone}/sessions"):
            refused(lambda c=client, p=path: c.get(p), 403)
        for path, body in (("/api/v1/operators", {"name": name(), "roles": ["ADMIN"]}), ("/api/v1/api-keys", {"name": name(), "roles": ["ADMIN"]}),
                           (f"/api/v1/operators/{someone}:setGrant", {"roles": ["ADMIN"]}), (f"/api/v1/operators/{someone}:invite", {})):
            refused(lambda c=client, p=path, b=body: c.post(p, b), 403)
        client.close()
    assert admin.get(f"/api/v1/operators/{someone}")["roles"] == ["VIEWER"]


# ---- grants limited to labels ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_teams(platform, admin):
    """(own agent, foreign agent, operator of the own, viewer of the own)"""
    team = name()
    own, foreign = (admin.register(f"{team}-{i}.example.com", operations=["VALIDATE", "DISCOVER"], paths=["/etc/**"], labels={"team": t})["agent"]["id"]
                    for i, t in enumerate((team, f"{team}-other")))
    operator, viewer = (new_key(platform, admin, [role], f"team={team}")[1] for role in ("OPERATOR", "VIEWER"))
    yield own, foreign, operator, viewer
    operator.close()
    viewer.close()


def discover(rest, agent_id, **more):
    return rest.create_task(agent_id, "DISCOVER", {"roots": ["/etc"]}, **more)


def test_lists_and_counts_hold_ones_own_agents_only(admin, two_teams):
    own, foreign, operator, viewer = two_teams
    for client in (operator, viewer):
        assert [a["id"] for a in client.get("/api/v1/agents")["agents"]] == [own]
        assert [a["id"] for a in client.get("/api/v1/agents", search="-1.example.com")["agents"]] == []
        assert client.get(f"/api/v1/agents/{own}")["id"] == own
        refused(lambda c=client: c.get(f"/api/v1/agents/{foreign}"), 404)
        refused(lambda c=client: c.get(f"/api/v1/agents/{foreign}/tokens"), 404)
        dashboard = client.get("/api/v1/dashboard")
        assert dashboard["total"] == 1 and dashboard["bootstrapping"] == 1, dashboard
        assert {a.get("agentId") for a in dashboard["recentActivity"]} <= {own}
        assert {a.get("agentId") for a in dashboard["recentAlerts"]} <= {own}
        assert {a.get("agentId") for a in client.get("/api/v1/activity", pageSize=500)["activity"]} <= {own}
        assert {a.get("agentId") for a in client.get("/api/v1/alerts", pageSize=500)["alerts"]} <= {own}
        assert client.get("/api/v1/activity", agentId=foreign)["activity"] == []


def test_actions_on_others_agents_are_refused_as_if_they_were_not_there(admin, two_teams):
    own, foreign, operator, _ = two_teams
    version = admin.agent(foreign)["version"]
    for verb in ("disable", "enable", "revoke", "enterSafeMode", "leaveSafeMode"):
        refused(lambda v=verb: operator.post(f"/api/v1/agents/{foreign}:{v}"), 404)
    refused(lambda: discover(operator, foreign), 404)
    assert admin.agent(foreign)["version"] == version
    assert operator.post(f"/api/v1/agents/{own}:enterSafeMode")["safeMode"]
    operator.post(f"/api/v1/agents/{own}:leaveSafeMode")


def test_tasks_are_of_ones_own_agents_only(admin, two_teams):
    own, foreign, operator, viewer = two_teams
    theirs = discover(admin, foreign)["id"]
    # The projection of the tasks service hears of labels by events.
    wait_until("the agent's labels to be known", lambda: created(operator, own), 20)
    mine = discover(operator, own)["id"]
    listed = {t["agentId"] for t in viewer.get("/api/v1/tasks", pageSize=500)["tasks"]}
    assert listed == {own}
    assert viewer.task(mine)["id"] == mine
    refused(lambda: viewer.task(theirs), 404)
    refused(lambda: operator.post(f"/api/v1/tasks/{theirs}:cancel"), 404)
    refused(lambda: discover(operator, own, after=[theirs]), 400)
    assert viewer.get("/api/v1/tasks", agentId=foreign)["tasks"] == []
    assert admin.task(theirs)["state"] != "CANCELLED"
    assert operator.post(f"/api/v1/tasks/{mine}:cancel")["state"] == "CANCELLED"


def created(rest, agent_id):
    try:
        return discover(rest, agent_id)
    except RestError as error:
        assert error.status == 404
        return None


def test_the_audit_log_is_not_for_grants_limited_to_labels(platform, admin):
    _, auditor = new_key(platform, admin, ["AUDITOR"], "team=a")
    refused(lambda: auditor.get("/api/v1/audit/records"), 403)
    auditor.close()


def test_an_agent_is_registered_within_ones_grant_only(admin, two_teams):
    own, _, operator, _ = two_teams
    team = admin.agent(own)["labels"][0]["value"]
    refused(lambda: operator.register("elsewhere.example.com", operations=["VALIDATE"], labels={"team": "elsewhere"}), 403)
    refused(lambda: operator.register("nowhere.example.com", operations=["VALIDATE"]), 403)
    made = operator.register("here.example.com", operations=["VALIDATE"], labels={"team": team})["agent"]["id"]
    assert operator.agent(made)["id"] == made
