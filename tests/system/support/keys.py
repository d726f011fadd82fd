"""Where bytes of private keys could be, and what they look like there."""
import base64
import os
import re
from pathlib import Path

from clm.process import run


def needles_of(path):
    """The ways in which the private key in a PEM file could stand somewhere."""
    text = path.read_text()
    needles = {line.encode() for line in text.splitlines() if not line.startswith("-----") and len(line) >= 20}
    dump = run(["openssl", "pkey", "-in", path, "-noout", "-text"]).stdout
    scalar = bytes.fromhex(re.search(r"priv:\s*((?:[0-9a-f]{2}:?\s*)+)", dump).group(1).replace(":", "").replace(" ", "")
                           .replace("\n", ""))[-32:]
    needles |= {scalar, scalar.hex().encode(), scalar.hex().upper().encode()}
    inner = {base64.b64encode(b"\0" * shift + scalar)[4:-4] for shift in range(3)}  # wherever the scalar may begin
    assert any(needle in text.replace("\n", "").encode() for needle in inner), f"not even {path} has its own scalar"
    return needles | inner | {needle.replace(b"+", b"-").replace(b"/", b"_") for needle in inner}


def files_below(kind, top, but=()):
    for path in Path(top).rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in but:
            yield f"{kind} {path.relative_to(top)}", path.read_bytes()


def places_of_platform(platform):
    """Everything that a platform with a spy keeps or said, by name."""
    yield "PostgreSQL", platform.dump().encode()
    for kind, top in (("JetStream", platform.nats_dir), ("log", platform.log_dir), ("configuration", platform.conf_dir)):
        yield from files_below(kind, top)
    yield "messages on the bus", platform.spy.heard()


def places_of_host(host, private):
    """Everything below a host's directory but the files in `private`, and what its processes show of themselves."""
    yield from files_below("host", host.dir, private)
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            try:
                yield f"{process.name}'s {name}", (process / name).read_bytes()
            except OSError:  # it is gone
                continue


def cores(directory):
    """Core dumps that the kernel would have put where its pattern says, as far as that is a file."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    where = Path(os.path.dirname(pattern)) if pattern.startswith("/") else Path(directory)
    prefix = re.split("%", os.path.basename(pattern))[0]
    return [path for path in where.glob(f"{prefix}*") if path.is_file()] if prefix and where.is_dir() and pattern[0] != "|" else []
