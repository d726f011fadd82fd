"""What operators and their programs may send, and what becomes of everything else."""
import json
import re
import socket
import ssl
import uuid

import pytest

from clm.platform import write
from clm.ports import HOST
from clm.process import wait_until
from clm.rest import RestError

NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def openapi(platform):
    client = platform.rest()
    yield client.get("/api/v1/openapi.json")
    client.close()


def operations(openapi):
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "post", "put", "patch", "delete"):
                yield method.upper(), path, operation


def fill(path):
    for name in ("agentId", "taskId", "sessionId", "alertId", "tokenId", "operatorId"):
        path = path.replace(f"{{{name}}}", NOBODY)
    return path.replace("{index}", "0").replace("{apiKeyId}", "0123456789abcdef")


def problem(status, headers, body):
    assert headers["Content-Type"].startswith("application/problem+json"), headers
    document = json.loads(body)
    assert document["status"] == status, document
    assert document["title"]
    return document


# ---- the document ---------------------------------------------------------------------------------------------


def test_openapi_is_3_1_and_describes_what_the_issue_names(openapi):
    assert openapi["openapi"].startswith("3.1")
    served = {(method, path) for method, path, _ in operations(openapi)}
    assert {("GET", "/api/v1/dashboard"), ("GET", "/api/v1/agents"), ("POST", "/api/v1/agents"),
            ("GET", "/api/v1/agents/{agentId}"), ("POST", "/api/v1/tasks"), ("GET", "/api/v1/tasks"),
            ("GET", "/api/v1/tasks/{taskId}")} <= served, served


def test_every_reference_in_openapi_leads_somewhere(openapi):
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)
    for reference in set(references(openapi)):
        node = openapi
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


def test_every_described_route_is_there(openapi, rest):
    for method, path, operation in operations(openapi):
        if "text/event-stream" in operation["responses"]["200"].get("content", {}) if "200" in operation["responses"] else False:
            rest.watch().close()
            continue
        status, _, body = rest.raw(method, fill(path), b"{}" if method == "POST" else None, JSON if method == "POST" else {})
        assert status != 405 and not (status == 404 and b"nothing at" in body), (method, path, status, body)


def test_every_route_refuses_an_unknown_caller(openapi, platform):
    for key in ("", "clm_" + "0" * 32 + "_wrong", "x" * 5000, "Ünïcode".encode().decode("latin-1")):
        client = platform.rest(api_key=key)
        for method, path, operation in operations(openapi):
            if operation.get("security") == []:
                continue  # who begins a session is not known yet
            status, headers, body = client.raw(method, fill(path), b"{}" if method == "POST" else None, JSON)
            if path.endswith("openapi.json") and status == 200:
                continue  # a description of the API is no secret
            assert status in (401, 431), (key[:12], method, path, status, body)
            if status == 401:
                problem(status, headers, body)
        client.close()


def test_a_viewer_reads_and_cannot_write(platform, rest):
    viewer = platform.rest(api_key=platform.create_api_key("viewer", "viewer"))
    assert "agents" in viewer.get("/api/v1/agents")
    for path, body in (("/api/v1/agents", {"hostname": "x.example.com"}),
                       ("/api/v1/tasks", {"agentId": NOBODY, "spec": {"kind": "DISCOVER", "discover": {}}}),
                       (f"/api/v1/agents/{NOBODY}:disable", {})):
        with pytest.raises(RestError) as refused:
            viewer.post(path, body)
        assert refused.value.status == 403, refused.value
    viewer.close()


# ---- bodies ---------------------------------------------------------------------------------------------------


