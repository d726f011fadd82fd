"""./dev test: unit tests under ctest, all others under pytest, one closing line."""
import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

from clm.platform import TOP


def count(report):
    """(passed, failed) of a JUnit file; nothing that did not run counts as passed."""
    passed = failed = 0
    for suite in xml.parse(report).getroot().iter("testsuite"):
        number = {name: int(suite.get(name) or 0) for name in ("tests", "failures", "errors", "skipped", "disabled")}
        bad = number["failures"] + number["errors"]
        failed += bad
        passed += number["tests"] - bad - number["skipped"] - number["disabled"]
    return passed, failed


PROCESSORS = os.cpu_count() or 1


def ctest(build, expression, report):
    return ["ctest", "--test-dir", str(build), "--output-on-failure", "-j", str(PROCESSORS), "--output-junit", str(report),
            *(["-R", expression] if expression else []), "--no-tests=ignore" if expression else "--no-tests=error"]


def pytest(directory, expression, report, processes=0):
    """`processes` at once, each with whole files, so that what a file's tests share is made once."""
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", "--durations=5", "--tb=short",
            f"--junitxml={report}", "-c", str(TOP / "tests" / "pytest.ini"), f"--rootdir={directory}", str(directory),
            *(["-n", str(processes), "--dist", "loadfile"] if processes > 1 else []), *(["-k", expression] if expression else [])]


# What ./dev test runs, in this order: the tests of the tree, and how.
PARTS = {
    "unit": lambda build, expression, report: ctest(build, expression, report),
    "system": lambda build, expression, report: pytest(TOP / "tests" / "system", expression, report, PROCESSORS),
    # All of it, always: its tests stand on those before them.
    "browser": lambda build, expression, report: pytest(TOP / "tests" / "browser", None, report),
    "deploy": lambda build, expression, report: pytest(TOP / "tests" / "deploy", expression, report),
}
# What an expression is looked for in.
SEARCHED = ("unit", "system")


def main():
    parser = argparse.ArgumentParser(prog="./dev test")
    parser.add_argument("--build", type=Path, default=TOP / "build" / "test", help=argparse.SUPPRESS)
    only = parser.add_mutually_exclusive_group()
    for name, text in (("unit", "unit tests only"), ("system", "system tests only"), ("browser", "the console in Chromium only"),
                       ("deploy", "what is shipped only: manifests, packages, dashboards, alert rules")):
        only.add_argument(f"--{name}", dest="only", action="store_const", const=name, help=text)
    parser.add_argument("-k", metavar="EXPR", help="only tests whose name matches (ctest -R, pytest -k)")
    args = parser.parse_args()

    passed = failed = 0
    environment = {**os.environ, "CLM_BIN": str(args.build / "bin")}
    with tempfile.TemporaryDirectory() as reports:
        for name in (args.only,) if args.only else SEARCHED if args.k else PARTS:
            print(f"==> {name} tests", flush=True)
            report = Path(reports) / f"{name}.xml"
            done = subprocess.run(PARTS[name](args.build, args.k, report), cwd=TOP, env=environment, check=False)
            p, f = count(report) if report.exists() else (0, 0)
            nothing_matched = args.k and done.returncode in (0, 5) and p == 0
            if done.returncode != 0 and f == 0 and not nothing_matched:
                f = 1  # it could not even begin
            passed, failed = passed + p, failed + f
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
