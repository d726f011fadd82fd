"""GET /api/v1/events: what happens, in order and all of it, to who may see it."""
import json
import threading
import uuid

import pytest

from clm.process import wait_until
from clm.rest import RestError


def stem():
    return f"ev-{uuid.uuid4().hex[:8]}"


def register(rest, name, **more):
    return rest.register(name, operations=["VALIDATE", "DISCOVER"], **more)["agent"]["id"]


def of(agent_id, kind):
    return lambda event: event.get("agentId") == agent_id and event["type"] == kind


def test_a_watcher_sees_what_happens_as_it_happens(platform, admin):
    with admin.watch() as watch:
        assert watch.response.headers["Content-Type"] == "text/event-stream"
        assert watch.response.headers["Cache-Control"] == "no-store" and watch.response.headers["X-Request-Id"]
        name, opened = watch.next()
        assert name == "opened" and str(opened["sequence"]) == watch.last_event_id
        agent_id = register(admin, stem(), labels={"a": "b"})
        event = watch.until(of(agent_id, "agent.registered"))[-1]
        assert event["agent"]["status"] == "BOOTSTRAPPING" and event["agent"]["labels"] == [{"name": "a", "value": "b"}]
        assert event["id"] and event["entityId"] == agent_id and event["actor"].startswith("api-key:")
        assert event["occurredAt"].endswith("Z") and str(event["sequence"]) == watch.last_event_id
        admin.post(f"/api/v1/agents/{agent_id}:disable", {"reason": "of a test"})
        assert watch.until(of(agent_id, "agent.changed"))[-1]["agent"]["status"] == "DISABLED"


def test_sequences_rise_without_a_gap(admin):
    name = stem()
    with admin.watch() as watch:
        ids = [register(admin, f"{name}-{i}") for i in range(20)]
        seen = watch.until(of(ids[-1], "agent.registered"))
    sequences = [int(event["sequence"]) for event in seen]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert [e["agentId"] for e in seen if e["type"] == "agent.registered"] == ids


def test_who_comes_back_gets_what_it_missed(admin):
    name = stem()
    with admin.watch() as watch:
        first = register(admin, f"{name}-0")
        watch.until(of(first, "agent.registered"))
        last = watch.last_event_id
    ids = [register(admin, f"{name}-{i}") for i in range(1, 8)]
    with admin.watch(last) as watch:
        seen = watch.until(of(ids[-1], "agent.registered"))
    assert int(seen[0]["sequence"]) == int(last) + 1
    assert [e["agentId"] for e in seen if e["type"] == "agent.registered"] == ids
    with admin.watch(lastEventId=last) as watch:  # who cannot set a header says it in the URL
        assert int(watch.until(of(ids[0], "agent.registered"))[0]["sequence"]) == int(last) + 1


def test_nothing_is_lost_across_a_restart_of_the_gateway(platform, admin):
    name = stem()
    with admin.watch() as watch:
        first = register(admin, f"{name}-0")
        watch.until(of(first, "agent.registered"))
        platform["gateway"].stop()
        while watch.next():  # whatever still came; then the end
            pass
        last = watch.last_event_id
    platform.start_service("gateway")
    platform.wait_ready("gateway")
    ids = [register(admin, f"{name}-{i}") for i in range(1, 4)]
    with admin.watch(last) as watch:
        seen = watch.until(of(ids[-1], "agent.registered"))
    sequences = [int(event["sequence"]) for event in seen]
    assert sequences == list(range(int(last) + 1, int(last) + 1 + len(sequences)))
    assert [e["agentId"] for e in seen if e["type"] == "agent.registered"] == ids