BAD_BODIES = {
    "truncated": (b'{"hostname": "a', JSON, 400),
    "not JSON": (b"hostname=a", JSON, 400),
    "an array": (b"[]", JSON, 400),
    "deep nesting": (b"[" * 5000 + b"]" * 5000, JSON, 400),
    "an unknown field": (b'{"hostname": "a", "colour": "red"}', JSON, 400),
    "an unknown field below": (b'{"hostname": "a", "scope": {"everything": true}}', JSON, 400),
    "a wrong type": (b'{"hostname": 5}', JSON, 400),
    "a number out of range": (b'{"hostname": "a", "tokenTtlSec": -1}', JSON, 400),
    "an unknown enum value": (b'{"hostname": "a", "scope": {"operations": ["DESTROY"]}}', JSON, 400),
    "a duplicate key": (b'{"hostname": "a", "hostname": "b"}', JSON, 400),
    "bytes that are not UTF-8": (b'{"hostname": "\xff\xfe"}', JSON, 400),
    "a NUL in a string": (b'{"hostname": "a\\u0000b"}', JSON, 400),
    "no hostname": (b"{}", JSON, 400),
    "a hostname longer than names may be": (json.dumps({"hostname": "a" * 300}).encode(), JSON, 400),
    "a hostname that is none": (b'{"hostname": "a b\\n"}', JSON, 400),
    "another content type": (b'{"hostname": "a"}', {"Content-Type": "text/plain"}, 415),
    "no content type": (b'{"hostname": "a"}', {}, 415),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_is_refused_with_a_reason_when_it_is(case, rest):
    body, headers, expected = BAD_BODIES[case]
    before = rest.get("/api/v1/dashboard")["total"]
    status, answer_headers, answer = rest.raw("POST", "/api/v1/agents", body, headers)
    assert status == expected, (status, answer)
    document = problem(status, answer_headers, answer)
    assert document.get("detail"), document
    assert rest.get("/api/v1/dashboard")["total"] == before


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(platform):
    head = b"POST /api/v1/agents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
    for length in (b"Content-Length: 10000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n989680\r\n"):
        answer = exchange(platform, head % platform.api_key.encode() + length)
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]


def test_the_path_of_an_unknown_field_is_named(rest):
    _, _, answer = rest.raw("POST", "/api/v1/agents", b'{"hostname": "a", "scope": {"everything": true}}', JSON)
    assert "scope" in json.loads(answer)["detail"] and "everything" in json.loads(answer)["detail"], answer


def test_a_field_that_is_missing_is_named_as_a_form_knows_it(rest):
    status, headers, body = rest.raw("POST", "/api/v1/agents", b"{}", JSON)
    assert status == 400 and problem(status, headers, body)["errors"] == [{"field": "hostname", "detail": "is missing"}], body


@pytest.mark.parametrize("method, path, expected", [
    ("GET", f"/api/v1/agents/{NOBODY}", 404), ("GET", "/api/v1/agents/not-an-id", 400), ("GET", f"/api/v1/tasks/{NOBODY}", 404),
    ("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/agents", 405), ("GET", "/api/v1/agents?colour=red", 400),
    ("GET", "/api/v1/agents?pageSize=0x10", 400), ("GET", "/api/v1/agents?pageToken=!!!", 400),
    ("GET", "/api/v1/agents?status=HAPPY", 400), ("GET", "/api/v1/agents?search=%ff%fe", 400),
    ("GET", "/api/v1/agents/%2e%2e/%2e%2e", 400), ("GET", "/api/v1/agents?search=%zz", 400)])
def test_a_bad_path_or_query_is_refused(method, path, expected, rest):
    status, headers, body = rest.raw(method, path)
    assert status == expected, (status, body)
    problem(status, headers, body)


def test_a_task_for_an_unknown_agent_is_refused(rest):
    with pytest.raises(RestError) as refused:
        rest.create_task(NOBODY, "DISCOVER", {})
    assert refused.value.status == 404, refused.value


@pytest.mark.parametrize("spec", [
    {"kind": "RENEW"}, {"kind": "RENEW", "discover": {}}, {"kind": "DEPLOY", "deploy": {"target": "nginx"}},
    {"kind": "VALIDATE", "validate": {}}, {"kind": "RENEW", "renew": {"target": "nginx", "dnsNames": ["not a name"]}},
    {"kind": "DISCOVER", "discover": {"roots": ["relative/path"]}}])
def test_a_spec_that_makes_no_sense_is_refused_when_it_is_made(spec, rest, registered):
    with pytest.raises(RestError) as refused:
        rest.post("/api/v1/tasks", {"agentId": registered, "spec": spec})
    assert refused.value.status in (400, 409), refused.value


@pytest.fixture(scope="module")
def registered(platform):
    client = platform.rest()
    answer = client.register(f"api-{uuid.uuid4().hex[:6]}.example.com", operations=["DEPLOY", "RENEW", "VALIDATE", "DISCOVER"],
                             paths=["/etc/nginx/**"], dns_names=["www.example.com"])
    client.close()
    return answer["agent"]["id"]


