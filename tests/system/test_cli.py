"""clmctl as an operator uses it."""
import http.server
import json
import os
import re
import resource
import ssl
import stat
import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from clm.platform import write
from clm.process import run, wait_until


@pytest.fixture(scope="module")
def clmctl(platform, scratch):
    directory = scratch / "clmctl"
    directory.mkdir()
    write(directory / "config", f"[clmctl]\ncontext = test\n[context test]\nurl = {platform.url}\nca = {platform.roots}\n"
                                f"api_key_file = {platform.api_key_file}\n")
    environment = {"CLMCTL_CONFIG": str(directory / "config")}

    def call(*arguments, **more):
        return run([platform.bin / "clmctl", *arguments], env={**environment, **more}, check=False, timeout=120)
    call.environment = environment
    return call


@pytest.fixture
def registered(clmctl):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    done = clmctl("agents", "register", name, "--allow", "validate,discover", "--label", "site=lab", "--path", "/etc/**", "-o", "token")
    assert done.returncode == 0, done.stderr
    return name, re.search(r"agent ([0-9a-f-]{36})", done.stderr).group(1), done.stdout


def test_register_prints_a_token_and_nothing_else_to_stdout(registered):
    assert re.fullmatch(r"clmt1\.[A-Za-z0-9_-]+\n", registered[2])


def test_register_prints_the_one_line_that_installs_the_agent(clmctl):
    done = clmctl("agents", "register", f"cli-{uuid.uuid4().hex[:8]}")
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done
    assert "clm-agent setup" in done.stdout and "clmt1." in done.stdout and "/etc/clm-agent/token" in done.stdout
    run(["bash", "-n"], stdin=done.stdout)


def test_register_writes_the_token_where_only_its_owner_reads_it(clmctl, tmp_path):
    done = clmctl("agents", "register", f"cli-{uuid.uuid4().hex[:8]}", "--token-file", tmp_path / "token")
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert stat.S_IMODE(os.stat(tmp_path / "token").st_mode) == 0o600
    again = clmctl("agents", "register", f"cli-{uuid.uuid4().hex[:8]}", "--token-file", tmp_path / "token")
    assert again.returncode == 2 and "exists" in again.stderr


def test_agents_are_listed_and_shown(clmctl, registered):
    name, agent_id, _ = registered
    table = clmctl("agents", "list", "--search", name, "--status", "bootstrapping")
    assert table.returncode == 0 and agent_id in table.stdout and "site=lab" in table.stdout, table
    listed = json.loads(clmctl("agents", "list", "--search", name, "-o", "json").stdout)
    assert [a["id"] for a in listed["agents"]] == [agent_id]
    shown = clmctl("agents", "get", agent_id)
    assert name in shown.stdout and "VALIDATE DISCOVER /etc/**" in shown.stdout, shown.stdout


def test_a_task_is_run_waited_for_and_shown(clmctl, host):
    done = clmctl("tasks", "run", "validate", "--agent", host.id, "--target", "nginx", "--wait", "-o", "json")
    assert done.returncode in (0, 4), done.stderr
    task = json.loads(done.stdout)
    assert task["state"] in ("SUCCEEDED", "FAILED")
    assert "progressPermille" not in task and "phase" not in task, task  # where it was last seen says nothing of what is over
    assert "%" not in done.stderr.splitlines()[-1], done.stderr
    shown = clmctl("tasks", "get", task["id"])
    assert shown.returncode == 0 and "OUTCOME" in shown.stdout, shown.stdout
    assert task["id"] in clmctl("tasks", "list", "--agent", host.id, "--kind", "validate").stdout
    verdict = max((c["outcome"] for c in task["result"]["checks"]), key=["PASS", "WARN", "FAIL"].index)
    report, = json.loads(clmctl("reports", "list", "--agent", host.id, "-o", "json").stdout)["reports"]
    assert report["taskId"] == task["id"] and report["verdict"] == verdict and report["checks"] == task["result"]["checks"], report
    for other in {"pass", "warn", "fail"} - {verdict.lower()}:
        assert task["id"] not in clmctl("reports", "list", "--agent", host.id, "--verdict", other).stdout
    assert task["id"] in clmctl("reports", "list", "--agent", host.id, "--verdict", verdict.lower()).stdout


