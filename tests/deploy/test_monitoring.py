"""Alert rules and dashboard: promtool takes them, the rules fire when they should, and they ask only for metrics that a process exports."""
import json
import re
import subprocess
from pathlib import Path

import yaml

TOP = Path(__file__).resolve().parents[2]
RULES = TOP / "deploy/prometheus/alerts.yaml"
DASHBOARD = TOP / "deploy/grafana/clm-platform.json"


def promtool(*argv):
    done = subprocess.run(["promtool", *map(str, argv)], text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exported():
    sources = "".join(path.read_text() for part in ("lib", "services") for path in (TOP / part).rglob("*.c"))
    plain = set(re.findall(r'metric_(?:counter|gauge)\(\s*"(\w+)"', sources))
    histograms = set(re.findall(r'metric_histogram_ms\(\s*"(\w+)"', sources))
    return plain | {name + suffix for name in histograms for suffix in ("_bucket", "_sum", "_count")}


def test_rules_fire_when_they_should(tmp_path):
    promtool("check", "rules", RULES)
    cases = tmp_path / "cases.yaml"
    cases.write_text((Path(__file__).parent / "alerts_test.yaml").read_text().replace("RULES", str(RULES)))
    promtool("test", "rules", cases)


def test_every_query_of_the_dashboard_parses(tmp_path):
    queries = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    rules = {"groups": [{"name": "panels", "rules": [{"record": f"clm:panel{i}", "expr": q} for i, q in enumerate(queries)]}]}
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump(rules))
    promtool("check", "rules", tmp_path / "panels.yaml")
    assert len(queries) > 10


def asked_for():
    return set(re.findall(r"\bclm_\w+", RULES.read_text() + DASHBOARD.read_text()))


def test_only_what_is_exported_is_asked_for():
    assert asked_for() and asked_for() <= exported(), asked_for() - exported()


def test_nothing_is_exported_that_nobody_looks_at():
    seen = {re.sub("_(bucket|sum|count)$", "", name) for name in asked_for()}
    unseen = {name for name in exported() if not name.endswith(("_bucket", "_sum", "_count"))} - seen
    assert not unseen


def test_every_alert_has_a_case_in_which_it_fires():
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    cases = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text())["tests"]
    assert {check["alertname"] for case in cases for check in case["alert_rule_test"] if check["exp_alerts"]} == alerts
