"""audit.append: records into the tree beside bare rows, in a PostgreSQL of its own as it comes (fsync on)."""
from clm.benches.database import rounds
from clm.benches.figures import ratio_at_least


def measure(directory, bin_dir):
    ours, peer = rounds("audit_append", directory, bin_dir, "records appended")
    return [ratio_at_least("audit.append", ours, peer, "rec/s", 0.8)]
