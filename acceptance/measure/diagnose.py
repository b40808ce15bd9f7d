"""A slow node is told from a slow link: from pairs of nodes measured in rounds, by trying suspects with good partners.

A flow goes from one node to another; a value of it is a bandwidth in any unit. Who explains slow flows is found by
`suspects`: a port (sending, receiving, both: the node) most of whose flows are slow, or else a link. A first suspicion
may rest on little, one round of disjoint pairs even, or on noise. So `next_round` says which pairs to measure next,
and is asked again after each round until it names none: pairs of the sweep that are not yet measured; suspects with
partners that are known to be good; and slow pairs again, because a link is believed only when the median of three
measurements is slow. `diagnose` then names the culprits, and whatever could not be told apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from acceptance.errors import Unmeasured
from acceptance.measure.pairs import rounds_of_pairs
from acceptance.measure.suspects import Kind, Suspect, suspects

Flow = tuple[str, str]
Pair = tuple[str, str]
Measured = Mapping[Flow, Sequence[float | None]]
"""Every measurement of each flow, in order; None where it was tried and gave nothing."""

TRIES = 3  # of a pair whose link is suspected; the median counts
PARTNERS = 2  # known to be good, with whom a suspect is tried


@dataclass(frozen=True)
class Limit:
    """From where down a flow is slow. `reach` is what the flows reach that nothing holds back."""

    slow_below: float
    reach: float


@dataclass(frozen=True)
class Culprit:
    """What is to blame, what flows reach with it (the median), and how much less that is than others reach."""

    kind: Kind
    subject: str
    value: float
    below_percent: float
    sentence: str


@dataclass(frozen=True)
class Diagnosis:
    """`culprits` are proven; `open` are suspects for whom a measurement is still missing; `unmeasured` are flows of
    the sweep without a value. Only where all three are empty is all well."""

    limit: Limit
    culprits: tuple[Culprit, ...]
    open: tuple[Culprit, ...]
    unmeasured: tuple[Flow, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything was measured and nothing is slow."""
        return not (self.culprits or self.open or self.unmeasured)


def both_ways(pairs: Mapping[Pair, Sequence[float | None]]) -> dict[Flow, list[float | None]]:
    """Measurements that know no direction, such as a collective over two nodes, as those of both flows."""
    found: dict[Flow, list[float | None]] = {}
    for (one, other), values in pairs.items():
        found.setdefault((one, other), []).extend(values)
        found.setdefault((other, one), []).extend(values)
    return found


def limit_of(measured: Measured, tolerance_percent: float, floor: float = 0.0) -> Limit:
    """Slow is what lies further below the reach than the tolerance, and in any case below `floor`.

    The reach is the median of the flows that come near the best eighth, so it holds while most nodes are slow.
    Raises Unmeasured when no flow has a value.
    """
    values = sorted(_medians(measured).values(), reverse=True)
    if not values:
        raise Unmeasured("no pair of nodes was measured")
    best = median(values[:max(3, math.ceil(len(values) / 8))])
    reach = median(value for value in values if value >= best * (1 - 1.5 * tolerance_percent / 100))
    return Limit(max(floor, reach * (1 - tolerance_percent / 100)), reach)


def next_round(names: Sequence[str], measured: Measured, tolerance_percent: float, *, floor: float = 0.0,
               rounds: int | None = None) -> list[Pair]:
    """Disjoint pairs to be measured next, both ways; none when nothing is left to find out.

    The sweep goes through all pairs, or through `rounds` rounds of disjoint ones, in which a slow node is found still,
    but not every slow link. Measurements that fail are tried three times.
    """
    for pairs in rounds_of_pairs(names)[:rounds]:
        left = [pair for pair in pairs if not _done(measured, pair)]
        if left:
            return left
    if not _medians(measured):
        return []
    limit = limit_of(measured, tolerance_percent, floor)
    wanted = [pair for suspect in _suspects(measured, limit) for pair in _tries(names, measured, limit, suspect)]
    return _disjoint(wanted)