def test_a_task_that_fails_ends_wait_with_its_own_exit_code(clmctl, host):
    done = clmctl("tasks", "run", "renew", "--agent", host.id, "--target", "no-such-target", "--wait")
    assert done.returncode == 4, (done.returncode, done.stdout, done.stderr)
    assert "FAILED" in done.stdout and "no-such-target" in done.stdout
    task = re.search(r"[0-9a-f-]{36}", done.stdout).group()
    logs = clmctl("tasks", "logs", task, "--follow")
    assert logs.returncode == 0 and re.search(r"^attempt 1: (FAILED|REFUSED) ", logs.stdout, re.M), logs
    assert json.loads(clmctl("tasks", "logs", task, "-o", "json").stdout)["attempts"]


def test_a_task_is_cancelled(clmctl, registered):
    made = json.loads(clmctl("tasks", "run", "discover", "--agent", registered[1], "--root", "/etc", "-o", "json").stdout)
    cancelled = clmctl("tasks", "cancel", made["id"])
    assert cancelled.returncode == 0 and "CANCELLED" in cancelled.stdout


def test_lists_come_in_every_form(clmctl, registered):
    name, agent_id, _ = registered
    wide = clmctl("agents", "list", "--search", name, "-o", "wide").stdout
    assert "IDENTITY UNTIL" in wide and agent_id in wide
    document = yaml.safe_load(clmctl("agents", "list", "--search", name, "-o", "yaml").stdout)
    listed = json.loads(clmctl("agents", "list", "--search", name, "-o", "json").stdout)
    assert document == {k: v for k, v in listed.items() if k in document} and document["agents"][0]["hostname"] == name
    one = yaml.safe_load(clmctl("agents", "get", agent_id, "-o", "yaml").stdout)
    assert one["id"] == agent_id and one["labels"] == [{"name": "site", "value": "lab"}]
    assert "\x1b" not in wide, "colour is for terminals"


def test_all_pages_and_orders(clmctl):
    stem = f"cli{uuid.uuid4().hex[:6]}"
    for i in (2, 0, 1):
        clmctl("agents", "register", f"{stem}-{i}", "-o", "token")
    done = clmctl("agents", "list", "--search", stem, "--sort", "hostname", "--limit", "1", "--all")
    assert re.findall(stem + r"-\d", done.stdout) == [f"{stem}-{i}" for i in range(3)], done
    first = clmctl("agents", "list", "--search", stem, "--sort", "hostname", "--descending", "--limit", "2")
    token = re.search(r"more: --page (\S+)", first.stderr).group(1)
    rest = clmctl("agents", "list", "--search", stem, "--sort", "hostname", "--descending", "--page", token)
    assert re.findall(stem + r"-\d", first.stdout + rest.stdout) == [f"{stem}-{i}" for i in (2, 1, 0)]


def test_labels_and_scope_are_changed(clmctl, registered):
    _, agent_id, _ = registered
    done = clmctl("agents", "label", agent_id, "env=prod", "site-")
    assert done.returncode == 0 and "env=prod" in done.stdout and "site=lab" not in done.stdout, done
    assert clmctl("agents", "label", agent_id, "nothing").returncode == 2
    narrower = clmctl("agents", "scope", agent_id, "--allow", "discover", "--path", "/etc/ssl/**")
    assert narrower.returncode == 0 and "DISCOVER /etc/ssl/**" in narrower.stdout, narrower


def test_agents_are_disabled_and_enabled(clmctl, registered):
    _, agent_id, _ = registered
    assert "DISABLED" in clmctl("agents", "disable", agent_id, "--reason", "of a test").stdout
    assert agent_id in clmctl("agents", "list", "--status", "disabled", "--all").stdout
    assert "BOOTSTRAPPING" in clmctl("agents", "enable", agent_id).stdout
    assert clmctl("agents", "tokens", agent_id).stdout.count("\n") == 2
    done = clmctl("agents", "token", agent_id)
    assert re.fullmatch(r"clmt1\.[A-Za-z0-9_-]+\n", done.stdout), done
    assert clmctl("activity", "list", "--agent", agent_id).stdout.count("agent.changed") >= 2


