"""The performance gate, what goes over the network: collectives over all GPUs, and training over all GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from acceptance.errors import ParseError, Unmeasured
from acceptance.findings import Findings
from acceptance.measure.collectives import size_text
from acceptance.measure.curve import Curve, CurveNeed, Point, curve_need, judge_curve
from acceptance.measure.documents import asked
from acceptance.measure.documents.collectives import AllreduceDocument, Collective
from acceptance.measure.documents.training import DdpDocument
from acceptance.measure.flaws import Flaw, tell
from acceptance.measure.gate import Given, started, tell_below
from acceptance.measure.nccl_log import parse_nccl_log
from acceptance.measure.places import Places
from acceptance.measure.results import (
    collective_rows,
    late_us,
    logs_of,
    modes_of,
    sizes_used,
    training_run,
    transport_need,
)
from acceptance.measure.slow_gpus import judge_lateness
from acceptance.measure.training import Training, judge_training, training_need
from acceptance.measure.transport import NodeTransport, judge_transport


@dataclass(frozen=True)
class Collectives:
    """Every collective's curve with what it had to show, all_reduce first; the transport by node; and other flaws."""

    curves: Mapping[str, tuple[Curve, CurveNeed]]
    transport: tuple[NodeTransport, ...]
    flaws: tuple[Flaw, ...]

    @property
    def main(self) -> tuple[Curve, CurveNeed]:
        """That of all_reduce."""
        return self.curves["all_reduce"]


def collectives_of(given: Given, document: AllreduceDocument, places: Places) -> Collectives:
    """The judged collectives. Raises Unmeasured."""
    contract, wanted = given.site.contract, given.site.contract.performance.collectives
    names: list[Collective] = ["all_reduce", *wanted.others]
    curves: dict[str, tuple[Curve, CurveNeed]] = {}
    for name in names:
        need = sizes_used(document, curve_need(contract, given.limits, name, modes_of(name)), name)
        curves[name] = (judge_curve(collective_rows(document, name), need), need)
    text, flaws = logs_of(document)
    transport: list[NodeTransport] = []
    if text.strip():
        need_transport = transport_need(document, wanted.network, wanted.gpu_direct)
        try:
            log = parse_nccl_log(text, list(need_transport.ranks))
            transport, more = judge_transport(log, need_transport)
            flaws += more
        except ParseError as problem:
            flaws.append(Flaw("debug log", str(problem), unjudged=True))
    elif not flaws:
        flaws.append(Flaw("debug log", "there is none: nothing proves how the ranks talked", unjudged=True))
    return Collectives(curves, tuple(transport), (*flaws, *_late(given, document, places)))


def _late(given: Given, document: AllreduceDocument, places: Places) -> list[Flaw]:
    work = given.site.contract.performance
    figures = late_us(document, places, work.collectives.small_bytes)
    try:
        found = judge_lateness(figures, floor_us=work.late_floor_us,
                               nodes=dict.fromkeys(given.nodes, given.site.contract.gpu.count))
    except Unmeasured as problem:
        return [Flaw("time before a collective", str(problem), unjudged=True)]
    flaws = [Flaw("time before a collective", part.sentence("own work", "µs", found.peers.median), part.subject,
                  part.value, found.peers.median + found.peers.limit, "µs") for part in found.parts]
    if found.peers.scattered:
        flaws.append(Flaw("time before a collective", "the ranks have no common value", measured=found.peers.spread,
                          required=found.peers.limit, unit="µs"))
    return flaws


