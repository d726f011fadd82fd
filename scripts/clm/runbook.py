"""Commands out of docs/operations.md, so that a test runs what people are told to run."""
import re

from clm.platform import TOP

OPERATIONS = TOP / "docs" / "operations.md"


def commands(name):
    """The shell commands behind `<!-- runbook: NAME -->`."""
    found = re.search(rf"<!-- runbook: {re.escape(name)} -->\n```sh\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    if not found:
        raise KeyError(f"docs/operations.md has no runbook \"{name}\"")
    return found[1]
