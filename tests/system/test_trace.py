"""One trace id (W3C trace context) leads from a REST call through every process to the host and back, and into the audit log."""
import json
import re
import secrets

import pytest

from clm.process import wait_until


def traceparent(trace):
    return f"00-{trace}-{secrets.token_hex(8)}-01"


def told(process, trace):
    """What its log says under this trace."""
    return [line for line in process.text().splitlines() if trace in line]


@pytest.fixture
def talkative_registry(platform):
    """It tells of every event that it applies, as JSON."""
    registry = platform["registry"]
    registry.env = {"CLM_SERVICE_LOG_LEVEL": "debug", "CLM_SERVICE_LOG_FORMAT": "json"}
    registry.stop(60)
    platform.start_service("registry")
    platform.wait_ready("registry")
    yield registry
    registry.env = {}
    registry.stop(60)
    platform.start_service("registry")
    platform.wait_ready("registry")


def test_one_trace_leads_from_the_call_to_the_host_and_back(platform, host, rest, talkative_registry):
    trace = secrets.token_hex(16)
    status, headers, body = rest.raw("POST", "/api/v1/tasks", json.dumps({
        "agentId": host.id, "spec": {"kind": "RENEW", "renew": {"target": "nginx"}}}).encode(),
        {"Content-Type": "application/json", "traceparent": traceparent(trace)})
    assert status == 201, body
    assert headers["X-Request-Id"] == trace
    task_id = json.loads(body)["id"]
    assert rest.wait_task(task_id)["state"] == "SUCCEEDED"

    expected = {
        platform["gateway"]: ["REST call", f"path=/agent/v1/tasks/{task_id}/result", "path=/agent/v1/certificates/sign"],
        platform["tasks"]: ["task created", "task leased", "receipt taken"],
        platform["bootstrap"]: ["certificate issued"],
        host.agent.process: ["task started", "task finished"],
        talkative_registry: ["clm.event.tasks.task.created", "clm.event.tasks.task.finished", "clm.event.bootstrap.certificate.issued"],
    }
    for process, words in expected.items():
        for word in words:
            wait_until(f"{process.name} to tell \"{word}\" under the trace", lambda: any(word in line for line in told(process, trace)), 30)
    for line in told(talkative_registry, trace):
        assert json.loads(line)["trace"] == trace, line
    for line in told(host.agent.process, trace):
        assert f"trace={trace}" in line and task_id in line, line

    def audited():
        entries = rest.get("/api/v1/audit/records", agentId=host.id, pageSize=100)["entries"]
        return {e["record"]["action"] for e in entries if e["record"].get("traceId") == trace}
    wait_until("the audit log to have the trace", lambda: {"task.created", "task.finished", "certificate.issued"} <= audited(), 30)


def test_the_trace_outlives_a_restart_of_the_agent(host, rest):
    """A receipt that is told again by a new process still belongs to the call that made its task."""
    trace = secrets.token_hex(16)
    host.agent.stop()
    task = rest.call("POST", "/api/v1/tasks", {"agentId": host.id, "spec": {"kind": "VALIDATE", "validate": {"target": "nginx"}}},
                     {"traceparent": traceparent(trace)})
    host.agent.start()
    assert rest.wait_task(task["id"])["state"] == "SUCCEEDED"
    wait_until("the agent to tell", lambda: any("task finished" in line for line in told(host.agent.process, trace)), 30)


@pytest.mark.parametrize("given", ["", "nonsense", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'A' * 32}-{'1' * 16}-01", f"ff-{'a' * 32}-{'1' * 16}-01",
                                   "x" * 2000], ids=["empty", "nonsense", "zeros", "capitals", "version", "long"])
def test_what_is_no_trace_is_replaced(given, rest):
    _, headers, _ = rest.raw("GET", "/api/v1/dashboard", headers={"traceparent": given})
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-Id"]) and headers["X-Request-Id"] not in given
