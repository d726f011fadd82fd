"""Readiness says what is missing, and everything comes back by itself. Migrations are what they were."""
import pytest

from clm.platform import DATABASE_SERVICES
from clm.process import run, wait_until
from clm.rest import RestError


@pytest.mark.parametrize("part, needed_by", [("nats", ("registry", "bootstrap", "tasks", "gateway")),
                                             ("postgresql", ("registry", "bootstrap", "tasks"))])
def test_readiness_is_red_while_it_is_away_and_green_again(part, needed_by, platform, rest):
    starters = {"nats": platform.start_nats, "postgresql": platform.start_postgresql}
    platform[part].kill()
    try:
        for name in needed_by:
            wait_until(f"{name} to be unready", lambda: not platform.ready(name)[0], 20)
            assert platform[name].running()
    finally:
        starters[part]()
    platform.wait_ready()
    assert rest.get("/api/v1/dashboard")["total"] >= 0


def test_a_call_while_a_service_is_away_is_unavailable_and_not_lost_for_good(platform, rest):
    platform["tasks"].kill()
    try:
        with pytest.raises(RestError) as refused:
            rest.get("/api/v1/tasks")
        assert refused.value.status in (503, 504), refused.value
    finally:
        platform.start_service("tasks")
        platform.wait_ready("tasks")
    assert "tasks" in rest.get("/api/v1/tasks")


def refuses_to_start(platform, name):
    done = run([platform.bin / f"clm-{name}", "--config", platform.conf_dir / f"{name}.conf"], user=platform.user, check=False)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("name", DATABASE_SERVICES)
@pytest.mark.parametrize("change, undo, said", [
    ("UPDATE {0} SET sha256 = reverse(sha256) WHERE number = 1", "UPDATE {0} SET sha256 = reverse(sha256) WHERE number = 1", "0001"),
    ("INSERT INTO {0} (number, name, sha256) VALUES (9999, '9999_later.sql', 'x')", "DELETE FROM {0} WHERE number = 9999", "9999")],
    ids=["edited", "unknown"])
def test_a_migration_is_refused_that_is(change, undo, said, name, platform):
    table = f"{name}.schema_migrations"
    platform[name].stop()
    platform.sql(change.format(table))
    try:
        assert said in refuses_to_start(platform, name)
    finally:
        platform.sql(undo.format(table))
        platform.start_service(name)
        platform.wait_ready(name)


def test_metrics_and_health_are_there_for_every_service(platform):
    for name in ("registry", "bootstrap", "tasks", "gateway"):
        text = platform.metrics(name)
        assert "# TYPE" in text, text[:300]
        assert platform.ready(name)[0]
