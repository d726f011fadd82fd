"""./dev test: unit tests under ctest, system and browser tests under pytest, one closing line."""
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


def unit(build, expression, report):
    return ["ctest", "--test-dir", str(build), "--output-on-failure", "-j", str(os.cpu_count() or 1), "--output-junit",
            str(report), *(["-R", expression] if expression else []), "--no-tests=ignore" if expression else "--no-tests=error"]


def with_pytest(directory, expression, report):
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", "--durations=5", "--tb=short",
            f"--junitxml={report}", "-c", str(TOP / "tests" / "system" / "pytest.ini"), f"--rootdir={directory}", str(directory),
            *(["-k", expression] if expression else [])]


def system(expression, report):
    return with_pytest(TOP / "tests" / "system", expression, report)


def browser(report):
    """All of it, always: its tests stand on those before them."""
    return with_pytest(TOP / "tests" / "browser", None, report)


def main():
    parser = argparse.ArgumentParser(prog="./dev test")
    parser.add_argument("--build", type=Path, default=TOP / "build" / "test", help=argparse.SUPPRESS)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--unit", action="store_true", help="unit tests only")
    only.add_argument("--system", action="store_true", help="system tests only")
    only.add_argument("--browser", action="store_true", help="the console in Chromium only")
    only.add_argument("--deploy", action="store_true", help="what is shipped only: manifests, packages, dashboards, alert rules")
    parser.add_argument("-k", metavar="EXPR", help="only tests whose name matches (ctest -R, pytest -k)")
    args = parser.parse_args()

    passed = failed = 0
    with tempfile.TemporaryDirectory() as reports:
        parts = []
        programs = {"CLM_BIN": str(args.build / "bin")}
        if args.deploy:
            parts.append(("deploy", [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", "--tb=short",
                                     f"--junitxml={Path(reports) / 'deploy.xml'}", "-c", str(TOP / "tests" / "deploy" / "pytest.ini"),
                                     str(TOP / "tests" / "deploy"), *(["-k", args.k] if args.k else [])], {}))
        if not (args.system or args.browser or args.deploy):
            parts.append(("unit", unit(args.build, args.k, Path(reports) / "unit.xml"), {}))
        if not (args.unit or args.browser or args.deploy):
            parts.append(("system", system(args.k, Path(reports) / "system.xml"), programs))
        if args.browser or not (args.unit or args.system or args.deploy or args.k):
            parts.append(("browser", browser(Path(reports) / "browser.xml"), programs))
        for name, argv, environment in parts:
            print(f"==> {name} tests", flush=True)
            report = Path(reports) / f"{name}.xml"
            done = subprocess.run(argv, cwd=TOP, env={**os.environ, **environment}, check=False)
            p, f = count(report) if report.exists() else (0, 0)
            nothing_matched = args.k and done.returncode in (0, 5) and p == 0
            if done.returncode != 0 and f == 0 and not nothing_matched:
                f = 1  # it could not even begin
            passed, failed = passed + p, failed + f
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