def test_a_task_outside_the_agents_scope_is_refused(rest):
    agent_id = rest.register(f"narrow-{uuid.uuid4().hex[:6]}", operations=["VALIDATE"])["agent"]["id"]
    with pytest.raises(RestError) as refused:
        rest.create_task(agent_id, "RENEW", {"target": "nginx"})
    assert refused.value.status == 403, refused.value


def test_a_task_may_follow_at_once_what_allows_it(rest):
    agent_id = rest.register(f"wide-{uuid.uuid4().hex[:6]}", operations=["DISCOVER"])["agent"]["id"]
    for _ in range(10):
        for operation in ("VALIDATE", "DISCOVER"):
            rest.post(f"/api/v1/agents/{agent_id}:setScope", {"scope": {"operations": [operation], "paths": ["/**"]}})
            rest.create_task(agent_id, operation, {"certificatePath": "/etc/ssl/a.crt"} if operation == "VALIDATE" else None)
        rest.post(f"/api/v1/agents/{agent_id}:disable", {"reason": "for a while"})
        rest.post(f"/api/v1/agents/{agent_id}:enable")
        rest.create_task(agent_id, "DISCOVER")


def test_the_same_idempotency_key_gives_the_same_task(rest, registered):
    key = uuid.uuid4().hex
    tasks = {rest.create_task(registered, "DISCOVER", {"roots": ["/etc/nginx"]}, idempotencyKey=key)["id"] for _ in range(3)}
    assert len(tasks) == 1
    by_header = {rest.post("/api/v1/tasks", {"agentId": registered, "spec": {"kind": "DISCOVER", "discover": {"roots": ["/etc/nginx"]}}},
                           {"Idempotency-Key": key + "h"})["id"] for _ in range(2)}
    assert len(by_header) == 1


def test_agents_are_listed_searched_filtered_and_paged(rest):
    stem = uuid.uuid4().hex[:10]
    for i in range(5):
        rest.register(f"{stem}-{i}", labels={"group": stem})
    names = lambda answer: sorted(a["hostname"] for a in answer["agents"])  # noqa: E731
    wanted = [f"{stem}-{i}" for i in range(5)]
    assert names(rest.get("/api/v1/agents", search=stem)) == wanted
    assert names(rest.get("/api/v1/agents", search=stem[2:8], status="BOOTSTRAPPING")) == wanted
    assert names(rest.get("/api/v1/agents", search=stem, status="ONLINE")) == []
    assert names(rest.get("/api/v1/agents", label=f"group={stem}")) == wanted
    seen, token = [], None
    for _ in range(3):
        page = rest.get("/api/v1/agents", search=stem, pageSize=2, **({"pageToken": token} if token else {}))
        seen += names(page)
        token = page.get("nextPageToken")
    assert sorted(seen) == wanted and not token


def test_cancelling_a_task_that_has_not_begun_ends_it(rest, registered):
    task = rest.create_task(registered, "DISCOVER", {"roots": ["/etc/nginx"]})
    assert rest.post(f"/api/v1/tasks/{task['id']}:cancel")["state"] == "CANCELLED"


def test_a_task_that_its_agent_never_took_expires_with_an_alert(rest):
    agent_id = rest.register(f"away-{uuid.uuid4().hex[:6]}", operations=["DISCOVER"])["agent"]["id"]
    task = rest.create_task(agent_id, "DISCOVER", deadlineSec=1)
    assert rest.wait_task(task["id"])["state"] == "EXPIRED"
    alert = wait_until("the alert", lambda: rest.get("/api/v1/alerts", agentId=agent_id)["alerts"])[0]
    assert alert["kind"] == "TASK_FAILED" and "the deadline passed before its agent took it" in alert["message"], alert


# ---- HTTP -----------------------------------------------------------------------------------------------------


