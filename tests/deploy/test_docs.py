"""What the documents name is there: tests, files, commands, metrics."""
import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
THREATS = (TOP / "docs/threat-model.md").read_text()
OPERATIONS = (TOP / "docs/operations.md").read_text()
PARTS = ["bootstrap token", "state directory", "net process", "gateway", "NATS", "registry", "tasks", "bootstrap", "signer", "operator",
         "host administrator", "a hostile file", "a hostile endpoint"]


def rows():
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in THREATS.splitlines() if line.startswith("| **")]


def sources():
    return {path: path.read_text(errors="replace") for pattern in ("system/*.py", "browser/*.py", "deploy/*.py", "unit/**/*.c", "fuzz/*.c")
            for path in (TOP / "tests").glob(pattern)}


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_each_part_that_may_be_taken_over_has_a_row():
    heads = [row[0] for row in rows()]
    missing = [part for part in PARTS if not any(f"**{part}" in head or f"{part}**" in head for head in heads)]
    assert not missing
    assert all(len(row) == 4 and all(row) for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.sub(r"\*|\(.*", "", row[0]).strip())
def test_what_a_row_names_as_its_proof_is_there(row):
    text = sources()
    everything = "\n".join(text.values())
    assert [name for name in named(row[3]) if re.fullmatch(r"\w+", name) and not name.startswith("fuzz_")], "it names no test"
    for name in named(row[3]):
        if name.startswith("tests/"):
            assert (TOP / name).exists(), name
        elif name.endswith((".py", ".c")):
            assert [path for path in text if path.name == name], name
        elif "." in name:
            area, *rest = name.split(".")
            where = [TOP / "tests/fuzz" / f"fuzz_{'_'.join(rest)}.c"] if area == "fuzz" else [TOP / "tests/unit" / area / Path(*rest[:-1]) / f"test_{rest[-1]}.c"]
            assert where[0].exists(), name
        elif name.startswith("fuzz_"):
            assert (TOP / "tests/fuzz" / f"{name}.c").exists(), name
        else:
            assert re.search(rf"\b{re.escape(name)}\b", everything), name


def test_files_that_operations_names_are_there():
    for name in named(OPERATIONS):
        if name.startswith(("deploy/", "docs/", "scripts/")):
            assert (TOP / name).exists(), name


def test_operations_explains_the_metrics_that_are_exported_and_no_others():
    from test_monitoring import exported
    there = {re.sub("_(bucket|sum|count)$", "", name) for name in exported()}
    assert set(re.findall(r"`(clm_\w+)", OPERATIONS)) == there
