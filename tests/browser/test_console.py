"""From the first sign-in to a renewed certificate, in the order in which a person does it. Tests stand on those before them."""
import hashlib
import re
import time

import pytest
from clm.process import run
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from support_browser import NAME, PASSWORD

EVIL = "<img src=x onerror=alert(1)>"
seen = {}  # ids that later tests need


def fingerprint(der):
    return hashlib.sha256(der).hexdigest()


def test_who_is_not_signed_in_is_sent_to_the_sign_in_page(console):
    console.open("/agents").heading("Sign in")
    assert console.path == "/login"


def test_first_administrator_comes_by_the_one_time_link(console, platform):
    console.become_admin()
    cookie = next(c for c in console.driver.get_cookies() if c["name"] == "__Host-clm-session")
    assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/"
    assert console.driver.execute_script("return document.cookie") == ""
    assert platform.sql("SELECT count(*) FROM operator_links WHERE used_at IS NULL", role="registry") == [["0"]]


def test_dashboard_of_an_empty_fleet_says_what_to_do(console):
    console.sees("No agents yet").sees("Register the first one.")


def test_sign_out_ends_the_session_and_a_wrong_password_does_not_begin_one(console):
    console.press(NAME).press("Sign out").heading("Sign in")
    assert not [c for c in console.driver.get_cookies() if c["name"] == "__Host-clm-session"]
    console.login("not the password").sees("name or password is wrong")
    console.fill("Password", PASSWORD).press("Sign in", "form").heading("Dashboard")


def test_a_registered_agent_comes_online_on_the_page(console, host, platform):
    console.open("/agents/register").heading("Register an agent")
    console.fill("Hostname", "web1").fill("Labels", f"env=prod\nteam={'web'}").fill("Paths", f"{host.dir}/**").fill("DNS names", host.nginx.name)
    for kind in ("Renew", "Deploy"):
        console.labelled(kind).click()
    console.press("Register", "form").sees("Waiting for the agent to use the token.")
    token = console.find("[data-testid=token]").text
    assert re.fullmatch(r"\S{60,}", token), "one line to copy"
    console.sees("good for 59:")
    host.agent.enrol(token).start()
    console.sees("The agent is online", 60)
    assert token not in console.text()
    console.press("Go to the agent").heading("web1").sees("Online")
    seen["agent"] = console.path.rsplit("/", 1)[1]


def test_a_renewal_is_run_watched_and_served(console, host):
    before = fingerprint(host.nginx.served())
    console.open(f"/agents/{seen['agent']}").press("Run a task").sees("Makes a new key on the host")
    console.choose("Kind", "Renew").fill("Target", "nginx").press("Run", ".modal")
    console.heading("Renew").heading("Succeeded", 60)
    seen["renewal"] = console.path.rsplit("/", 1)[1]
    after = fingerprint(host.nginx.served())
    assert after != before
    console.sees(after).sees("Steps")
    assert before in console.text()


def test_discover_lists_what_is_on_the_host(console, host):
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-utf8", "-subj", f"/CN={EVIL}",
         "-keyout", host.dir / "evil.key", "-out", host.nginx.dir / "evil.pem"])
    console.open(f"/agents/{seen['agent']}").press("Run a task").choose("Kind", "Discover").press("Run", ".modal")
    console.heading("Discover").heading("Succeeded", 60).sees("Certificates found").sees(host.nginx.name).sees(EVIL.strip("<>"))  # RFC 4514 escapes what is around it
    assert not console.driver.find_elements(By.CSS_SELECTOR, "img[src=x]")
    seen["discovery"] = console.path.rsplit("/", 1)[1]


def test_what_happened_is_in_the_audit_log_and_its_proof_is_checked_in_the_page(console):
    console.open("/audit?action=task.finished").heading("Audit").sees("web1")
    record = next(b for b in console.driver.find_elements(By.CSS_SELECTOR, "tbody button")).get_attribute("aria-label")

    def included():
        console.press(record)
        console.wait("a verdict", lambda: record not in [b.get_attribute("aria-label") for b in console.driver.find_elements(By.CSS_SELECTOR, "tbody button")])
        if "No head yet" in console.text() or "Not checked" in console.text():  # the next head is on its way
            console.open("/audit?action=task.finished").sees("web1")
            time.sleep(2)
            return False
        return "Included" in console.text()
    console.wait("the record to be included", included, 60)
    assert "Not included" not in console.text()
    console.open("/audit?action=session.opened").sees(NAME)
    console.complaints()  # before the first head the browser notes the answers that say so


