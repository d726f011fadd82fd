"""clmctl as an operator uses it."""
import json
import os
import re
import stat
import uuid

import pytest

from clm.platform import write
from clm.process import run


@pytest.fixture(scope="module")
def clmctl(platform, scratch):
    directory = scratch / "clmctl"
    directory.mkdir()
    write(directory / "config", f"[clmctl]\ncontext = test\n[context test]\nurl = {platform.url}\nca = {platform.roots}\n"
                                f"api_key_file = {platform.api_key_file}\n")
    environment = {"CLMCTL_CONFIG": str(directory / "config")}

    def call(*arguments, **more):
        return run([platform.bin / "clmctl", *arguments], env={**environment, **more}, check=False, timeout=120)
    return call


@pytest.fixture
def registered(clmctl):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    done = clmctl("agents", "register", name, "--allow", "validate,discover", "--label", "site=lab", "--path", "/etc/**")
    assert done.returncode == 0, done.stderr
    return name, re.search(r"agent ([0-9a-f-]{36})", done.stderr).group(1), done.stdout


def test_register_prints_a_token_and_nothing_else_to_stdout(registered):
    assert re.fullmatch(r"clmt1\.[A-Za-z0-9_-]+\n", registered[2])


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
    shown = clmctl("tasks", "get", task["id"])
    assert shown.returncode == 0 and "OUTCOME" in shown.stdout, shown.stdout
    assert task["id"] in clmctl("tasks", "list", "--agent", host.id, "--kind", "validate").stdout


def test_a_task_that_fails_ends_wait_with_its_own_exit_code(clmctl, host):
    done = clmctl("tasks", "run", "renew", "--agent", host.id, "--target", "no-such-target", "--wait")
    assert done.returncode == 4, (done.returncode, done.stdout, done.stderr)
    assert "FAILED" in done.stdout and "no-such-target" in done.stdout


def test_a_task_is_cancelled(clmctl, registered):
    made = json.loads(clmctl("tasks", "run", "discover", "--agent", registered[1], "--root", "/etc", "-o", "json").stdout)
    cancelled = clmctl("tasks", "cancel", made["id"])
    assert cancelled.returncode == 0 and "CANCELLED" in cancelled.stdout


def test_dashboard_and_version(clmctl):
    assert "online" in clmctl("dashboard").stdout
    assert clmctl("version").stdout.startswith("clmctl ")


@pytest.mark.parametrize("arguments, code, said", [
    (["agents", "get", "01890a5d-ac96-774b-bcce-b302099a8057"], 1, "ot found"),
    (["agents", "get", "x"], 2, "not an agent id"),
    (["agents", "list", "--colour"], 2, "unknown option --colour"),
    (["agents"], 2, "unknown command"),
    (["agents", "list", "--context", "nowhere"], 2, "[context nowhere]")])
def test_errors_say_what_to_do(arguments, code, said, clmctl):
    done = clmctl(*arguments)
    assert done.returncode == code and said in done.stderr, (done.returncode, done.stderr)


def test_a_wrong_key_a_wrong_root_and_no_platform_are_told_apart(clmctl, platform):
    wrong_key = clmctl("dashboard", CLMCTL_API_KEY="clm_wrong")
    assert wrong_key.returncode == 1 and "API key" in wrong_key.stderr, wrong_key.stderr
    wrong_root = clmctl("dashboard", CLMCTL_CA=str(platform.root / "agent-none.pem"))
    assert wrong_root.returncode == 3 and "root" in wrong_root.stderr, wrong_root.stderr
    nobody = clmctl("dashboard", CLMCTL_URL="https://127.0.0.1:1")
    assert nobody.returncode == 3 and "cannot reach" in nobody.stderr, nobody.stderr
