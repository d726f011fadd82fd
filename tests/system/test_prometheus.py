"""The distribution's prometheus scrapes real processes with the shipped rules; every figure that operations.md promises is there."""
import json
import shutil
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from clm.platform import SERVICES
from clm.ports import HOST, free_port
from clm.process import Process, wait_until

TOP = Path(__file__).resolve().parents[2]
RULES = TOP / "deploy/prometheus/alerts.yaml"
DASHBOARD = TOP / "deploy/grafana/clm-platform.json"

# What there is to see, by service; the query has a result.
PROMISED = [
    # requests, errors, durations by method
    ("registry", 'clm_rpc_requests_total{method="Authenticate",code="OK"} > 0'),
    ("registry", 'clm_rpc_requests_total{method="GetAgent",code="NOT_FOUND"} > 0'),
    ("tasks", 'clm_rpc_duration_ms_count{method="CreateTask"} > 0'),
    ("bootstrap", 'clm_rpc_requests_total{method="SignCertificate",code="OK"} > 0'),
    ("gateway", 'clm_gateway_rest_requests_total{method="CreateTask",status="201"} > 0'),
    ("gateway", 'clm_gateway_rest_duration_ms_count{method="CreateTask"} > 0'),
    ("gateway", 'clm_gateway_agent_requests_total{method="SubmitResult",code="OK"} > 0'),
    ("gateway", 'clm_gateway_agent_duration_ms_count{method="SignCertificate"} > 0'),
    # queues, pools, batches
    *[(name, "clm_rpc_queue >= 0 and clm_workers > 0 and clm_workers_busy >= 0") for name in ("registry", "bootstrap", "tasks")],
    ("gateway", "clm_gateway_heartbeat_batch_size_count > 0 and clm_gateway_lease_batch_size_count > 0"),
    # the edges
    ("gateway", 'clm_gateway_handshakes_total{listener="agents"} > 0'),
    ("gateway", 'clm_gateway_handshakes_total{listener="operators"} > 0'),
    ("gateway", 'clm_gateway_connections{listener="agents"} > 0'),
    ("gateway", "sum(clm_gateway_agents_connected) > 0"),
    ("gateway", "clm_gateway_checkins_total > 0"),
    # the fleet and its work
    ("registry", 'clm_agents{status="ONLINE"} > 0'),
    ("registry", 'clm_alerts_open{kind="TASK_FAILED"} >= 0'),
    ("tasks", 'clm_tasks{state="READY"} >= 0'),
    ("tasks", 'clm_tasks_ended_24h{state="SUCCEEDED"} > 0'),
    # what may lag behind
    *[(name, "clm_outbox_lag_seconds >= 0") for name in ("registry", "bootstrap", "tasks")],
    *[(name, "clm_stream_fill_ratio >= 0") for name in ("registry", "bootstrap", "tasks")],
    ("registry", "clm_audit_lag_seconds >= 0 and clm_audit_unsigned_records >= 0"),
    ("bootstrap", 'time() - clm_crl_this_update_seconds{issuer="agents"} < 86400'),
    ("bootstrap", 'clm_crl_next_update_seconds{issuer="agents"} > time()'),
    # there before the first of them: an alert looks for an increase
    ("bootstrap", "clm_signer_restarts_total == 0"),
    ("gateway", 'clm_gateway_handshakes_refused_total{by="gateway"} >= 0'),
    *[(name, "clm_rpc_refused_total >= 0") for name in ("registry", "bootstrap", "tasks")],
    ("tasks", 'clm_events_parked_total{durable="tasks_registry"} == 0'),
    *[(name, "clm_ready == 1") for name in SERVICES],
    *[(name, 'clm_certificate_not_after_seconds{name="identity"} > time()') for name in SERVICES],
]


class Prometheus:
    def __init__(self, platform, directory):
        directory.mkdir()
        directory.chmod(0o755)
        self.url = f"http://{HOST}:{free_port()}"
        conf = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(RULES)],
                "scrape_configs": [{"job_name": f"clm-{name}", "static_configs": [{"targets": [f"{HOST}:{platform.ports[name + '-admin']}"]}]}
                                   for name in SERVICES]}
        (directory / "prometheus.yml").write_text(yaml.safe_dump(conf))
        self.process = Process("prometheus", [
            shutil.which("prometheus") or "/usr/bin/prometheus", f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data", f"--web.listen-address={self.url.removeprefix('http://')}"], directory / "log")

    def get(self, path, **query):
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, text):
        return self.get("query", query=text)["result"]

    def start(self):
        self.process.start()

        def up():
            try:
                return len(self.query("up == 1")) == len(SERVICES)
            except OSError:
                return False
        wait_until("prometheus to reach every process", up, 60, process=self.process)
        return self


@pytest.fixture(scope="module")
def prometheus(platform, scratch):
    prometheus = Prometheus(platform, scratch / "prometheus").start()
    yield prometheus
    prometheus.process.stop()


@pytest.fixture
def busy(rest, host):
    """There was something of everything to count."""
    assert rest.run_task(host.id, "RENEW", {"target": "nginx"})["state"] == "SUCCEEDED"
    assert rest.raw("GET", "/api/v1/agents/0198c0de-0000-7000-8000-000000000000")[0] == 404


def test_every_figure_that_is_promised_is_there(prometheus, busy):
    for name, query in PROMISED:
        wait_until(f"clm-{name}: {query}", lambda: [r for r in prometheus.query(query) if r["metric"].get("job", f"clm-{name}") == f"clm-{name}"], 30)


def test_tasks_by_state_are_what_the_database_holds(prometheus, platform, rest, host):
    host.agent.stop()
    made = rest.create_task(host.id, "VALIDATE", {"target": "nginx"})["id"]

    def agree():
        counted = {state: n for state, n in platform.sql(
            "SELECT CASE state WHEN 1 THEN 'SCHEDULED' WHEN 2 THEN 'READY' WHEN 3 THEN 'LEASED' ELSE 'RUNNING' END, count(*) "
            "FROM tasks WHERE state < 5 GROUP BY 1", role="tasks")}
        told = {r["metric"]["state"]: r["value"][1] for r in prometheus.query("clm_tasks > 0")}
        return counted == told and "READY" in told
    wait_until("metrics and database to agree", agree, 60)
    rest.post(f"/api/v1/tasks/{made}:cancel")


def test_the_shipped_rules_and_panels_are_evaluated(prometheus, busy):
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}

    def all_healthy():
        return all(rule["health"] == "ok" for group in prometheus.get("rules")["groups"] for rule in group["rules"])
    wait_until("every rule to be evaluated", all_healthy, 30)
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            prometheus.query(target["expr"])  # an error of it is an HTTP error
