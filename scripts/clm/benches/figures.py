"""The lines of a result, in the form that docs/benchmarks.md describes."""


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _line(name, ours, peer, unit, target, met):
    return {"figure": name, "ours": round(ours, 3), "peer": None if peer is None else round(peer, 3), "unit": unit,
            "ratio": round(ours / peer, 2) if peer else None, "target": target, "met": met}


def at_most(name, ours, peer, unit, limit):
    """The limit is on ours; peer None: there is nothing to compare with."""
    return _line(name, ours, peer, unit, f"<= {limit}", ours <= limit)


def ratio_at_least(name, ours, peer, unit, least):
    return _line(name, ours, peer, unit, f">= {least}", ours / peer >= least)


def ratio_at_most(name, ours, peer, unit, most):
    return _line(name, ours, peer, unit, f"<= {most}", ours / peer <= most)