def test_an_alert_is_acknowledged(console, rest):
    task = rest.run_task(seen["agent"], "RENEW", {"target": "no-such-target"})
    assert task["state"] == "FAILED", task
    console.open("/alerts").sees("Task failed").press("Acknowledge Task failed").sees("Acknowledged")
    console.choose("State", "Resolved").sees("No alert matches")


def test_dashboard_shows_what_ended_and_its_alerts_are_acknowledged_there(console, rest):
    task = rest.run_task(seen["agent"], "RENEW", {"target": "another-such-target"})
    assert task["state"] == "FAILED", task
    console.open("/").heading("Dashboard").sees("Tasks that ended").sees("Recent alerts").sees("another-such-target")
    chart = console.find("canvas[aria-label^='Tasks that ended']").get_attribute("aria-label")
    assert re.search(r"last 24 hours: .*Succeeded [1-9].*Failed [1-9]", chart), chart
    assert "Within" in console.find("canvas[aria-label^='Identities by time']").get_attribute("aria-label")
    console.press("Acknowledge Task failed of web1")
    console.wait("the alert to go", lambda: "another-such-target" not in console.find(".timeline.acting, .empty").text)

    def actors():  # records follow their events within a second or so
        return [r["record"]["actor"] for r in rest.get("/api/v1/audit/records", action="alert.acknowledged")["entries"]]
    console.wait("both to be in the audit log", lambda: len(actors()) >= 2)
    assert actors() == [f"operator:{NAME}"] * 2


def test_an_alert_that_is_raised_reaches_the_list_by_the_stream(console, rest):
    console.open("/alerts").heading("Alerts").sees("Live")
    rest.run_task(seen["agent"], "RENEW", {"target": "raised-while-looking"})
    console.sees("raised-while-looking", 8)


def test_a_failed_task_is_tried_again(console, rest):
    task = rest.run_task(seen["agent"], "RENEW", {"target": "no-such-target"})["id"]
    console.open(f"/tasks/{task}").heading("Failed").press("Retry").press("Retry the task").sees("Attempt 1", 30).heading("Failed", 30)
    assert rest.task(task)["attempt"] == 2


def test_certificates_of_the_fleet_are_listed_with_where_they_are(console, host):
    console.open("/certificates").heading("Certificates").fill("Name", host.nginx.name).sees(host.nginx.name)
    served = fingerprint(host.nginx.served())

    def ours():
        """The row of what our nginx serves; other servers of this machine may have certificates of that name, too."""
        for row in console.driver.find_elements(By.CSS_SELECTOR, "tbody tr"):
            if f"{served[:8]}…{served[-4:]}" in row.text:
                row.find_element(By.CSS_SELECTOR, "button[aria-expanded=false]").click()
                return True
        return False
    console.wait("our certificate", ours)
    console.sees("Where it is").sees(f"127.0.0.1:{host.nginx.port}").sees("Listener")
    console.choose("Ends", "Already ended").sees("No certificate matches")


def test_a_filter_chosen_before_typing_was_heeded_stays(console):
    """The page draws a new address a moment later; the text that is heeded in that moment must not undo the choice."""
    console.open("/certificates").heading("Certificates").labelled("Name")
    console.driver.execute_async_script("""
const done = arguments[0], held = [], timeout = window.setTimeout;
const change = (id, value, event) => {
  const field = document.getElementById(id);
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set.call(field, value);
  field.dispatchEvent(new Event(event, {bubbles: true}));
};
window.setTimeout = (then, ...rest) => rest[0] >= 200 ? held.push(then) : timeout(then, ...rest);
change("name", "web1", "input");
timeout(() => {
  window.setTimeout = timeout;
  change("ends", "0", "change");
  held.forEach((then) => then());
  done();
}, 100);""")
    console.wait("both filters in the address", lambda: console.driver.execute_script("return location.search") == "?ends=0&name=web1")


