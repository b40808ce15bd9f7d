"""Bandwidth by message size: whether all was measured, is right and possible, fast enough where it counts, and smooth.

The floor is for each size of `threshold_from_bytes` and above alone, in place and out of place; no average over sizes
is formed, because it says more about which small sizes were measured than about the network.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from acceptance.measure.ceilings import Ceiling
from acceptance.measure.collectives import CollectiveRow, contradiction, size_text
from acceptance.measure.flaws import Flaw
from acceptance.measure.limits import Limits, ranks_of
from acceptance.measure.peers import SIGMA
from acceptance.site.contract import Contract

BUSBW = "GB/s"


@dataclass(frozen=True)
class CurveNeed:
    """What a collective must show. Floors of None are not judged: the contract has none for that collective.

    `modes` are the ways it is measured: in place (True), out of place (False). `verified` are the modes whose results
    must have been verified; nccl-tests cannot verify alltoall in place.
    """

    collective: str
    ranks: int
    sizes: tuple[int, ...]
    repeats: int
    ceiling: Ceiling
    ceiling_tolerance_percent: float
    threshold_from_bytes: int
    min_busbw_gbyte_s: float | None
    target_busbw_gbyte_s: float | None
    max_dip_percent: float
    small_bytes: int
    alert_us: float
    modes: tuple[bool, ...]
    verified: tuple[bool, ...]


@dataclass(frozen=True)
class Point:
    """One size in one mode over all repeats: medians, and the repeats' robust spread as a share of the median."""

    size_bytes: int
    in_place: bool
    repeats: int
    time_us: float
    busbw_gbyte_s: float
    lowest_gbyte_s: float
    highest_gbyte_s: float
    spread_percent: float

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{size_text(self.size_bytes)} {_mode(self.in_place)}"


@dataclass(frozen=True)
class Curve:
    """A judged curve. `alerts` are told and do not fail; `missed_target` are sizes above the floor and below the
    target. `weakest` is the point by which the floor is judged."""

    points: tuple[Point, ...]
    flaws: tuple[Flaw, ...]
    alerts: tuple[Flaw, ...]
    missed_target: tuple[Flaw, ...]
    weakest: Point | None


def curve_need(contract: Contract, limits: Limits, collective: str = "all_reduce",
               modes: tuple[bool, ...] = (False, True)) -> CurveNeed:
    """What the contract asks of a collective that is measured in these modes; all are to be verified."""
    work = contract.performance
    wanted, main = work.collectives, collective == "all_reduce"
    return CurveNeed(
        collective, ranks_of(contract), (wanted.sizes if main else wanted.other_sizes).all, wanted.repeats,
        limits.collectives[collective], work.ceiling_tolerance_percent, wanted.threshold_from_bytes,
        wanted.min_busbw_gbyte_s if main else None, wanted.target_busbw_gbyte_s if main else None,
        wanted.max_dip_percent, wanted.small_bytes, wanted.alert_us, modes, modes)


def judge_curve(rows: Sequence[CollectiveRow], need: CurveNeed) -> Curve:
    """Every flaw of what was measured; a curve without any of what the contract names is all flaws."""
    flaws = [flaw for row in rows for flaw in _row(row, need)]
    points = _points(rows)
    flaws += _missing(rows, need)
    floor, missed = _floors(points, need)
    return Curve(
        tuple(points), tuple(flaws + floor + _dips(points, need)), tuple(_alerts(points, need)), tuple(missed),
        min(_judged(points, need), key=lambda point: point.busbw_gbyte_s, default=None))


def share_sentence(curve: Curve, need: CurveNeed) -> str:
    """For the approver: what share of the physical limit was reached where it was least."""
    if curve.weakest is None:
        return f"{need.collective} over {need.ranks} GPUs was not measured at the sizes that count."
    point = curve.weakest
    share = need.ceiling.share_percent(point.busbw_gbyte_s)
    return (f"{need.collective} over {need.ranks} GPUs reached {point.busbw_gbyte_s:.3g} GB/s at its slowest "
            f"large size ({point.name}): {share:.0f} % of the physical limit of {need.ceiling.value:.4g} GB/s.")


def _points(rows: Sequence[CollectiveRow]) -> list[Point]:
    groups: dict[tuple[bool, int], list[CollectiveRow]] = {}
    for row in rows:
        if math.isfinite(row.busbw_gbyte_s) and math.isfinite(row.time_us):
            groups.setdefault((row.in_place, row.size_bytes), []).append(row)
    points = []
    for (in_place, size), group in sorted(groups.items()):
        speeds = [row.busbw_gbyte_s for row in group]
        middle = median(speeds)
        spread = SIGMA * median(abs(speed - middle) for speed in speeds)
        points.append(Point(size, in_place, len({row.repeat for row in group}), median(row.time_us for row in group),
                            middle, min(speeds), max(speeds), 100 * spread / middle if middle else 0.0))
    return points


