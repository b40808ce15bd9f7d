"""What etcd's metrics say: latencies from histograms, sizes from gauges."""

from __future__ import annotations

import re
from collections.abc import Iterable

from acceptance.errors import ParseError

_LINE = re.compile(r'^([a-z_]+)(?:\{le="([^"]+)"\})? (\S+)$')
Samples = dict[tuple[str, str], float]


def parse_metrics(lines: Iterable[str]) -> Samples:
    """Values by metric name and upper bound ("" for a plain value). Raises ParseError for a line of another form."""
    found: Samples = {}
    for line in lines:
        match = _LINE.match(line)
        try:
            if match is None:
                raise ValueError(line)
            found[match[1], match[2] or ""] = float(match[3])
        except ValueError:
            raise ParseError(f"not a line of etcd's metrics: {line[:80]!r}") from None
    return found


def gauge(samples: Samples, name: str) -> float:
    """One plain value. Raises ParseError when it is not there."""
    if (name, "") not in samples:
        raise ParseError(f"etcd's metrics have no {name}")
    return samples[name, ""]


def observations(before: Samples, after: Samples, histogram: str) -> int:
    """How often a histogram was added to between two samples."""
    return round(after.get((f"{histogram}_count", ""), 0) - before.get((f"{histogram}_count", ""), 0))


def p99_ms(before: Samples, after: Samples, histogram: str) -> float:
    """99th percentile of what was added between two samples, in ms; `before` may be empty: since etcd's start.

    As Prometheus' histogram_quantile: linear inside a bucket, and the highest bound when the rank lies beyond it.
    Raises ParseError when nothing was added, or the buckets contradict each other.
    """
    name = f"{histogram}_bucket"
    buckets = sorted((float(bound), count - before.get((name, bound), 0))
                     for (metric, bound), count in after.items() if metric == name)
    counts = [count for _, count in buckets]
    if not buckets or buckets[-1][0] != float("inf") or len(buckets) < 2:
        raise ParseError(f"etcd's metrics have no buckets of {histogram}")
    if counts != sorted(counts) or counts[0] < 0:
        raise ParseError(f"etcd's {histogram} contradicts itself; it may have restarted meanwhile")
    if counts[-1] <= 0:
        raise ParseError(f"etcd made no {histogram} meanwhile")
    rank = 0.99 * counts[-1]
    lower, below = 0.0, 0.0
    for bound, count in buckets[:-1]:
        if count >= rank:
            return 1000 * (lower + (bound - lower) * (rank - below) / max(count - below, 1e-12))
        lower, below = bound, count
    return 1000 * lower
