"""The served OpenAPI document is what the server does: a public linter, every route by every role, and programs that know
nothing but the document."""
import json
import os
import random
import re
import shutil
import subprocess
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from clm.process import wait_until
from clm.rest import RestError

TOP = Path(__file__).resolve().parents[2]
JSON = {"Content-Type": "application/json"}
ROLES = ("VIEWER", "OPERATOR", "ADMIN", "AUDITOR")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


@pytest.fixture(scope="module")
def document(admin):
    return admin.get("/api/v1/openapi.json")


class Described:
    """What a program makes of the document: operations by id, requests and answers held against their schemas."""

    def __init__(self, document, client):
        self.document, self.client = document, client
        self.operations = {operation["operationId"]: (method.upper(), path, operation)
                           for path, methods in document["paths"].items() for method, operation in methods.items()}

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def parameters(self, operation_id, where):
        parameters = [self.resolve(p) for p in self.operations[operation_id][2]["parameters"]]
        return {p["name"]: p for p in parameters if p["in"] == where}

    def errors(self, value, schema, at="$"):
        """What of the value is not as the schema says; [] when all is."""
        schema = self.resolve(schema)
        kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(isinstance(value, kinds[t]) and not (t == "integer" and isinstance(value, bool)) for t in types):
            return [f"{at}: {value!r} is no {types}"]
        found = []
        if isinstance(value, dict):
            found += [f"{at}.{name}: missing" for name in schema.get("required", ()) if name not in value]
            for name, inner in value.items():
                if name in schema["properties"]:
                    found += self.errors(inner, schema["properties"][name], f"{at}.{name}")
                elif schema.get("additionalProperties") is False:
                    found.append(f"{at}.{name}: not described")
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                found += self.errors(inner, schema["items"], f"{at}[{i}]")
            if len(value) > schema.get("maxItems", len(value)):
                found.append(f"{at}: too many")
        elif isinstance(value, str):
            if "enum" in schema and value not in schema["enum"]:
                found.append(f"{at}: {value!r} is none of {schema['enum']}")
            if schema.get("format") == "date-time" and not TIME.match(value):
                found.append(f"{at}: {value!r} is no time")
            if schema.get("format") == "uuid":
                uuid.UUID(value)
        return found

    def raw(self, operation_id, path=(), query=(), body=None, headers=()):
        """(status, headers, decoded answer); the answer is as described, whatever it is."""
        method, template, operation = self.operations[operation_id]
        url = template
        for name, value in dict(path).items():
            url = url.replace("{" + name + "}", str(value))
        if query:
            from urllib.parse import urlencode
            url += "?" + urlencode(query, doseq=True)
        sent = dict(headers)
        data = None
        if method == "POST":
            data = json.dumps(body or {}).encode()
            sent.update(JSON)
        status, answer_headers, text = self.client.raw(method, url, data, sent)
        if status == 304:
            return status, answer_headers, None
        responses = operation["responses"]
        response = self.resolve(responses.get(str(status)) or responses[f"{str(status)[0]}XX"])
        kind = answer_headers["Content-Type"].split(";")[0]
        answer = json.loads(text)
        wrong = self.errors(answer, response["content"][kind]["schema"])
        assert not wrong, (operation_id, url, body, status, wrong[:5])
        return status, answer_headers, answer

    def call(self, operation_id, path=(), body=None, headers=(), **query):
        method, _, operation = self.operations[operation_id]
        if body is not None:
            whole = {**body, **{k: v for k, v in dict(path).items()}}
            wrong = self.errors(whole, operation["requestBody"]["content"]["application/json"]["schema"])
            assert not wrong, wrong
        status, answer_headers, answer = self.raw(operation_id, path, query, body, headers)
        assert str(status) in operation["responses"], (operation_id, status, answer)
        return answer_headers, answer


@pytest.fixture(scope="module")
def described(document, admin):
    return Described(document, admin)


# ---- the document ---------------------------------------------------------------------------------------------