def test_what_is_typed_while_the_address_follows_stays(console):
    console.open("/certificates?name=web").heading("Certificates")
    field = console.labelled("Name")
    field.send_keys("1.")
    console.wait("the address to follow", lambda: console.driver.execute_script("return location.search") == "?name=web1.")
    for character in "clm.test ":  # each on its own: what is typed while the address is drawn stays, too
        field.send_keys(character)
    console.wait("the address to follow", lambda: console.driver.execute_script("return location.search") == "?name=web1.clm.test")
    assert field.get_attribute("value") == "web1.clm.test "
    console.driver.execute_script("history.pushState(null, '', '/certificates?issuer=managed'); dispatchEvent(new PopStateEvent('popstate'))")
    console.wait("the fields to follow the address", lambda: (field.get_attribute("value"), console.labelled("Issuer").get_attribute("value")) == ("", "managed"))


def test_an_agent_says_what_its_host_has(console, host):
    console.open(f"/agents/{seen['agent']}").sees("Certificates on the host").sees(host.nginx.name).sees("Identities").sees("Current")


def test_what_the_platform_refuses_is_said_in_the_form(console):
    console.open(f"/agents/{seen['agent']}").press("Run a task").choose("Kind", "Validate").fill("Endpoint", "no endpoint").press("Run", ".modal")
    console.wait("the refusal", lambda: "endpoint" in console.find(".modal .alert").text)
    console.press("Close", ".modal-footer")
    console.complaints()  # the browser notes the 400 that was asked for


def test_tasks_are_filtered_by_the_address(console):
    console.open("/tasks?kind=DISCOVER").heading("Tasks").sees("Discover").sees("web1")
    assert len(console.driver.find_elements(By.CSS_SELECTOR, "tbody tr")) == 1
    console.choose("State", "Failed").sees("No task matches")
    assert "state=FAILED" in console.driver.current_url and "kind=DISCOVER" in console.driver.current_url


def test_agents_are_searched_and_filtered_on_the_server(console, rest):
    rest.register("db1.example.com", labels={"env": "test"})
    console.open("/agents").sees("db1.example.com").sees("web1")
    console.fill("Hostname or agent id", "db1")
    console.wait("only db1", lambda: "web1" not in console.text() and "db1.example.com" in console.text())
    console.open("/agents?label=env%3Dprod").sees("web1")
    console.wait("only web1", lambda: "db1.example.com" not in console.text())
    console.choose("Status", "Expired").sees("No agent matches")