def judge_allreduce(given: Given, findings: Findings) -> None:
    """Collectives over all GPUs: bandwidth, results, transport, and who comes late."""
    if (found := started(given, "allreduce", asked.allreduce, findings)) is None:
        return
    document, places = found
    judged = collectives_of(given, document, places)
    tell(findings, (*judged.flaws, *_wrong_ranks(document, places)))
    for name, (curve, need) in judged.curves.items():
        tell(findings, (flaw for flaw in curve.flaws if flaw.quantity != "wrong elements" or flaw.measured is None))
        flawed = {flaw.subject for flaw in curve.flaws}
        for point in curve.points:
            if need.min_busbw_gbyte_s and _counts(point, need) and f"{name} {point.name}" not in flawed:
                findings.at_least("busbw", measured=point.busbw_gbyte_s, required=need.min_busbw_gbyte_s, unit="GB/s",
                                  subject=f"{name} {point.name}")
        if curve.points:
            highest = max(point.highest_gbyte_s for point in curve.points)
            tell_below(findings, "highest busbw, against its physical limit", highest, need.ceiling,
                       need.ceiling_tolerance_percent, name)
    _tell_transport(judged, findings, given.site.contract.performance.collectives.network)


def _counts(point: Point, need: CurveNeed) -> bool:
    return point.size_bytes >= need.threshold_from_bytes


def _wrong_ranks(document: AllreduceDocument, places: Places) -> list[Flaw]:
    """A flaw for each rank with wrong results, whatever the collective and size."""
    flaws = []
    for place in places.each:
        bad = [row for row in document.results.rows if row.wrong[place.rank]]
        if bad:
            more = f" and {len(bad) - 1} other cases" if len(bad) > 1 else ""
            flaws.append(Flaw("wrong elements", f"rank {place.rank}: the result of {bad[0].collective} "
                              f"{size_text(bad[0].bytes)}{more} is wrong", place.subject,
                              sum(row.wrong[place.rank] for row in bad), 0))
    return flaws


def _tell_transport(judged: Collectives, findings: Findings, network: str) -> None:
    flawed = {flaw.subject for flaw in judged.flaws}
    for node in judged.transport:
        if node.node not in flawed and node.by_network:
            findings.holds("network of its channels", True, measured=", ".join(
                f"{name}: {count}" for name, count in sorted(node.by_network.items())), required=network,
                relation="over", subject=node.node)


def judge_ddp(given: Given, findings: Findings) -> None:
    """Training over all GPUs: loss, replicas, efficiency, stragglers."""
    if (found := started(given, "ddp", asked.ddp, findings)) is None:
        return
    document, places = found
    judged = training_of(given, document, places)
    tell(findings, (_named(flaw, places) for flaw in judged.flaws))
    wanted = given.site.contract.performance.training
    quantities = {flaw.quantity for flaw in judged.flaws}
    if judged.efficiency_percent is not None and not quantities & {"efficiency", "efficiency beyond 100 %"}:
        findings.at_least("efficiency", measured=judged.efficiency_percent, required=wanted.min_efficiency_percent,
                          unit="%", subject="training")
    if "replicas" not in quantities:
        findings.equal("replicas with equal parameters", measured=len(document.ranks), required=len(document.ranks),
                       subject="training")


def training_of(given: Given, document: DdpDocument, places: Places) -> Training:
    """The judged training, beside the busbw that all_reduce reached in the same run. Raises Unmeasured."""
    busbw = _busbw(given)
    need = training_need(given.site.contract, given.limits, given.nodes, busbw)
    return judge_training(training_run(document, places), need)


def _busbw(given: Given) -> float:
    """What all_reduce reached where it counts. Raises Unmeasured."""
    try:
        document = given.document("allreduce", asked.allreduce)
    except Unmeasured as problem:
        raise Unmeasured(f"the busbw of all_reduce, by which training is judged, is not known: {problem}") from None
    need = sizes_used(document, curve_need(given.site.contract, given.limits, "all_reduce"), "all_reduce")
    weakest = judge_curve(collective_rows(document, "all_reduce"), need).weakest
    if weakest is None or not weakest.busbw_gbyte_s > 0:
        raise Unmeasured("the busbw of all_reduce, by which training is judged, was not measured")
    return weakest.busbw_gbyte_s


def _named(flaw: Flaw, places: Places) -> Flaw:
    """A flaw of a rank is told of its GPU."""
    word, _, number = flaw.subject.partition(" ")
    if word == "rank" and number.isdigit() and int(number) < len(places.each):
        return replace(flaw, subject=places.subject(int(number)), reason=f"{flaw.subject}: {flaw.reason}")
    return flaw