def test_history_from_before_the_gateway_began_is_read_from_the_stream(platform, admin):
    name = stem()
    with admin.watch() as watch:
        watch.next()
        last = watch.last_event_id
    ids = [register(admin, f"{name}-{i}") for i in range(5)]
    platform["gateway"].kill()  # its ring is gone with it
    platform.start_service("gateway")
    platform.wait_ready("gateway")
    with admin.watch(last) as watch:
        seen = watch.until(of(ids[-1], "agent.registered"))
    assert [int(e["sequence"]) for e in seen] == list(range(int(last) + 1, int(last) + 1 + len(seen)))
    assert [e["agentId"] for e in seen if e["type"] == "agent.registered"] == ids
    with admin.watch(0) as watch:  # all that the stream has
        assert int(watch.until(lambda event: True)[0]["sequence"]) == 1


def test_an_alerts_life_is_told_and_each_step_audited_once(admin):
    agent_id = register(admin, stem())
    with admin.watch(type="alert.*", agentId=agent_id) as watch:
        watch.next()
        admin.post(f"/api/v1/agents/{agent_id}:enterSafeMode")
        alert = wait_until("the alert", lambda: admin.get("/api/v1/alerts", agentId=agent_id)["alerts"])[0]
        for _ in range(2):
            admin.post(f"/api/v1/alerts/{alert['id']}:acknowledge")
        admin.post(f"/api/v1/agents/{agent_id}:leaveSafeMode")
        told = watch.until(lambda event: event["type"] == "alert.resolved")
    assert [e["type"] for e in told] == ["alert.raised", "alert.acknowledged", "alert.resolved"], told
    assert [e["entityId"] for e in told] == [alert["id"]] * 3 and [int(e["entityVersion"]) for e in told] == [1, 2, 3]
    assert [e["alert"]["state"] for e in told] == ["OPEN", "ACKNOWLEDGED", "RESOLVED"] and {e["alert"]["kind"] for e in told} == {"SAFE_MODE"}
    assert [e["actor"].split(":")[0] for e in told] == ["service", "api-key", "service"]

    def audited():
        entries = admin.get("/api/v1/audit/records", agentId=agent_id, action="alert.*")["entries"]
        return [e["record"] for e in entries] if len(entries) >= 3 else None
    assert sorted(r["eventId"] for r in wait_until("the records", audited, 20)) == sorted(e["id"] for e in told)


def test_what_concerns_the_whole_platform_is_told_whole(admin):
    with admin.watch(type="platform.*") as watch:
        watch.next()
        admin.post("/api/v1/platform:enterSafeMode", {"reason": "of a test"})
        event = watch.until(lambda event: True)[-1]
        admin.post("/api/v1/platform:leaveSafeMode")
        assert event["platform"] == {"safeMode": True, "reason": "of a test"}
        assert watch.until(lambda event: True)[-1]["platform"]["safeMode"] is False


def test_types_and_agents_are_filtered(admin):
    name = stem()
    with admin.watch() as watch:
        watch.next()
        last = watch.last_event_id
    one, other = register(admin, f"{name}-1"), register(admin, f"{name}-2")
    for agent_id in (one, other):
        admin.post(f"/api/v1/agents/{agent_id}:disable", {})
    with admin.watch(last, agentId=other, type="agent.*") as watch:
        seen = watch.until(of(other, "agent.changed"))
    assert {e["agentId"] for e in seen} == {other} and [e["type"] for e in seen] == ["agent.registered", "agent.changed"]
    with admin.watch(last, type=["agent.changed", "task.*"]) as watch:
        seen = watch.until(of(other, "agent.changed"))
    assert {e["type"] for e in seen} == {"agent.changed"}


def test_a_place_beyond_the_stream_is_told(admin):
    with admin.watch(10**15) as watch:
        assert watch.next() == ("opened", {"sequence": 10**15})
        name, data = watch.next()
        assert name == "reset" and data["sequence"] < 10**9
        agent_id = register(admin, stem())
        watch.until(of(agent_id, "agent.registered"))


@pytest.mark.parametrize("last", ["-1", "abc", "1 2", "9" * 30, "0x10"])
def test_what_is_no_place_is_refused(admin, last):
    with pytest.raises(RestError) as refused:
        admin.watch(last)
    assert refused.value.status == 400, refused.value