def test_agents_are_sorted_by_the_server(console):
    def first():
        return console.driver.find_element(By.CSS_SELECTOR, "tbody tr td a").text
    console.open("/agents").sees("web1").press("Agent")
    console.wait("the first by name", lambda: first() == "db1.example.com")
    assert console.find("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    console.press("Agent ▲")
    console.wait("the last by name", lambda: first() == "web1")
    assert "sort=-HOSTNAME" in console.driver.current_url


def test_many_agents_are_changed_at_once_after_a_look_at_which(console, rest):
    names = [f"bulk{i}.example.com" for i in range(3)]
    ids = [rest.register(name, labels={"env": "bulk"})["agent"]["id"] for name in names]
    console.open("/agents?label=env%3Dbulk").sees("bulk2.example.com")
    console.find("[aria-label='Select all on this page']").click()
    console.sees("3 selected").press("Set a label").fill("Label", "team=web").sees("3 of 3 agents would change.").press("Set a label: 3")
    console.sees("3 of 3 changed.").press("Done")
    assert all({"name": "team", "value": "web"} in rest.agent(one)["labels"] for one in ids)
    console.find("[aria-label='Select bulk1.example.com']").click()
    console.sees("1 selected").press("Disable").sees("1 of 1 agents would change.").press("Disable: 1").sees("1 of 1 changed.").press("Done")
    assert [rest.agent(one)["status"] for one in ids] == ["BOOTSTRAPPING", "DISABLED", "BOOTSTRAPPING"]


def test_labels_and_scope_are_changed(console, rest):
    agent = rest.register("edit.example.com", labels={"env": "test"}, operations=("VALIDATE",))["agent"]["id"]
    console.open(f"/agents/{agent}").heading("edit.example.com").press("Change the labels").fill("Labels", "env=prod\nowner=ops").press("Change", ".modal")
    console.wait("the labels", lambda: "owner=ops" in console.text() and not console.driver.find_elements(By.CSS_SELECTOR, ".modal"))
    console.press("Change the scope").fill("Paths", "/etc/haproxy/**").press("Change", ".modal")
    console.sees("/etc/haproxy/**")
    assert rest.agent(agent)["scope"]["paths"] == ["/etc/haproxy/**"]


def test_labels_that_somebody_else_changed_meanwhile_stay(console, rest):
    """The page behind the form shows them already: that is no leave to overwrite them."""
    agent = rest.register("both.example.com", labels={"env": "test"})["agent"]["id"]
    console.open(f"/agents/{agent}").heading("both.example.com").press("Change the labels").fill("Labels", "env=mine")
    rest.post(f"/api/v1/agents/{agent}:setLabels", {"labels": [{"name": "env", "value": "theirs"}]})
    console.sees("env=theirs").press("Change", ".modal").sees("Somebody else changed it.")
    assert rest.agent(agent)["labels"] == [{"name": "env", "value": "theirs"}]
    console.press("Keep it as it is")
    assert all("status of 412" in complaint for complaint in console.complaints())


LOSE_THE_ANSWER = """const real = window.fetch;
window.fetch = async (path, asked) => {
  const answer = await real(path, asked);
  if (asked?.method !== "POST") return answer;
  window.fetch = real;
  throw new TypeError("the connection broke before the answer");
};"""


def test_what_is_sent_again_after_no_answer_is_done_once(console, rest):
    agent = rest.register("again.example.com", operations=("VALIDATE",))["agent"]["id"]
    console.open(f"/agents/{agent}").heading("again.example.com").press("Run a task").choose("Kind", "Validate").fill("Target", "web")
    console.driver.execute_script(LOSE_THE_ANSWER)
    console.press("Run", ".modal").sees("The platform does not answer.").press("Run", ".modal").heading("Validate")
    assert len(rest.get("/api/v1/tasks", agentId=agent)["tasks"]) == 1
    console.open("/agents/register").fill("Hostname", "twice.example.com")
    console.driver.execute_script(LOSE_THE_ANSWER)
    console.press("Register", "form").sees("The platform does not answer.").press("Register", "form").heading("twice.example.com").sees("1 · Copy the token")
    assert len(rest.get("/api/v1/agents", search="twice.example.com")["agents"]) == 1


def test_what_was_missed_is_read_anew_wherever_one_is(console, rest):
    """The stream says that something between is no longer to be had."""
    console.open("/certificates").heading("Certificates").sees("Live")
    count = "return performance.getEntriesByType('resource').filter((e) => new URL(e.name).pathname === '/api/v1/certificates').length"
    console.wait("quiet", lambda: console.driver.execute_script(count) > 0)
    before = console.driver.execute_script(count)
    console.driver.execute_script("new BroadcastChannel('clm-events').postMessage({event: {}})")
    console.wait("the list to be asked for", lambda: console.driver.execute_script(count) > before, 5)


def test_what_happens_reaches_a_page_that_does_not_ask(console, rest):
    """Pages ask by themselves every 15 s at the most often while the stream is there; both tabs are told, one reads."""
    agent = rest.register("live.example.com")["agent"]["id"]
    console.open(f"/agents/{agent}").heading("Bootstrapping").sees("Live")
    first = console.driver.current_window_handle
    console.driver.switch_to.new_window("tab")
    second = console.driver.current_window_handle
    try:
        console.open(f"/agents/{agent}").heading("Bootstrapping").sees("Live")
        rest.post(f"/api/v1/agents/{agent}:disable", {"reason": "seen live"})
        console.heading("Disabled", 5)
        console.driver.switch_to.window(first)
        console.heading("Disabled", 5)
        console.driver.close()  # the one that reads goes: the other takes over
        console.driver.switch_to.window(second)
        rest.post(f"/api/v1/agents/{agent}:enable")
        console.heading("Bootstrapping", 20).sees("Live")
    finally:
        console.driver.switch_to.window(second)
        console.driver.set_window_size(1280, 900)


def test_the_whole_platform_is_sent_into_safe_mode_and_back(console, rest):
    console.open("/settings").sees("Safe mode of the whole platform").press("Enter safe mode").fill("Reason", "an incident").fill("Type everywhere to go on", "everywhere")
    console.press("Enter safe mode", ".modal").sees("The whole platform is in safe mode:").sees("an incident")
    assert rest.get("/api/v1/platform")["safeMode"]
    console.press("Leave safe mode").press("Leave safe mode", ".modal")
    console.wait("the banner to go", lambda: "The whole platform is in safe mode:" not in console.text())


def console_both(platform):
    """Somebody with two roles, made by the API; how they are now."""
    client = platform.rest()
    made = client.post("/api/v1/operators", {"name": "carol", "roles": ["OPERATOR", "AUDITOR"]})["operator"]
    return lambda: client.get(f"/api/v1/operators/{made['id']}")


def test_operators_and_api_keys_are_managed(console, platform):
    console.open("/settings").heading("Settings").sees(NAME).press("Invite an operator").fill("Name", "bob").choose("Role", "Operator: registers agents and runs tasks, too")
    console.press("Make the link").sees("Copy the link for bob")
    assert "/first-admin#" in console.find("[data-testid=once]").text
    console.press("I have copied it").sees("Invited").press("Change bob").fill("Only agents with these labels", "env=prod").press("Change it").sees("env=prod")
    console.press("Disable bob").fill("Type bob to go on", "bob").press("Disable", ".modal").press("Enable bob").press("Enable", ".modal")
    console.press("Make an API key").fill("Name", "pipeline").press("Make the key").sees("Copy the API key pipeline")
    key = console.find("[data-testid=once]").text
    client = platform.rest(api_key=key)
    assert client.get("/api/v1/agents")["agents"]
    both = console_both(platform)
    console.open("/settings").press("Change carol").fill("Only agents with these labels", "env=prod").press("Change it", ".modal")
    console.wait("the labels of carol", lambda: both().get("labelSelector") == "env=prod")
    assert sorted(both()["roles"]) == ["AUDITOR", "OPERATOR"], "what the form does not show stays"
    console.press("Revoke pipeline").fill("Type pipeline to go on", "pipeline").press("Revoke the key")
    console.wait("the key to be gone", lambda: "pipeline" not in console.text())
    client.close()


def test_text_from_outside_is_text(console, rest):
    answer = rest.register("evil.example.com", labels={"note": EVIL})
    for path in ("/agents", f"/agents/{answer['agent']['id']}"):
        console.open(path).sees(EVIL)
        assert not console.driver.find_elements(By.CSS_SELECTOR, "img[src=x]")


def test_disabling_asks_for_the_name(console, rest):
    agent = rest.register("old.example.com")["agent"]["id"]
    console.open(f"/agents/{agent}").heading("old.example.com").press("Actions").press("Disable").sees("Disable: old.example.com?")
    button = console.button("Disable", ".modal")
    assert not button.is_enabled()
    console.fill("Type old.example.com to go on", "old.example.org")
    assert not button.is_enabled()
    console.fill("Type old.example.com to go on", "old.example.com").press("Disable", ".modal")
    console.heading("Disabled").press("Actions").press("Enable").press("Enable", ".modal")
    console.wait("it to be enabled", lambda: rest.agent(agent)["status"] == "BOOTSTRAPPING")


def test_an_agent_is_sent_into_safe_mode_and_back(console, rest):
    console.open(f"/agents/{seen['agent']}").heading("Online").press("Actions").press("Enter safe mode")
    console.press("Enter safe mode", ".modal").heading("Safe mode", 60).sees("OPERATOR")
    assert rest.agent(seen["agent"])["safeMode"]
    console.press("Run a task").choose("Kind", "Renew").fill("Target", "nginx").sees("The agent is in safe mode")
    console.labelled("Release this one change (break glass)").click()
    run_it = console.button("Run", ".modal")
    assert not run_it.is_enabled()
    console.fill("Type web1 to go on", "web1").press("Run", ".modal").heading("Renew").sees("by an administrator, for an agent in safe mode").heading("Failed", 60)
    console.open(f"/agents/{seen['agent']}").heading("Safe mode")
    console.press("Actions").press("Leave safe mode").press("Leave safe mode", ".modal").heading("Online", 60)


def test_a_fresh_token_is_shown_once_and_can_be_revoked(console, rest):
    agent = rest.register("again.example.com")["agent"]["id"]
    console.open(f"/agents/{agent}").sees("Bootstrap tokens").press("Actions").press("New bootstrap token").sees("A fresh token for again.example.com?")
    console.press("Make the token").sees("1 · Copy the token")
    token = console.find("[data-testid=token]").text
    assert re.fullmatch(r"\S{60,}", token)
    console.press("Container").sees("podman run").press("I have copied it")
    console.wait("the token to be gone", lambda: token not in console.text())
    console.press("Revoke").press("Revoke the token").sees("Revoked")
    assert "REVOKED" in {t["state"] for t in rest.get(f"/api/v1/agents/{agent}/tokens")["tokens"]}


def test_seven_tabs_share_one_stream(console, rest, platform):
    """More tabs than a browser has connections for: each is told, and each may still ask."""
    agent = rest.register("tabs.example.com")["agent"]["id"]
    first, tabs = console.driver.current_window_handle, []
    try:
        for _ in range(7):
            console.driver.switch_to.new_window("tab")
            tabs.append(console.driver.current_window_handle)
            console.open(f"/agents/{agent}").heading("Bootstrapping").sees("Live")
        rest.post(f"/api/v1/agents/{agent}:disable", {"reason": "seen by seven"})
        for tab in tabs:
            console.driver.switch_to.window(tab)
            console.heading("Disabled", 8)
    finally:
        for tab in tabs:
            console.driver.switch_to.window(tab)
            console.driver.close()
        console.driver.switch_to.window(first)
        console.driver.set_window_size(1280, 900)


def test_how_tasks_of_an_agent_end_is_plotted(console):
    console.open(f"/agents/{seen['agent']}").sees("Jobs").sees("How long they took")
    plot = console.find("canvas[aria-label^='Tasks by kind']").get_attribute("aria-label")
    assert re.search(r"Renew [1-9]\d* succeeded, [1-9]\d* failed", plot), plot


def test_how_the_host_is_doing_is_plotted(console):
    console.open(f"/agents/{seen['agent']}").sees("Memory").sees("GiB memory")
    plot = console.find("canvas[aria-label^='Memory, ']").get_attribute("aria-label")
    assert re.search(r"last \d+ %", plot), plot


def test_what_an_agent_did_is_on_its_page(console):
    console.open(f"/agents/{seen['agent']}").sees("Task finished").press("Audit records").heading("Audit").sees("Only of web1")


def test_a_waiting_task_is_cancelled(console, rest):
    agent = rest.register("away.example.com", operations=("DISCOVER",))["agent"]["id"]
    task = rest.create_task(agent, "DISCOVER")["id"]
    console.open(f"/tasks/{task}").heading("Discover").press("Cancel").press("Cancel the task").heading("Cancelled")
    assert rest.task(task)["state"] == "CANCELLED"


def test_keyboard_alone_reaches_the_content_and_a_dialog_keeps_the_focus(console):
    console.open("/agents").heading("Agents")
    active = console.driver.switch_to.active_element
    active.send_keys(Keys.TAB)
    assert console.driver.switch_to.active_element.text == "Skip to the content"
    console.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert console.driver.switch_to.active_element.get_attribute("id") == "main"
    console.open(f"/agents/{seen['agent']}").press("Run a task").sees("Makes a new key")
    for _ in range(25):
        console.driver.switch_to.active_element.send_keys(Keys.TAB)
        console.wait("the focus to be in the dialog", lambda: console.driver.execute_script("const at = document.activeElement; return at === document.body || !!at.closest('.modal')"), 2)
    console.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    console.wait("the dialog to close", lambda: not console.driver.find_elements(By.CSS_SELECTOR, ".modal"))


PAGES = {
    "dashboard": (lambda: "/", "Recent activity"), "agents": (lambda: "/agents", "web1"), "agent": (lambda: f"/agents/{seen['agent']}", "Generation"),
    "register": (lambda: "/agents/register", "Scope"), "tasks": (lambda: "/tasks", "Succeeded"), "renewal": (lambda: f"/tasks/{seen['renewal']}", "What is served"),
    "discovery": (lambda: f"/tasks/{seen['discovery']}", "Certificates found"), "sessions": (lambda: "/sessions", "this one"),
    "alerts": (lambda: "/alerts", "Acknowledged"), "audit": (lambda: "/audit?action=session.*", "session.opened"), "settings": (lambda: "/settings", "API keys"),
    "certificates": (lambda: "/certificates", "web1.clm.test"),
    "nowhere": (lambda: "/agents/01890a5d-ac96-774b-bcce-b302099a8057", "list"),
}


def check_and_picture(console, name):
    for scheme in ("light", "dark"):
        console.shade(scheme)
        time.sleep(0.3)  # colours of buttons change with a transition
        console.picture(f"{name}-{scheme}")
        violations = console.violations()
        assert not violations, f"{name}, {scheme}:\n" + "\n".join(violations)


@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_serious_barrier_in_light_and_dark(console, name):
    path, text = PAGES[name]
    console.open(path()).sees(text)
    check_and_picture(console, name)
    if name == "nowhere":
        console.complaints()  # the browser notes the 404 that was asked for


def test_run_dialog_has_no_serious_barrier_in_light_and_dark(console):
    console.open(f"/agents/{seen['agent']}").press("Run a task").sees("Makes a new key")
    check_and_picture(console, "run")


def test_narrow_window_needs_no_sideways_scrolling(console):
    console.driver.set_window_size(500, 900)
    try:
        for path in ("/", "/agents", f"/agents/{seen['agent']}", f"/tasks/{seen['renewal']}"):
            console.open(path).heading("")
            assert console.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"), path
    finally:
        console.driver.set_window_size(1280, 900)


def test_theme_is_chosen_and_kept(console):
    console.shade("light").open("/agents").press(NAME).press("Dark")
    assert console.driver.execute_script("return document.documentElement.dataset.bsTheme") == "dark"
    console.open("/tasks").heading("Tasks")
    assert console.driver.execute_script("return document.documentElement.dataset.bsTheme") == "dark"
    console.press(NAME).press("As the system")


def test_first_load_stays_below_300_kb(console):
    console.open("/").sees("Recent activity")
    console.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    console.driver.refresh()
    console.sees("Recent activity")
    loaded = console.driver.execute_script(
        "return performance.getEntries().filter(e => e.transferSize && !e.name.includes('/api/')).map(e => [e.name, e.transferSize])")
    total = sum(size for _, size in loaded)
    assert 50_000 < total < 300_000, loaded


@pytest.mark.parametrize("path, said, way_out", [
    ("/agents?q=nobody-is-called-that", "No agent matches", "show all."),
    ("/tasks?state=EXPIRED&kind=DEPLOY", "No task matches", "Show all."),
    ("/alerts?kind=CRL_LATE", "No alert matches", "Show those not resolved."),
    ("/certificates?name=no.such.name", "No certificate matches", "Show all."),
    ("/audit?action=no.such.action", "No record matches", "show all."),
], ids=lambda value: value.split("?")[0].strip("/") if value.startswith("/") else "")
def test_a_list_that_nothing_matches_says_so_and_leads_back(console, path, said, way_out):
    console.open(path).sees(said).press(way_out)
    console.wait("the whole list", lambda: said not in console.text() and "?" not in console.driver.current_url)


def test_a_page_that_waits_says_so(console):
    """With a network that is slow, to who looks and to who listens."""
    console.open("/agents").sees("web1")
    slow = {"offline": False, "latency": 3000, "downloadThroughput": -1, "uploadThroughput": -1}
    console.driver.execute_cdp_cmd("Network.enable", {})
    console.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    try:
        console.press("Tasks", "nav").heading("Tasks")
        console.wait("the word for it", lambda: "Loading…" in console.driver.execute_script(
            "return [...document.querySelectorAll('[role=status]')].map(e => e.textContent).join()"))
    finally:
        console.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "latency": 0})
    console.sees("Succeeded")