def test_hostile_text_is_shown_escaped(clmctl, platform):
    rest = platform.rest()
    value = "<b>\u202eevil\u2066"
    agent = rest.register(f"cli-{uuid.uuid4().hex[:8]}", operations=["VALIDATE"], labels={"x": value})["agent"]
    for arguments in (("agents", "list", "--search", agent["hostname"]), ("agents", "get", agent["id"])):
        shown = clmctl(*arguments).stdout
        assert "x=<b>\\u202eevil\\u2066" in shown and "\u202e" not in shown, shown
    rest.close()


def test_hostile_subjects_and_log_lines_are_shown_escaped(clmctl, host, rest, tmp_path):
    """What a certificate on a host says of itself, and what a task's log tells of a file's name."""
    evil = "\x1b]0;owned\x07\x1b[31m<script>alert(1)</script>"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-utf8", "-subj", f"/O=evil/CN={evil.replace('/', chr(92) + '/')}",
         "-keyout", tmp_path / "key.pem", "-out", host.nginx.dir / "evil.pem"])
    task = rest.run_task(host.id, "DISCOVER", {"roots": [str(host.nginx.dir)]})
    assert task["state"] == "SUCCEEDED" and any("evil" in c["certificate"]["subject"] for c in task["result"]["certificates"]), task
    wait_until("the inventory", lambda: [c for c in rest.get("/api/v1/certificates", agentId=host.id)["certificates"] if "evil" in c["certificate"]["subject"]])
    bad = rest.run_task(host.id, "VALIDATE", {"certificatePath": f"{host.dir}/\u202e<b>"})
    for arguments in (("tasks", "get", task["id"]), ("certificates", "list", "--agent", host.id, "-o", "wide"), ("tasks", "get", bad["id"]), ("tasks", "logs", bad["id"]),
                      ("tasks", "list", "--agent", host.id), ("activity", "list", "--agent", host.id)):
        done = clmctl(*arguments)
        assert done.returncode == 0 and not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", done.stdout), (arguments, done.stdout)
    assert "alert(1)" in clmctl("tasks", "get", task["id"]).stdout


def test_people_and_keys_are_managed(clmctl):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    invited = clmctl("operators", "invite", name, "--role", "viewer,auditor", "--labels", "env=prod")
    assert invited.returncode == 0 and re.fullmatch(r"[A-Za-z0-9_-]{43}\n", invited.stdout), invited
    operator = re.search(r"([0-9a-f-]{36})", invited.stderr).group(1)
    assert "VIEWER AUDITOR" in clmctl("operators", "get", operator).stdout
    assert "OPERATOR" in clmctl("operators", "grant", operator, "--role", "operator").stdout
    assert "DISABLED" in clmctl("operators", "disable", operator).stdout
    assert name in clmctl("operators", "list", "--all").stdout
    assert clmctl("operators", "sessions", operator).returncode == 0
    made = clmctl("api-keys", "create", name, "--role", "viewer")
    assert made.returncode == 0 and made.stdout.startswith("clm_"), made
    assert "online" in clmctl("dashboard", CLMCTL_API_KEY=made.stdout.strip()).stdout
    key = made.stdout.split("_")[1]
    assert "revoked" in clmctl("api-keys", "revoke", key).stdout
    assert key not in clmctl("api-keys", "list", "--all").stdout and key in clmctl("api-keys", "list", "--all", "--ended").stdout
    wrong = clmctl("api-keys", "create", name, "--role", "root")
    assert wrong.returncode == 2 and "VIEWER" in wrong.stderr


def test_events_are_followed_and_read(clmctl, platform, registered, tmp_path):
    config = clmctl.environment
    with open(tmp_path / "out", "wb") as out:
        follow = subprocess.Popen([platform.bin / "clmctl", "events", "--follow", "-o", "json", "--type", "agent.*"],
                                  env={**os.environ, **config}, stdout=out)
    try:
        def seen():
            clmctl("agents", "label", registered[1], f"n={uuid.uuid4().hex[:6]}")
            return (tmp_path / "out").read_text().strip()
        wait_until("an event to be shown", seen, 30)
    finally:
        follow.terminate()
        follow.wait(10)
    event = json.loads((tmp_path / "out").read_text().splitlines()[0])
    assert event["type"].startswith("agent.")
    past = clmctl("events", "--from", "0", "--agent", registered[1])
    assert past.returncode == 0 and "agent.registered" in past.stdout, past
    assert clmctl("events").returncode == 2


