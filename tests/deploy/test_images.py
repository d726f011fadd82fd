"""The Dockerfile is one that every builder takes, and promises for each process what its image must hold. ./dev test containers builds it."""
import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
DOCKERFILE = TOP / "deploy/docker/Dockerfile"
PROCESSES = ("registry", "bootstrap", "tasks", "gateway", "agent", "clmctl")
PLAIN = {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "LABEL", "STOPSIGNAL", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "ENV"}

OPTIONS = {"COPY": {"--from", "--chown"}, "HEALTHCHECK": {"--interval", "--timeout", "--start-period", "--retries"}}


def stages():
    """name → (name of the stage or image that it is made from, [(instruction, arguments)])"""
    found, current = {}, None
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        instruction, arguments = line.split(None, 1)
        if instruction == "FROM":
            base, _, name = re.fullmatch(r"(\S+)(\s+AS\s+(\S+))", arguments).groups()
            current = found[name] = (base, [])
        else:
            current[1].append((instruction, arguments))
    return found


def lineage(name):
    """The instructions of a stage behind those of what it is made from."""
    known = stages()
    base, own = known[name]
    return (lineage(base) if base in known else []) + own


def of(name, instruction):
    return [arguments for what, arguments in lineage(name) if what == instruction]


@pytest.mark.parametrize("name", stages())
def test_only_instructions_that_every_builder_knows(name):
    for instruction, arguments in stages()[name][1]:
        assert instruction in PLAIN, instruction
        assert "<<" not in arguments, "heredocs are not known to every builder"
        options = {word.split("=")[0] for word in re.match(r"((?:--\S+\s+)*)", arguments)[1].split()}
        assert options <= OPTIONS.get(instruction, set()), options


@pytest.mark.parametrize("name", stages())
def test_what_is_copied_from_the_tree_is_there(name):
    for arguments in of(name, "COPY"):
        for source in [] if arguments.startswith("--from=") else arguments.split()[:-1]:
            assert (TOP / source).exists(), source


@pytest.mark.parametrize("name", PROCESSES)
def test_each_process_has_its_image(name):
    labels = " ".join(of(name, "LABEL"))
    for label in ("title", "description", "version", "revision", "source", "vendor"):
        assert f"org.opencontainers.image.{label}=" in labels, label
    assert of(name, "ENTRYPOINT")[-1].startswith("["), "signals reach it without a shell in between"
    assert (of(name, "USER") or ["root"])[-1] not in ("root", "0") or name == "agent", "only the agent needs what its targets need"
    assert of(name, "HEALTHCHECK") or name == "clmctl"
    assert of(name, "STOPSIGNAL") == ["SIGTERM"]


def test_the_version_is_the_projects():
    version = re.search(r"project\(\S+ VERSION (\S+)", (TOP / "CMakeLists.txt").read_text())[1]
    assert f"VERSION={version}" in of("registry", "ARG")