def test_a_part_of_the_platform_that_is_away_is_said_and_its_return_seen(console, platform):
    platform["tasks"].stop()
    try:
        console.open("/tasks").sees("A part of the platform is away. This page tries again by itself.", 40)
        console.open("/").sees("The tasks service is away").sees("web1")
    finally:
        platform.start_service("tasks")
        platform.wait_ready("tasks")
    console.open("/tasks").sees("Succeeded", 60)
    complaints = console.complaints()  # the browser notes each answer that was no good
    assert all("status of 503" in line for line in complaints), complaints


def test_a_viewer_is_told_whom_to_ask(console, platform, rest):
    link = rest.post("/api/v1/operators", {"name": "vera", "roles": ["VIEWER"]})["link"]
    console.press(NAME).press("Sign out").heading("Sign in")
    console.open(f"/first-admin#{link}").heading("Set your password").fill("Name", "vera").fill("Password", PASSWORD).fill("The same again", PASSWORD).press("Set the password and sign in").heading("Dashboard", 120)
    for path, said in (("/agents/register", "Operators and administrators register agents"), ("/settings", "For administrators")):
        console.open(path).sees(said).sees("Ask one of them.")
    console.open(f"/agents/{seen['agent']}").sees("Generation")
    assert "Run a task" not in console.text()
    console.press("vera").press("Sign out").heading("Sign in")
    console.login().heading("Dashboard", 120)  # passwords are hashed at a cost, and a busy machine takes its time