@pytest.mark.parametrize("query", [{"agentId": "nobody"}, {"type": ""}, {"colour": "red"}, {"lastEventId": str(2**64 - 1)}], ids=str)
def test_what_is_no_filter_is_refused(admin, query):
    with pytest.raises(RestError) as refused:
        admin.watch(**query)
    assert refused.value.status == 400, refused.value


def test_nobody_watches_without_a_credential(platform):
    for key in ("", "clm_0123456789abcdef_wrong"):
        client = platform.rest(api_key=key)
        with pytest.raises(RestError) as refused:
            client.watch()
        assert refused.value.status == 401
        client.close()


def test_a_grant_limited_by_labels_sees_its_agents_only(platform, admin):
    team = stem()
    limited = platform.rest(api_key=platform.create_api_key(team, "viewer", f"team={team}"))
    with limited.watch() as watch, admin.watch() as all_of_it:
        foreign = register(admin, f"{team}-x", labels={"team": "others"})
        own = register(admin, f"{team}-y", labels={"team": team})
        for agent_id in (foreign, own):
            admin.post(f"/api/v1/agents/{agent_id}:disable", {})
        seen = watch.until(of(own, "agent.changed"))
        everything = all_of_it.until(of(own, "agent.changed"))
        assert {e["agentId"] for e in seen} == {own}
        assert foreign in {e.get("agentId") for e in everything}
        assert [e["sequence"] for e in everything if e.get("agentId") == own] == [e["sequence"] for e in seen]
    # Out of the history, too.
    with limited.watch(0) as watch:
        assert {e["agentId"] for e in watch.until(of(own, "agent.changed"))} == {own}
    limited.close()


def test_a_stream_ends_with_its_credential(platform, admin):
    name = stem()
    client = platform.rest(api_key=platform.create_api_key(name, "viewer"))
    with client.watch(timeout=60) as watch:
        watch.next()
        platform.sql(f"UPDATE registry.api_keys SET revoked_at = now() WHERE name = '{name}'")
        while watch.next():
            pass  # the end comes, or a timeout
    client.close()


def test_a_watcher_that_does_not_read_holds_up_nobody(platform, admin):
    """It keeps a connection open and takes nothing, while more happens than fits between."""
    name = stem()
    with admin.watch(0, timeout=60) as lazy, admin.watch() as watch:
        watch.next()
        ids = [register(admin, f"{name}-{i}") for i in range(30)]
        watch.until(of(ids[-1], "agent.registered"))
        seen = lazy.until(of(ids[-1], "agent.registered"))
    assert [int(e["sequence"]) for e in seen] == list(range(1, 1 + len(seen)))


def test_streams_of_one_are_limited(platform, admin):
    open_streams = []
    try:
        with pytest.raises(RestError) as refused:
            for _ in range(200):
                open_streams.append(admin.watch())
        assert refused.value.status == 429 and refused.value.body["detail"], refused.value
        assert len(open_streams) >= 7, "a browser's tabs fit"
    finally:
        for watch in open_streams:
            watch.close()
    wait_until("streams to be free again", lambda: not opens_refused(admin), 20)


def opens_refused(rest):
    try:
        rest.watch().close()
        return False
    except RestError:
        return True


def test_many_watchers_get_the_same(admin, platform):
    name = stem()
    results, watches = {}, []
    try:
        for _ in range(12):
            watches.append(admin.watch())
        for watch in watches:
            watch.next()
        last = None

        def read(i, wanted):
            results[i] = [e["sequence"] for e in watches[i].until(wanted)]
        ids = [register(admin, f"{name}-{i}") for i in range(5)]
        threads = [threading.Thread(target=read, args=(i, of(ids[-1], "agent.registered"))) for i in range(len(watches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        for watch in watches:
            watch.close()
    assert len(results) == 12
    tails = {json.dumps(r[-5:]) for r in results.values()}
    assert len(tails) == 1 and last is None