def _row(row: CollectiveRow, need: CurveNeed) -> Iterator[Flaw]:
    subject = f"{need.collective} {size_text(row.size_bytes)} {_mode(row.in_place)}"
    at = f"repeat {row.repeat}"
    if row.ranks != need.ranks or row.silent_ranks:
        silent = f"; silent: {_list(row.silent_ranks)}" if row.silent_ranks else ""
        yield Flaw("ranks", f"{at}: not all took part{silent}", subject, row.ranks - len(row.silent_ranks), need.ranks)
    if row.wrong:
        who = f" of ranks {_list(row.wrong_ranks)}" if row.wrong_ranks else ""
        yield Flaw("wrong elements", f"{at}: the result{who} is wrong", subject, row.wrong, 0)
    elif row.wrong is None and row.in_place in need.verified:
        yield Flaw("wrong elements", f"{at}: nobody verified the result", subject, required=0)
    if row.ranks >= 1 and (why := contradiction(row, need.collective)):
        yield Flaw("figures", f"{at}: they contradict each other: {why}", subject)
    if math.isfinite(row.busbw_gbyte_s) and need.ceiling.exceeded(row.busbw_gbyte_s, need.ceiling_tolerance_percent):
        yield Flaw("busbw beyond its ceiling", f"{at}: the measurement is wrong, not the network fast: "
                   f"{need.ceiling.derivation}", subject, row.busbw_gbyte_s, need.ceiling.value, BUSBW)


def _missing(rows: Sequence[CollectiveRow], need: CurveNeed) -> list[Flaw]:
    """A flaw for each size and mode that lacks a repeat, or has one twice."""
    flaws = []
    times = Counter((row.in_place, row.size_bytes, row.repeat) for row in rows)
    for in_place in need.modes:
        for size in need.sizes:
            subject = f"{need.collective} {size_text(size)} {_mode(in_place)}"
            repeats = [repeat for mode, of, repeat in times if (mode, of) == (in_place, size)]
            if len(repeats) < need.repeats:
                flaws.append(Flaw("repeats", "repeats missing" if repeats else "size missing", subject,
                                  len(repeats), need.repeats))
    flaws += [Flaw("repeats", f"repeat {repeat} is there {count} times",
                   f"{need.collective} {size_text(size)} {_mode(in_place)}", count, 1)
              for (in_place, size, repeat), count in times.items() if count > 1]
    return flaws


def _judged(points: Sequence[Point], need: CurveNeed) -> list[Point]:
    return [point for point in points if point.size_bytes >= need.threshold_from_bytes]


def _floors(points: Sequence[Point], need: CurveNeed) -> tuple[list[Flaw], list[Flaw]]:
    least, target = need.min_busbw_gbyte_s, need.target_busbw_gbyte_s
    if least is None:
        return [], []
    judged = _judged(points, need)
    if not judged:
        return [Flaw("busbw", f"no size of {need.threshold_from_bytes:,} bytes or more was measured",
                     need.collective, required=least, unit=BUSBW, unjudged=True)], []
    flaws, missed = [], []
    for point in judged:
        share = f"{need.ceiling.share_percent(point.busbw_gbyte_s):.0f} % of the physical {need.ceiling.value:.4g} GB/s"
        subject = f"{need.collective} {point.name}"
        if not point.busbw_gbyte_s >= least:
            flaws.append(Flaw("busbw", f"too slow: {share}", subject, point.busbw_gbyte_s, least, BUSBW))
        elif target is not None and point.busbw_gbyte_s < target:
            missed.append(Flaw("busbw", f"below target: {share}", subject, point.busbw_gbyte_s, target, BUSBW))
    return flaws, missed


def _dips(points: Sequence[Point], need: CurveNeed) -> list[Flaw]:
    """Sizes well below what a smaller and a larger one both reach; at the end, below what a smaller one reaches.

    From neighbours, three times their spread is taken off, and to the size itself added, so that noise makes no dip.
    Of sizes side by side, the lowest is told.
    """
    flaws = []
    for in_place in need.modes:
        line = [point for point in points if point.in_place is in_place]
        low = [point.busbw_gbyte_s * max(0.0, 1 - 3 * point.spread_percent / 100) for point in line]
        deep: list[tuple[int, float]] = []
        for at, point in enumerate(line[1:], start=1):
            before, after = max(low[:at]), max(low[at + 1:], default=math.inf)
            if after == math.inf and point.size_bytes < need.threshold_from_bytes:
                continue
            around = min(before, after)
            top = point.busbw_gbyte_s * (1 + 3 * point.spread_percent / 100)
            if around > 0 and 100 * (1 - top / around) > need.max_dip_percent:
                deep.append((at, around))
        flaws += [_dip(line[at], around, need) for at, around in _lowest(deep, line)]
    return flaws


def _lowest(deep: Sequence[tuple[int, float]], line: Sequence[Point]) -> Iterator[tuple[int, float]]:
    group: list[tuple[int, float]] = []
    for at, around in [*deep, (len(line) + 1, 0.0)]:
        if group and at != group[-1][0] + 1:
            yield min(group, key=lambda one: line[one[0]].busbw_gbyte_s)
            group = []
        group.append((at, around))


def _dip(point: Point, around: float, need: CurveNeed) -> Flaw:
    return Flaw("dip in the curve", "smaller and larger sizes are faster", f"{need.collective} {point.name}",
                point.busbw_gbyte_s, around * (1 - need.max_dip_percent / 100), BUSBW)


def _alerts(points: Sequence[Point], need: CurveNeed) -> list[Flaw]:
    def alert(quantity: str, reason: str, point: Point, measured: float, limit: float, unit: str) -> Flaw:
        return Flaw(quantity, reason, f"{need.collective} {point.name}", measured, limit, unit)

    slow = [alert("latency", "small messages take long", point, point.time_us, need.alert_us, "µs")
            for point in points if point.size_bytes <= need.small_bytes and point.time_us > need.alert_us]
    return slow + [alert("spread of the repeats", "they differ too much to show a dip", point, point.spread_percent,
                         need.max_dip_percent, "%")
                   for point in _judged(points, need) if point.spread_percent > need.max_dip_percent]


def _mode(in_place: bool) -> str:
    return "in place" if in_place else "out of place"


def _list(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks))