def test_a_public_linter_finds_no_error(document, programs, tmp_path):
    linter = programs.parent / "openapi"
    if not (linter / "package-lock.json").exists() or \
            (linter / "package-lock.json").read_bytes() != (TOP / "tests/openapi/package-lock.json").read_bytes():
        shutil.rmtree(linter, ignore_errors=True)
        linter.mkdir()
        for name in (".npmrc", "package.json"):
            shutil.copy(TOP / "tests/openapi" / name, linter)
        shutil.copy(TOP / "tests/openapi/package-lock.json", linter / "wanted.json")
        shutil.copy(linter / "wanted.json", linter / "package-lock.json")
        try:
            subprocess.run(["npm", "ci", "--no-progress"], cwd=linter, check=True, capture_output=True, text=True, timeout=300)
        except BaseException:
            (linter / "package-lock.json").unlink()
            raise
    shutil.copy(TOP / "tests/openapi/lint.mjs", linter)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    answer = subprocess.run(["node", "lint.mjs", tmp_path / "openapi.json"], cwd=linter, capture_output=True, text=True, timeout=120,
                            env={**os.environ, "REDOCLY_TELEMETRY": "off"}, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    # A linter that finds nothing in anything would say nothing here.
    broken = json.loads(json.dumps(document))
    broken["paths"]["/api/v1/agents"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"] = "#/nowhere"
    (tmp_path / "openapi.json").write_text(json.dumps(broken))
    answer = subprocess.run(["node", "lint.mjs", tmp_path / "openapi.json"], cwd=linter, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 1 and "error" in answer.stdout, answer.stdout + answer.stderr


def test_operation_ids_are_unique_and_everything_has_words(document):
    seen = [o["operationId"] for methods in document["paths"].values() for o in methods.values()]
    assert len(seen) == len(set(seen))
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"] and operation["tags"] and operation["responses"]


def test_the_page_to_read_names_every_call_and_needs_nothing_from_elsewhere(document, admin):
    status, headers, page = admin.raw("GET", "/api/docs")
    text = page.decode()
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert "script" not in headers["Content-Security-Policy"].replace("default-src 'none'", "") and "<script" not in text
    for path, methods in document["paths"].items():
        assert path in text, path
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in text, operation
    for target in re.findall(r'href="?([^" >]+)', text):
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in text, target
        else:
            assert target in ("/api/docs.css", "/api/v1/openapi.json"), target
            assert admin.raw("GET", target)[0] == 200


# ---- every route, every role ----------------------------------------------------------------------------------


def nowhere(described, operation_id):
    """Path parameters of objects that do not exist."""
    values = {"index": 0, "apiKeyId": "0123456789abcdef"}
    return {name: values.get(name, "01890a5d-ac96-774b-bcce-b302099a8057") for name in described.parameters(operation_id, "path")}


@pytest.fixture(scope="module")
def by_role(platform, admin, document):
    clients = {}
    for role in ROLES:
        key = admin.post("/api/v1/api-keys", {"name": f"{role.lower()}-{uuid.uuid4().hex[:6]}", "roles": [role]})["key"]
        clients[role] = Described(document, platform.rest(api_key=key))
    yield clients
    for described in clients.values():
        described.client.close()


def is_stream(operation):
    return "text/event-stream" in operation["responses"].get("200", {}).get("content", {})


def status_of(described, operation_id):
    if is_stream(described.operations[operation_id][2]):
        try:
            described.client.watch().close()
            return 200
        except RestError as error:
            return error.status
    return described.raw(operation_id, nowhere(described, operation_id))[0]


def test_every_route_by_every_role_is_as_the_document_says(by_role, described):
    wrong = []
    for operation_id, (_, _, operation) in described.operations.items():
        if operation.get("security") == []:
            continue
        assert operation["x-roles"], operation_id
        for role, client in by_role.items():
            status = status_of(client, operation_id)
            if (status == 403) != (role not in operation["x-roles"]) or status == 401 or status >= 500:
                wrong.append((operation_id, role, status))
    assert not wrong, wrong


def test_every_route_without_and_with_an_ended_credential_is_401(platform, admin, document, described):
    soon = (datetime.now(timezone.utc) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = admin.post("/api/v1/api-keys", {"name": uuid.uuid4().hex[:12], "roles": ["ADMIN"], "expiresAt": soon})["key"]
    expired, nobody = (Described(document, platform.rest(api_key=k)) for k in (key, ""))
    wait_until("the key to expire", lambda: expired.client.raw("GET", "/api/v1/agents")[0] == 401, 40)
    wrong = []
    for operation_id, (_, _, operation) in described.operations.items():
        expected = {401} if operation.get("security") != [] else {400, 403}
        for name, client in (("expired", expired), ("nobody", nobody)):
            status = status_of(client, operation_id)
            if status not in expected and not (name == "expired" and operation.get("security") == []):
                wrong.append((operation_id, name, status))
    expired.client.close()
    nobody.client.close()
    assert not wrong, wrong


def test_unknown_parameters_are_refused_everywhere(described):
    for operation_id, (method, _, operation) in described.operations.items():
        if operation.get("security") == []:
            continue
        if method == "GET":
            status, _, answer = (400, None, None) if is_stream(operation) else described.raw(
                operation_id, nowhere(described, operation_id), {"colour": "red"})
        else:
            status, _, answer = described.raw(operation_id, nowhere(described, operation_id), body={"colour": "red"})
            assert answer["errors"][0]["field"] == "colour", answer
        assert status == 400, (operation_id, status, answer)


# ---- programs that know the document alone --------------------------------------------------------------------


def test_an_integration_written_from_the_document_works(described):
    name = f"by-document-{uuid.uuid4().hex[:6]}.example.com"
    _, made = described.call("registerAgent", body={
        "hostname": name, "labels": [{"name": "made-by", "value": "document"}],
        "scope": {"operations": ["VALIDATE", "DISCOVER"], "paths": ["/etc/**"]}})
    agent_id = made["agent"]["id"]
    at = {"agentId": agent_id}
    headers, agent = described.call("getAgent", at)
    assert headers["ETag"].startswith(f'"{agent["version"]}-')
    assert described.raw("getAgent", at, headers={"If-None-Match": headers["ETag"]})[0] == 304
    _, listed = described.call("listAgents", search=name, status=["BOOTSTRAPPING", "ONLINE"], label="made-by=document", sort="HOSTNAME")
    assert [a["id"] for a in listed["agents"]] == [agent_id]
    relabelled, agent = described.call("setAgentLabels", at, {"labels": [{"name": "made-by", "value": "hand"}]}, {"If-Match": headers["ETag"]})
    assert agent["labels"] == [{"name": "made-by", "value": "hand"}] and relabelled["ETag"] != headers["ETag"]
    status, _, problem = described.raw("setAgentLabels", at, body={"labels": []}, headers={"If-Match": headers["ETag"]})
    assert status == 412 and problem["type"] == "urn:clm:problem:aborted", problem
    assert described.call("getAgent", at)[1]["labels"] == agent["labels"]
    _, agent = described.call("setAgentScope", at, {"scope": {"operations": ["DISCOVER"], "paths": ["/etc/ssl/**"]}})
    assert agent["scope"]["version"] == 2 and agent["scope"]["operations"] == ["DISCOVER"]

    def create():
        try:
            return described.call("createTask", body={"agentId": agent_id, "spec": {"kind": "DISCOVER", "discover": {"roots": ["/etc/ssl"]}}},
                                  headers={"Idempotency-Key": name})[1]
        except AssertionError:  # the tasks service has not heard of the new scope yet
            return None
    task = wait_until("the scope to be known", create, 20)
    assert create()["id"] == task["id"]
    assert described.call("getTask", {"taskId": task["id"]})[1]["state"] in ("READY", "SCHEDULED")
    assert described.call("cancelTask", {"taskId": task["id"]}, {})[1]["state"] == "CANCELLED"
    assert described.call("disableAgent", at, {"reason": "done"})[1]["status"] == "DISABLED"
    _, activity = described.call("listActivity", agentId=agent_id)
    assert {"agent.registered", "agent.changed"} <= {a["event"] for a in activity["activity"]}
    for operation_id in ("getDashboard", "listTasks", "listAlerts", "listOperators", "listApiKeys", "listAudit", "getAuditHead"):
        described.raw(operation_id)


def generate(described, schema, rng, depth=0):
    schema = described.resolve(schema)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kind = rng.choice(types)
    if kind == "object":
        required = set(schema.get("required", ()))
        return {name: generate(described, inner, rng, depth + 1) for name, inner in schema["properties"].items()
                if name in required or (depth < 3 and rng.random() < 0.4)}
    if kind == "array":
        return [generate(described, schema["items"], rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == "integer":
        return rng.choice([0, 1, 60, 3600, schema.get("maximum", 2**31 - 1)])
    if kind == "boolean":
        return rng.random() < 0.5
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if schema.get("format") == "uuid":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    if schema.get("format") == "date-time":
        return rng.choice(["2020-01-01T00:00:00Z", "2030-06-01T12:00:00.5Z"])
    if schema.get("format") == "uint64":
        return str(rng.randrange(2**40))
    text = rng.choice(["", "a", "web-1.example.com", "/etc/nginx/**", "=", "<script>alert(1)</script>", "ä\u202e€", "' OR 1=1 --", "%00", "a" * 300])
    return text[:schema.get("maxLength", 300)]


def test_whatever_the_document_allows_is_answered_as_it_says(described):
    """Requests made at random from the schemas: never a 5xx, always an answer of the described shape."""
    rng = random.Random(5)
    seen = {}
    for operation_id, (method, _, operation) in described.operations.items():
        if operation.get("security") == [] or is_stream(operation):
            continue
        for _ in range(6):
            path = nowhere(described, operation_id)
            query = {name: generate(described, p["schema"], rng) for name, p in described.parameters(operation_id, "query").items()
                     if rng.random() < 0.4}
            query = {name: "true" if value is True else "false" if value is False else value for name, value in query.items()}
            body = None
            if method == "POST":
                body = generate(described, operation["requestBody"]["content"]["application/json"]["schema"], rng)
                body.update({name: value for name, value in path.items() if name in body})
            status, _, _ = described.raw(operation_id, path, query, body)
            assert status < 500 or status == 503, (operation_id, path, query, body, status)
            seen[status] = seen.get(status, 0) + 1
    assert seen.get(200) and seen.get(400) and seen.get(404), seen
