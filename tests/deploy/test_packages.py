"""The Debian packages: built by cpack, inspected, judged by lintian, unpacked and run."""
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build" / "release"
# What is known and wanted: units are handled without debhelper, and services are not for people to call.
KNOWN_TAGS = {"maintainer-script-calls-systemctl", "no-manual-page"}


def run(*argv, **options):
    done = subprocess.run([str(a) for a in argv], text=True, capture_output=True, timeout=300, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    out = tmp_path_factory.mktemp("deb")
    run("cpack", "-G", "DEB", "-B", out, cwd=BUILD)
    found = {path.name.split("_")[0]: path for path in out.glob("*.deb")}
    assert set(found) == {"clm-agent", "clmctl", "clm-platform"}
    return found


def contents(package):
    lines = [line.split(maxsplit=5) for line in run("dpkg-deb", "-c", package).splitlines()]
    return {words[5]: words for words in lines}


@pytest.mark.parametrize("name, wanted", [
    ("clm-agent", ["usr/bin/clm-agent", "lib/systemd/system/clm-agent.service", "lib/sysusers.d/clm-agent.conf",
                   "usr/share/man/man8/clm-agent.8.gz"]),
    ("clmctl", ["usr/bin/clmctl", "usr/share/man/man1/clmctl.1.gz", "usr/share/bash-completion/completions/clmctl"]),
    ("clm-platform", [f"usr/bin/clm-{s}" for s in ("registry", "bootstrap", "tasks", "gateway")] +
                     [f"lib/systemd/system/clm-{s}.service" for s in ("registry", "bootstrap", "tasks", "gateway")] +
                     ["usr/share/man/man8/clm-bootstrap.8.gz"]),
])
def test_package_holds_its_files(name, wanted, packages):
    held = contents(packages[name])
    for path in wanted:
        assert any(entry.removeprefix("./").removeprefix("usr/") == path.removeprefix("usr/") for entry in held), f"{path}: {sorted(held)}"
    assert all(words[1] == "root/root" for words in held.values())
    depends = run("dpkg-deb", "-f", packages[name], "Depends")
    assert "libc6 (>=" in depends and "libprotobuf-c1" in depends, depends


def test_the_agents_policy_is_a_conffile(packages, tmp_path):
    run("dpkg-deb", "-e", packages["clm-agent"], tmp_path)
    assert (tmp_path / "conffiles").read_text() == "/etc/clm-agent/agent.conf\n"


def test_lintian_finds_nothing_new(packages):
    done = subprocess.run(["lintian", "--allow-root", "--profile", "debian", *map(str, packages.values())], text=True, capture_output=True,
                          timeout=300, check=False)
    found = {line.split()[2] for line in done.stdout.splitlines() if line[:2] in ("E:", "W:")}
    assert found <= KNOWN_TAGS, done.stdout


@pytest.mark.parametrize("name, program", [("clm-agent", "clm-agent"), ("clmctl", "clmctl"), ("clm-platform", "clm-gateway")])
def test_what_is_packaged_runs(name, program, packages, tmp_path):
    run("dpkg-deb", "-x", packages[name], tmp_path)
    argument = "version" if program != "clm-gateway" else "--version"
    assert "0.1.0" in run(tmp_path / "usr/bin" / program, argument)


def test_units_and_users_are_what_systemd_takes(packages, tmp_path):
    for package in packages.values():
        run("dpkg-deb", "-x", package, tmp_path)
    for unit in tmp_path.rglob("*.service"):
        done = subprocess.run(["systemd-analyze", "verify", f"--root={tmp_path}", unit.name], text=True, capture_output=True, timeout=60, check=False)
        assert "Unknown" not in done.stderr and "Failed to parse" not in done.stderr, done.stderr
    for conf in tmp_path.rglob("sysusers.d/*.conf"):
        run("systemd-sysusers", "--dry-run", conf)


def test_completion_offers_what_the_help_names(packages, tmp_path):
    run("dpkg-deb", "-x", packages["clmctl"], tmp_path)
    completion = tmp_path / "usr/share/bash-completion/completions/clmctl"

    def offers(*words):
        script = f'PATH={tmp_path}/usr/bin:$PATH; . {completion}; COMP_WORDS=({" ".join(words)} ""); COMP_CWORD={len(words)}; '
        if words[-1].startswith("-"):
            script = f'PATH={tmp_path}/usr/bin:$PATH; . {completion}; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; '
        return set(run("bash", "-c", script + '_clmctl; printf "%s\\n" "${COMPREPLY[@]}"').split())
    assert {"agents", "tasks", "dashboard"} <= offers("clmctl")
    assert {"list", "get", "register", "disable", "enable"} <= offers("clmctl", "agents")
    assert "--wait" in offers("clmctl", "tasks", "run", "--")


def test_the_agent_can_be_built_to_need_nothing_but_the_c_library(tmp_path):
    """For hosts of other distributions: docs/operations.md has the command."""
    run("cmake", "-S", TOP, "-B", tmp_path, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCLM_STATIC=ON", "-DCLM_TESTS=OFF")
    subprocess.run(["ninja", "-C", tmp_path, "--quiet", "clm-agent"], check=True, timeout=900)
    program = tmp_path / "bin" / "clm-agent"
    needed = {line.split()[0].rsplit("/", 1)[-1] for line in run("ldd", program).splitlines()}
    assert needed <= {"linux-vdso.so.1", "libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}, needed
    assert "clm-agent" in run(program, "version")