def diagnose(names: Sequence[str], measured: Measured, tolerance_percent: float, *, floor: float = 0.0,
             rounds: int | None = None) -> Diagnosis:
    """What the measurements so far say. Raises Unmeasured when there are none."""
    limit = limit_of(measured, tolerance_percent, floor)
    medians = _medians(measured)
    found = {suspect: _culprit(suspect, medians, limit) for suspect in _suspects(measured, limit)}
    proven = [suspect for suspect in found if _shown(names, measured, limit, suspect)]
    sweep = [flow for pairs in rounds_of_pairs(names)[:rounds] for one, other in pairs
             for flow in ((one, other), (other, one))]
    return Diagnosis(limit, tuple(found[suspect] for suspect in proven),
                     tuple(culprit for suspect, culprit in found.items() if suspect not in proven),
                     tuple(flow for flow in sweep if flow not in medians))


def _medians(measured: Measured) -> dict[Flow, float]:
    found = {}
    for flow, values in measured.items():
        real = [value for value in values if value is not None and math.isfinite(value)]
        if real:
            found[flow] = median(real)
    return found


def _done(measured: Measured, pair: Pair) -> bool:
    """Whether both ways have a value, or were tried often enough."""
    ways = [measured.get(flow, ()) for flow in (pair, (pair[1], pair[0]))]
    return all(any(value is not None for value in values) or len(values) >= TRIES for values in ways)


def _suspects(measured: Measured, limit: Limit) -> list[Suspect]:
    return suspects({flow: value >= limit.slow_below for flow, value in _medians(measured).items()})


def _flows_of(suspect: Suspect, flows: Iterable[Flow]) -> list[Flow]:
    """The flows that a suspect would slow down."""
    return [flow for flow in flows if suspect.explains(*flow)]


def _tries(names: Sequence[str], measured: Measured, limit: Limit, suspect: Suspect) -> list[Pair]:
    """Pairs that would show whether it is this suspect, the most telling first; none when nothing more can be tried."""
    medians = _medians(measured)
    slow = [flow for flow in _flows_of(suspect, medians) if medians[flow] < limit.slow_below]
    found = []
    for name, others in _partners(names, measured, limit, suspect).items():
        met = [other for other in others if _done(measured, (name, other))]
        if len(met) < PARTNERS:
            found += [(name, other) for other in others if other not in met]
    return found if suspect.kind in ("node", "sending", "receiving") else found + _again(measured, slow)


def _shown(names: Sequence[str], measured: Measured, limit: Limit, suspect: Suspect) -> bool:
    """Whether a suspect is proven: each of its nodes has met a good partner, and nothing more is to be tried."""
    if _tries(names, measured, limit, suspect):
        return False
    return all(any(_done(measured, (name, other)) for other in others)
               for name, others in _partners(names, measured, limit, suspect).items())


def _partners(names: Sequence[str], measured: Measured, limit: Limit, suspect: Suspect) -> dict[str, list[str]]:
    """For each node under suspicion, the nodes whose ports are known to be good both ways."""
    if suspect.kind in ("fabric", "only link"):
        return {}
    medians = _medians(measured)
    blamed = {one.subject for one in _suspects(measured, limit) if one.kind in ("node", "sending", "receiving")}
    ends = re.split("[↔→]", suspect.subject)
    good = [name for name in names if name not in blamed and name not in ends and _cleared(name, medians, limit)]
    return {end: good for end in ends}


def _again(measured: Measured, slow: Sequence[Flow]) -> list[Pair]:
    found = [flow for flow in slow if len(measured.get(flow, ())) < TRIES]
    return list({frozenset(flow): flow for flow in found}.values())


def _cleared(name: str, medians: Mapping[Flow, float], limit: Limit) -> bool:
    """Whether a node's port is known to be good both ways."""
    return all(any(flow[place] == name and value >= limit.slow_below for flow, value in medians.items())
               for place in (0, 1))


def _disjoint(wanted: Sequence[Pair]) -> list[Pair]:
    busy: set[str] = set()
    chosen = []
    for pair in wanted:
        if not busy & set(pair):
            chosen.append(pair)
            busy |= set(pair)
    return chosen


def _culprit(suspect: Suspect, medians: Mapping[Flow, float], limit: Limit) -> Culprit:
    """A suspect with the median of its slow flows; of a shared cause, of all."""
    slow = [medians[flow] for flow in _flows_of(suspect, medians) if medians[flow] < limit.slow_below]
    value = median(slow)
    below = 100 * (1 - value / limit.reach) if limit.reach else 100.0
    return Culprit(suspect.kind, suspect.subject, value, below,
                   f"{suspect.sentence()}; {value:.4g} was reached, {below:.0f} % less than the {limit.reach:.4g} of "
                   "others")
