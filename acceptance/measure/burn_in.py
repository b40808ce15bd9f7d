"""A burn-in judged: every GPU worked for the whole time, rightly, as fast at its end as at its beginning, and cool.

Speed has no floor of its own here, because comparing results is within the time; GPUs are compared with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from acceptance.errors import Unmeasured
from acceptance.measure.ceilings import Ceiling
from acceptance.measure.documents.gpus import BurninDocument, Iterations, Samples
from acceptance.measure.flaws import Flaw
from acceptance.measure.gpu_figures import FigureNeed, GpuFigures, clock_drop_percent, judge_figures
from acceptance.measure.gpus import slowdowns
from acceptance.measure.places import Places
from acceptance.site.contract import Contract

SPEED = "burn-in"
SENSORS = ("sm_clock_mhz", "temperature_c", "power_w", "throttle_reasons")


@dataclass(frozen=True)
class BurnInNeed:
    """What the contract asks of every GPU; `nodes` are all nodes and how many GPUs each has."""

    nodes: Mapping[str, int]
    max_clock_drop_percent: float
    max_temperature_c: float
    max_corrected: int
    tolerance_percent: float
    ceiling_tolerance_percent: float
    peak: Ceiling


@dataclass(frozen=True)
class Worked:
    """What one GPU did: medians of its speed and clock, the highest temperature, how far the clock dropped."""

    subject: str
    tflops: float
    sm_clock_mhz: float | None
    clock_drop_percent: float | None
    temperature_c: float | None
    power_w: float | None


@dataclass(frozen=True)
class BurnIn:
    """The judged burn-in."""

    gpus: tuple[Worked, ...]
    figures: GpuFigures
    flaws: tuple[Flaw, ...]


def burn_in_need(contract: Contract, nodes: Sequence[str], peak: Ceiling) -> BurnInNeed:
    """What the contract asks of a burn-in of these nodes."""
    work, gpu = contract.performance, contract.gpu
    return BurnInNeed(dict.fromkeys(nodes, gpu.count), work.burn_in.max_clock_drop_percent,
                      gpu.max_loaded_temperature_c, gpu.max_corrected_volatile, work.peers_tolerance_percent,
                      work.ceiling_tolerance_percent, peak)


def judge_burn_in(document: BurninDocument, places: Places, need: BurnInNeed) -> BurnIn:
    """Every flaw, and what each GPU did."""
    results, flaws, gpus = document.results, list[Flaw](), list[Worked]()
    if results.cut_short:
        flaws.append(Flaw("burn-in", f"it did not last as long as contracted: {results.cut_short}",
                          required=results.asked_seconds, unit="s"))
    for place in places.each:
        at, subject = place.rank, place.subject
        flaws += _products(results.iterations[at], results.reference[at].wrong, subject, at)
        flaws += _memory(results.ecc_before[at], results.ecc_after[at], need, subject)
        reason = results.telemetry[at].reason
        more, one = _sensors(results.samples[at], reason, results.iterations[at], need, subject)
        flaws += more
        gpus.append(one)
    figures = judge_figures(places.by_gpu([tuple(each.tflops) for each in results.iterations]), FigureNeed(
        SPEED, "TFLOP/s", need.nodes, 1, None, need.peak, need.tolerance_percent, need.ceiling_tolerance_percent))
    return BurnIn(tuple(gpus), figures, (*flaws, *figures.flaws))


def _products(found: Iterations, wrong: int, subject: str, rank: int) -> list[Flaw]:
    flaws = []
    if wrong:
        flaws.append(Flaw("wrong elements", f"rank {rank}: the first product is wrong against float64", subject, wrong,
                          0))
    bad = [at for at, count in zip(found.at_s, found.wrong, strict=True) if count]
    if bad:
        flaws.append(Flaw("wrong elements", f"rank {rank}: products differ from the first, from second {bad[0]:.0f} on",
                          subject, sum(found.wrong), 0))
    if not found.at_s:
        flaws.append(Flaw("burn-in", f"rank {rank} did nothing", subject, unjudged=True))
    return flaws


def _memory(before: Mapping[str, int | None], after: Mapping[str, int | None], need: BurnInNeed,
            subject: str) -> list[Flaw]:
    flaws = []
    for name, allowed in (("uncorrected_volatile", 0), ("corrected_volatile", need.max_corrected)):
        first, last = before.get(name), after.get(name)
        if first is None or last is None:
            flaws.append(Flaw(f"{name.replace('_volatile', '')} memory errors", "NVML did not count them", subject,
                              required=allowed, unjudged=True))
        elif last - first > allowed or last < first:
            flaws.append(Flaw(f"{name.replace('_volatile', '')} memory errors", "they grew under load", subject,
                              last - first, allowed))
    return flaws


def _sensors(samples: Samples, reason: str | None, work: Iterations, need: BurnInNeed,
             subject: str) -> tuple[list[Flaw], Worked]:
    speed = median(work.tflops) if work.tflops else 0.0
    if reason:
        return ([Flaw("sensors", f"they were not read: {reason}", subject, unjudged=True)],
                Worked(subject, speed, None, None, None, None))
    flaws = [Flaw("sensors", f"no {name} was read at some moment", subject, unjudged=True)
             for name in SENSORS if not getattr(samples, name) or None in getattr(samples, name)]
    heat = max((value for value in samples.temperature_c if value is not None), default=None)
    if heat is not None and heat > need.max_temperature_c:
        flaws.append(Flaw("temperature under load", "too hot", subject, heat, need.max_temperature_c, "°C"))
    bits = 0
    for value in samples.throttle_reasons:
        bits |= value or 0
    flaws += [Flaw("hardware slowdown", "the GPU slowed itself down under load", subject, name, "none")
              for name in slowdowns(bits)]
    clocks = [float(value) for value in samples.sm_clock_mhz if value is not None]
    drop = None
    try:
        drop = clock_drop_percent(clocks)
        if drop > need.max_clock_drop_percent:
            flaws.append(Flaw("drop of the clock", "from the first tenth to the last", subject, drop,
                              need.max_clock_drop_percent, "%"))
    except Unmeasured as problem:
        flaws.append(Flaw("drop of the clock", str(problem), subject, unjudged=True))
    power = [value for value in samples.power_w if value is not None]
    return flaws, Worked(subject, speed, median(clocks) if clocks else None, drop, heat,
                         median(power) if power else None)
