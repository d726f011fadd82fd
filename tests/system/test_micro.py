"""Services answer NATS' own tools: $SRV.PING, INFO and STATS (NATS ADR-32)."""
from support.bus import ask

SERVICES = {"clm-registry", "clm-bootstrap", "clm-tasks"}


def by_name(answers):
    return {answer["name"]: answer for answer in answers}


def test_every_service_is_listed(platform):
    pings = ask(platform, "$SRV.PING", len(SERVICES))
    assert set(by_name(pings)) == SERVICES
    assert {p["type"] for p in pings} == {"io.nats.micro.v1.ping_response"}
    assert len({p["id"] for p in pings}) == len(pings)
    assert all(p["version"].count(".") == 2 for p in pings)


def test_a_service_and_one_of_its_processes_can_be_asked_alone(platform):
    ping, = ask(platform, "$SRV.PING.clm-tasks", 1)
    info, = ask(platform, f"$SRV.INFO.clm-tasks.{ping['id']}", 1)
    assert info["type"] == "io.nats.micro.v1.info_response" and info["id"] == ping["id"]
    lease = next(e for e in info["endpoints"] if e["name"] == "LeaseTasks")
    assert lease["subject"] == "clm.rpc.tasks.LeaseTasks" and lease["queue_group"] == "tasks"
    assert ask(platform, "$SRV.PING.clm-tasks.0198c0de-0000-7000-8000-000000000000", 1, timeout=1) == []


def stats_of(platform, service, method):
    answer, = ask(platform, f"$SRV.STATS.{service}", 1)
    assert answer["type"] == "io.nats.micro.v1.stats_response" and answer["started"].endswith("Z")
    return next(e for e in answer["endpoints"] if e["name"] == method)


def test_statistics_count_requests_and_errors(platform, rest):
    before = stats_of(platform, "clm-registry", "GetAgent")
    assert rest.raw("GET", "/api/v1/agents/0198c0de-0000-7000-8000-000000000000")[0] == 404
    after = stats_of(platform, "clm-registry", "GetAgent")
    assert after["num_requests"] == before["num_requests"] + 1
    assert after["num_errors"] == before["num_errors"] + 1
    assert after["last_error"] == "NOT_FOUND"
    assert after["processing_time"] > before["processing_time"]
    assert after["average_processing_time"] == after["processing_time"] // after["num_requests"]