def test_contexts_are_listed_and_chosen(clmctl, platform, tmp_path):
    write(tmp_path / "config", f"# mine\n[clmctl]\ncontext = a\n[context a]\nurl = https://a\n[context b]\nurl = {platform.url}\n"
                               f"ca = {platform.roots}\napi_key_file = {platform.api_key_file}\n")
    config = {"CLMCTL_CONFIG": str(tmp_path / "config")}
    listed = clmctl("contexts", "list", **config).stdout
    assert re.search(r"^\*\s+a\s", listed, re.M) and platform.url in listed
    assert clmctl("contexts", "use", "b", **config).returncode == 0
    assert "online" in clmctl("dashboard", **config).stdout
    assert (tmp_path / "config").read_text().startswith("# mine\n[clmctl]\ncontext = b\n[context a]")
    assert clmctl("contexts", "use", "c", **config).returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_its_shell(clmctl, shell, tmp_path):
    (tmp_path / "completion").write_text(clmctl("completion", shell).stdout)
    run([shell, "-n", tmp_path / "completion"])
    assert "api-keys" in (tmp_path / "completion").read_text()


def test_bash_completes_commands_and_options(clmctl, tmp_path):
    (tmp_path / "completion").write_text(clmctl("completion", "bash").stdout)
    for words, wanted in ((["clmctl", "ag"], "agents"), (["clmctl", "agents", "reg"], "register"),
                          (["clmctl", "agents", "list", "--desc"], "--descending"), (["clmctl", "ev"], "events"),
                          (["clmctl", "operators", "grant", "x", "--ro"], "--role")):
        script = f"source {tmp_path}/completion; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _clmctl; echo \"${{COMPREPLY[*]}}\""
        assert run(["bash", "-c", script]).stdout.split() == [wanted], words


def test_dashboard_and_version(clmctl):
    assert "online" in clmctl("dashboard").stdout
    assert clmctl("version").stdout.startswith("clmctl ")


@pytest.mark.parametrize("arguments, code, said", [
    (["agents", "get", "01890a5d-ac96-774b-bcce-b302099a8057"], 1, "ot found"),
    (["agents", "get", "x"], 2, "not an agent id"),
    (["agents", "list", "--colour"], 2, "unknown option --colour"),
    (["agents"], 2, "agents what? One of the above"),
    (["agents", "lisst"], 2, 'unknown command "agents lisst"; one of the above is meant?'),
    (["agnets", "list"], 2, 'unknown command "agnets"; `clmctl help` lists them'),
    (["agents", "register", "x", "--ttl", "604801"], 2, "from 60 to 604800"),
    (["agents", "list", "--context", "nowhere"], 2, "[context nowhere]")])
def test_errors_say_what_to_do(arguments, code, said, clmctl):
    done = clmctl(*arguments)
    assert done.returncode == code and said in done.stderr, (done.returncode, done.stderr)


@pytest.mark.parametrize("arguments", [["help", "agents"], ["agents", "--help"]])
def test_a_group_of_commands_is_explained(arguments, clmctl):
    done = clmctl(*arguments)
    assert done.returncode == 0 and "agents register HOSTNAME" in done.stdout and "tasks list" not in done.stdout, done


def test_what_is_wrong_is_said_last(clmctl):
    assert clmctl("agents", "lisst").stderr.splitlines()[-1].startswith("clmctl: unknown command")
    assert len(clmctl("agnets").stderr.splitlines()) == 1


def test_many_who_label_one_agent_at_once_all_succeed(clmctl, rest):
    agent_id = rest.register("many-labels.example.com")["agent"]["id"]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: clmctl("agents", "label", agent_id, f"l{n}=x"), range(8)))
    assert [d.returncode for d in done] == [0] * 8, done
    assert {label["name"] for label in rest.agent(agent_id)["labels"]} == {f"l{n}" for n in range(8)}


