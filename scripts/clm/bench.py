"""./dev bench: figures beside a peer measured in the same run. The areas and their parts are the packages of clm.benches."""
import argparse
import importlib
import json
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import clm.benches
from clm.platform import TOP
from clm.process import Failed


def areas():
    """{area: its parts' names}, as the folders say."""
    return {area.name: sorted(part.name for part in pkgutil.iter_modules(importlib.import_module(f"clm.benches.{area.name}").__path__))
            for area in pkgutil.iter_modules(clm.benches.__path__) if area.ispkg}


def measure(area, part, bin_dir):
    """The figures of one part; its directory stays when it fails."""
    directory = Path(tempfile.mkdtemp(prefix=f"clm-bench-{part}-", dir="/tmp"))
    directory.chmod(0o755)
    print(f"==> {area}: {part}", flush=True)
    try:
        figures = importlib.import_module(f"clm.benches.{area}.{part}").measure(directory, bin_dir)
    except (Failed, subprocess.SubprocessError) as error:
        raise Failed(f"{part}: {error}\n(files are kept in {directory})") from error
    shutil.rmtree(directory, ignore_errors=True)
    return figures


def print_table(figures):
    def text(value):
        return "-" if value is None else value
    row = "{figure:28} {ours:>10} {peer:>10} {unit:6} {ratio:>8} {target:>8} {met}".format
    print(row(figure="figure", ours="ours", peer="peer", unit="unit", ratio="ratio", target="target", met="met"))
    for one in figures:
        print(row(**{**one, "peer": text(one["peer"]), "ratio": text(one["ratio"]), "met": "yes" if one["met"] else "NO"}))


def main():
    known = areas()
    parser = argparse.ArgumentParser(prog="./dev bench", epilog="parts: " + "; ".join(
        f"{area}: {', '.join(parts)}" for area, parts in known.items()))
    parser.add_argument("area", choices=known)
    parser.add_argument("--only", metavar="PART", action="append", help="this part of the area (more than once: these)")
    parser.add_argument("--bin", type=Path, default=TOP / "build" / "release" / "bin", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON object a figure")
    args = parser.parse_args()
    unknown = set(args.only or []) - set(known[args.area])
    if unknown:
        parser.error(f"{args.area} has no part {', '.join(sorted(unknown))}; it has {', '.join(known[args.area])}")
    figures, failed = [], False
    for part in args.only or known[args.area]:
        try:
            figures += measure(args.area, part, args.bin.resolve())
        except Failed as error:
            print(f"bench: {error}", file=sys.stderr)
            failed = True
    print_table(figures)
    if args.json:
        with open(args.json, "a", encoding="utf-8") as out:
            out.writelines(json.dumps(one) + "\n" for one in figures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