def exchange(platform, data, parts=1):
    """Sends bytes as they are over TLS; everything that comes back until the server closes or is silent for long."""
    context = ssl.create_default_context(cafile=platform.roots)
    with socket.create_connection((HOST, platform.ports["operator"]), 10) as plain, \
            context.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.settimeout(5)
        answer = b""
        try:
            for i in range(parts):
                tls.sendall(data[i * len(data) // parts:(i + 1) * len(data) // parts])
            while chunk := tls.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
        return answer


@pytest.mark.parametrize("head", [
    b"GET /api/v1/dashboard HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST /api/v1/agents HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/agents HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"GET /api/v1/dashboard HTTP/1.1\nHost: a\n\n",
    b"GET /api/v1/dashboard HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
    b"GET /api/v1/dashboard HTTP/9.9\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01 not HTTP at all \r\n\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(3000)) + b"\r\n"])
def test_a_request_that_two_readers_could_read_differently_ends_the_connection(head, platform, rest):
    answer = exchange(platform, head)
    assert not answer or answer.split(b" ", 2)[1] in (b"400", b"413", b"414", b"431", b"501", b"505"), answer[:200]
    assert rest.get("/api/v1/dashboard")["total"] >= 0


@pytest.mark.parametrize("begun", [
    b"POST /api/v1/agents HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
    b"GET /api/v1/agents HTTP/1.1\r\nHost: a\r\nX-Slow: "])
def test_who_sends_too_slowly_is_cut_and_holds_up_nobody(begun, platform, rest):
    context = ssl.create_default_context(cafile=platform.roots)
    with socket.create_connection((HOST, platform.ports["operator"]), 10) as plain, \
            context.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.sendall(begun)
        assert rest.get("/api/v1/dashboard")["total"] >= 0
        tls.settimeout(60)
        answer = b""
        try:
            while chunk := tls.recv(65536):
                answer += chunk
        except (ConnectionError, ssl.SSLError):
            pass
        assert not answer or answer.startswith(b"HTTP/1.1 408 "), answer[:200]


@pytest.mark.parametrize("field", [b"X-Big: " + b"a" * 200000, b"Cookie: " + b"a=b; " * 40000, b"Authorization: Bearer " + b"x" * 200000])
def test_a_header_field_beyond_the_limit_is_431(field, platform):
    answer = exchange(platform, b"GET /api/v1/agents HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
    assert not answer or answer.startswith(b"HTTP/1.1 431 "), answer[:200]


def test_answers_carry_what_browsers_need_and_say_nothing_of_us(rest):
    for path in ("/api/v1/dashboard", "/api/v1/nothing", "/api/v1/agents?colour=red"):
        _, headers, _ = rest.raw("GET", path)
        assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Strict-Transport-Security"]
        assert headers["X-Request-Id"] and "Server" not in headers and "X-Powered-By" not in headers


def test_a_wrong_field_is_named(rest):
    for body, field in ((b'{"hostname": 5}', "hostname"), (b'{"hostname": "a", "scope": {"everything": true}}', "scope.everything"),
                        (b'{"hostname": "a", "scope": {"paths": ["relative"]}}', "scope.paths[0]")):
        _, _, answer = rest.raw("POST", "/api/v1/agents", body, JSON)
        document = json.loads(answer)
        assert document["type"] == "urn:clm:problem:invalid-argument" and document["errors"][0]["field"] == field, document


def test_requests_beyond_the_budget_are_429_and_say_when(platform):
    conf = platform.conf_dir / "gateway.conf"
    before = conf.read_text()
    write(conf, re.sub("requests_per_minute = .*", "requests_per_minute = 20", before))
    platform["gateway"].restart()
    platform.wait_ready("gateway")
    try:
        client = platform.rest()
        answers = [client.raw("GET", "/api/v1/dashboard") for _ in range(22)]
        assert [status for status, _, _ in answers] == [200] * 20 + [429] * 2
        assert re.fullmatch(r'"actor";q=20;w=60', answers[0][1]["RateLimit-Policy"])
        assert re.fullmatch(r'"actor";r=19;t=60', answers[0][1]["RateLimit"]), answers[0][1]["RateLimit"]
        assert 0 < int(answers[21][1]["Retry-After"]) <= 60
        client.close()
    finally:
        write(conf, before)
        platform["gateway"].restart()
        platform.wait_ready("gateway")


def test_pipelined_requests_are_answered_in_order(platform):
    line = b"GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n"
    key = platform.api_key.encode()
    answer = exchange(platform, line % (b"/api/v1/agents?pageSize=1", key, b"") + line % (b"/api/v1/nothing", key, b"")
                      + line % (b"/api/v1/dashboard", key, b"Connection: close\r\n"), parts=7)
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"], answer


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(platform, rest):
    context = ssl.create_default_context(cafile=platform.roots)
    for sent in (b"", b"POST /api/v1/agents HT", b"POST /api/v1/agents HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{"):
        with socket.create_connection((HOST, platform.ports["operator"]), 10) as plain:
            tls = context.wrap_socket(plain, server_hostname="localhost")
            tls.sendall(sent)
            tls.detach()
    assert rest.get("/api/v1/dashboard")["total"] >= 0