def test_session_that_ended_elsewhere_leads_to_the_sign_in_page_and_back(console, platform):
    console.open("/tasks?kind=RENEW").heading("Tasks")
    platform.sql("DELETE FROM sessions", role="registry")
    console.heading("Sign in", 40)
    entries = [e["message"] for e in console.driver.get_log("browser") if e["level"] == "SEVERE"]
    assert all("status of 401" in e for e in entries), entries
    console.fill("Name", NAME).fill("Password", PASSWORD).press("Sign in", "form").heading("Tasks")
    assert "kind=RENEW" in console.driver.current_url


def test_who_signs_in_next_does_not_see_what_the_one_before_saw(console, platform, rest):
    """The session of the one before ended by itself, on a page that the next one may not see."""
    agent = rest.register("secret.example.com", labels={"env": "secret"})["agent"]["id"]
    link = rest.post("/api/v1/operators", {"name": "walter", "roles": ["VIEWER"], "labelSelector": "env=public"})["link"]
    console.press(NAME).press("Sign out").heading("Sign in")
    console.open(f"/first-admin#{link}").heading("Set your password").fill("Name", "walter").fill("Password", PASSWORD).fill("The same again", PASSWORD).press("Set the password and sign in").heading("Dashboard", 120)
    console.press("walter").press("Sign out").heading("Sign in")
    console.login().heading("Dashboard", 120)
    console.open(f"/agents/{agent}").heading("secret.example.com")
    platform.sql("DELETE FROM sessions", role="registry")
    console.heading("Sign in", 40)
    console.driver.execute_script("""window.seen = [];
      new MutationObserver(() => { if (document.body.innerText.includes("secret.example.com")) window.seen.push(location.pathname); })
        .observe(document.body, {subtree: true, childList: true, characterData: true});""")
    console.fill("Name", "walter").fill("Password", PASSWORD).press("Sign in", "form").sees("Not found", 120)
    shown, path = console.driver.execute_script("return window.seen"), console.path
    console.press("walter").press("Sign out").heading("Sign in")
    console.login().heading("Dashboard", 120)
    assert all("status of 40" in complaint for complaint in console.complaints())
    assert path == f"/agents/{agent}" and shown == []


def test_sign_in_pages_have_no_serious_barrier(console):
    console.press(NAME).press("Sign out").heading("Sign in")
    check_and_picture(console, "login")
    console.driver.get(console.admin_link())
    console.heading("Set your password")
    check_and_picture(console, "first-admin")
    console.fill("Name", NAME).fill("Password", PASSWORD).fill("The same again", PASSWORD + "!").press("Set the password and sign in")
    console.sees("The two passwords differ.")
