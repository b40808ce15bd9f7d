"""Who differs from its peers: the median of all, the MAD (median absolute deviation) as their spread, and a floor.

A member is off when it lies further from the median than the floor and than three times 1.4826 · MAD, which for a
normal distribution is three standard deviations. Both ways: what is faster than all others by as much is no better than
what is slower, but something else. Up to just under half of the members may be off without hiding it; where even the
spread of the ordinary ones exceeds the floor there is no common value, and nobody passes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median

from acceptance.errors import Unmeasured

SIGMA = 1.4826  # MAD to standard deviation, for a normal distribution
FEWEST = 3  # of two, nobody knows which one is off


@dataclass(frozen=True)
class Peer:
    """One member that is off, and by how much: negative is less than the median."""

    name: str
    value: float
    deviation: float
    deviation_percent: float


@dataclass(frozen=True)
class Peers:
    """All members compared. `limit` is the deviation from which on a member is off, in the values' own unit."""

    median: float
    spread: float
    limit: float
    members: int
    off: tuple[Peer, ...]
    missing: tuple[str, ...]
    scattered: bool

    @property
    def good(self) -> bool:
        """Whether all were there, have a common value, and nobody is off."""
        return not self.off and not self.missing and not self.scattered


def compare(values: Mapping[str, float], *, floor: float, expected: Collection[str] = ()) -> Peers:
    """Compare members whose floor is given in their own unit. Raises Unmeasured for fewer than three, or no number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise Unmeasured(f"{name}: {value} is no measurement")
    if len(values) < FEWEST:
        raise Unmeasured(f"{len(values)} members: it takes {FEWEST} to say which one differs")
    if not floor > 0:
        raise ValueError(f"floor {floor}: expected more than 0")
    middle = median(values.values())
    spread = SIGMA * median(abs(value - middle) for value in values.values())
    limit = max(floor, 3 * spread)
    off = [Peer(name, value, value - middle, 100 * (value - middle) / middle if middle else math.inf)
           for name, value in values.items() if abs(value - middle) > limit]
    return Peers(middle, spread, limit, len(values), tuple(sorted(off, key=lambda peer: -abs(peer.deviation))),
                 tuple(sorted(set(expected) - set(values))), spread > floor)


def compare_percent(values: Mapping[str, float], tolerance_percent: float, expected: Collection[str] = ()) -> Peers:
    """Compare members whose floor is a share of the median. Raises Unmeasured, also where the median is not above 0."""
    if len(values) < FEWEST:
        raise Unmeasured(f"{len(values)} members: it takes {FEWEST} to say which one differs")
    middle = median(values.values())
    if not middle > 0:
        raise Unmeasured(f"the median is {middle:g}: nothing was measured, or nobody knows")
    return compare(values, floor=middle * tolerance_percent / 100, expected=expected)