def test_a_wrong_key_a_wrong_root_and_no_platform_are_told_apart(clmctl, platform):
    wrong_key = clmctl("dashboard", CLMCTL_API_KEY="clm_wrong")
    assert wrong_key.returncode == 1 and "API key" in wrong_key.stderr, wrong_key.stderr
    wrong_root = clmctl("dashboard", CLMCTL_CA=str(platform.root / "agent-none.pem"))
    assert wrong_root.returncode == 3 and "root" in wrong_root.stderr, wrong_root.stderr
    nobody = clmctl("dashboard", CLMCTL_URL="https://127.0.0.1:1")
    assert nobody.returncode == 3 and "cannot reach" in nobody.stderr, nobody.stderr


# ---- against a platform that answers as it is told ----

TASK = {"id": "01890a5d-ac96-774b-bcce-b302099a8057", "agentId": "01890a5d-ac96-774b-bcce-b302099a8058", "kind": "VALIDATE"}


@pytest.fixture
def stand_in(clmctl, tmp_path):
    """answers: (status, document) for one request each, the last one for all that follow. Calls clmctl."""
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=stand-in",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "crt.pem"])
    answers = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = answers.pop(0) if len(answers) > 1 else answers[0]
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def call(given, *arguments):
        answers[:] = given
        return clmctl(*arguments, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1", CLMCTL_URL=f"https://127.0.0.1:{server.server_port}", CLMCTL_CA=str(tmp_path / "crt.pem"))
    yield call
    server.shutdown()
    server.server_close()


def test_wait_outlives_a_gateway_that_a_balancer_does_not_reach(stand_in):
    begun, over = {**TASK, "state": "READY"}, {**TASK, "state": "SUCCEEDED"}
    done = stand_in([(201, begun), (502, {}), (503, {}), (504, {}), (200, over)],
                    "tasks", "run", "validate", "--agent", TASK["agentId"], "--target", "web", "--wait")
    assert done.returncode == 0 and "SUCCEEDED" in done.stdout, done


def test_wait_takes_no_more_memory_the_longer_it_waits(stand_in):
    """A task with as much to say as it may, asked for a few times: what was answered before is not kept."""
    steps = [{"name": "x" * 60, "message": "y" * 1000} for _ in range(200)]
    view = {**TASK, "attempts": [{"attempt": n, "steps": steps} for n in range(8)]}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    many = stand_in([(200, {**view, "state": "RUNNING"})] * 40 + [(200, {**view, "state": "SUCCEEDED"})], "tasks", "logs", TASK["id"], "--follow")
    grown = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before
    assert many.returncode == 0 and "attempt 7" in many.stdout and grown < 64 * 1024, grown


def test_all_pages_of_yaml_are_documents_of_their_own(stand_in):
    pages = [(200, {"tasks": [{**TASK, "state": "READY"}], "nextPageToken": "2"}), (200, {"tasks": [{**TASK, "state": "FAILED"}]})]
    done = stand_in(list(pages), "tasks", "list", "--all", "-o", "yaml")
    assert [page["tasks"][0]["state"] for page in yaml.safe_load_all(done.stdout)] == ["READY", "FAILED"]
    done = stand_in(list(pages), "tasks", "list", "--all", "-o", "json")
    assert [json.loads(line)["tasks"][0]["state"] for line in done.stdout.splitlines()] == ["READY", "FAILED"]


def test_what_an_error_quotes_cannot_move_the_cursor(stand_in, clmctl):
    done = stand_in([(409, {"title": "Refused", "detail": "disabled: \x1b]0;owned\x07\u202e"})], "agents", "get", TASK["id"])
    assert done.returncode == 1 and "disabled: \\x1b]0;owned\\x07\\u202e" in done.stderr, done.stderr
    assert "\x1b" not in clmctl("agents", "get", "\x1b[31m").stderr


def test_following_says_that_nobody_answers(clmctl, platform, tmp_path):
    with (tmp_path / "said").open("w") as said:
        follow = subprocess.Popen([platform.bin / "clmctl", "events", "--follow"], stderr=said, stdout=said,
                                  env={**os.environ, **clmctl.environment, "CLMCTL_URL": "https://127.0.0.1:1"})
        try:
            wait_until("the reason", lambda: "cannot reach" in (tmp_path / "said").read_text(), 20)
            assert follow.poll() is None, "it goes on"
        finally:
            follow.kill()
            follow.wait(10)
    assert len((tmp_path / "said").read_text().splitlines()) == 1, "once"
