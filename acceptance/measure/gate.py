"""The performance gate: its criteria judged by what the workloads wrote, beside the physical limits.

What is wrong is told flaw by flaw; what holds is told too, with the value and the limit that it was held against. This
module has what all share, and what concerns GPUs one by one; `gate_network.py` has what goes over the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from acceptance.errors import ParseError, Unmeasured
from acceptance.evidence import Evidence
from acceptance.facts import Cluster
from acceptance.findings import Findings
from acceptance.measure.burn_in import BurnIn, burn_in_need, judge_burn_in
from acceptance.measure.ceilings import Ceiling
from acceptance.measure.documents import asked
from acceptance.measure.documents.frame import Document, Rank
from acceptance.measure.documents.gpus import BurninDocument
from acceptance.measure.flaws import Flaw, tell
from acceptance.measure.gpu_figures import FigureNeed, GpuFigures, gemm_needs, judge_figures, memcpy_needs
from acceptance.measure.limits import GPU_NODES, Limits, limits_of
from acceptance.measure.places import Places, places_of
from acceptance.measure.results import version_flaws
from acceptance.measure.workload_run import run_flaws, run_record
from acceptance.site.load import Site

D = TypeVar("D", bound=Document)
WORKLOADS, BURN_IN = "kube-workloads", "kube-burn-in"
COLLECTOR = {"burnin": BURN_IN}


@dataclass(frozen=True)
class Given:
    """What the gate is judged by."""

    site: Site
    evidence: Evidence
    cluster: Cluster

    @property
    def nodes(self) -> list[str]:
        """All GPU nodes."""
        return [host.name for host in self.site.group(GPU_NODES)]

    @property
    def limits(self) -> Limits:
        """The physical ceilings that follow from the contract."""
        return limits_of(self.site.contract)

    def places(self, ranks: Sequence[Rank]) -> Places:
        """Where the ranks ran. Raises Unmeasured."""
        return places_of(ranks, self.cluster, self.nodes, self.site.contract.gpu.count)

    def record(self, workload: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What was recorded of a workload, and the ids of that and of its run. Raises Unmeasured."""
        collector = COLLECTOR.get(workload, WORKLOADS)
        found = self.evidence.one(collector, f"document/{workload}")
        if not isinstance(found.document, dict) or not isinstance(found.document.get("run"), str):
            raise Unmeasured(f"{workload}: the record of {collector} is not what the collector writes")
        return found.document, (found.id, self.evidence.one(collector, found.document["run"]).id)

    def document(self, workload: str, read: Callable[[Any, str], D]) -> D:
        """The workload's document. Raises Unmeasured, ParseError."""
        record, _ = self.record(workload)
        if "error" in record or not isinstance(record.get("text"), str):
            raise Unmeasured(str(record.get("error") or f"{workload}: there is no document"))
        return read(self.site.contract, record["text"])

    def run_flaws(self, workload: str) -> list[Flaw]:
        """What went wrong with a workload's run. Raises Unmeasured."""
        record, _ = self.record(workload)
        collector = COLLECTOR.get(workload, WORKLOADS)
        return run_flaws(run_record(self.evidence.one(collector, record["run"]).document))


def started(given: Given, workload: str, read: Callable[[Any, str], D], findings: Findings) -> tuple[D, Places] | None:
    """A workload's document and its ranks' places; where there is none, everything that is known of why not."""
    record, findings.evidence = given.record(workload)
    try:
        document = given.document(workload, read)
    except Unmeasured as problem:
        tell(findings, given.run_flaws(workload))
        findings.blocked("document" if isinstance(problem, ParseError) or "error" not in record else "result",
                         str(problem), subject=workload)
        return None
    tell(findings, [flaw for flaw in given.run_flaws(workload) if _alone(given, workload)])
    places = given.places(document.ranks)
    tell(findings, (*places.flaws, *version_flaws(document.ranks)))
    findings.equal("ranks that tell of themselves", measured=len(document.ranks),
                   required=len(given.nodes) * given.site.contract.gpu.count, subject=workload)
    return document, places


def _alone(given: Given, workload: str) -> bool:
    """Whether a run's failure, although there is a document, can be no other workload's."""
    run = run_record(given.evidence.one(COLLECTOR.get(workload, WORKLOADS), given.record(workload)[0]["run"]).document)
    return all("text" in given.record(each)[0] for each in run.workloads)


def judge_gemm(given: Given, findings: Findings) -> None:
    """Matrix products: rate by data type on every GPU, and right results."""
    if (found := started(given, "gemm", asked.gemm, findings)) is None:
        return
    document, places = found
    for dtype, need in gemm_needs(given.site.contract, given.limits, given.nodes).items():
        rows = [row for row in document.results.rows if row.dtype == dtype]
        for row in rows:
            tell(findings, wrong_products(row.wrong, row.wrong_rows, row.differing, dtype, places))
        repeats = places.by_gpu([tuple(values) for values in rows[0].tflops]) if rows else {}
        tell_figures(findings, judge_figures(repeats, need), need)


def wrong_products(wrong: Sequence[int], wrong_rows: Sequence[int], differing: Sequence[int], dtype: str,
                   places: Places) -> list[Flaw]:
    """A flaw for each rank whose product is wrong, or differs from one repeat to another."""
    flaws = []
    for rank, counts in enumerate(zip(wrong, wrong_rows, differing, strict=True)):
        for count, what in zip(counts, ("elements against float64", "rows against float64",
                                        "elements between repeats"), strict=True):
            if count:
                flaws.append(Flaw(f"{dtype} GEMM, wrong {what}", f"rank {rank}: the result is wrong",
                                  places.subject(rank), count, 0))
    return flaws


def judge_memcpy(given: Given, findings: Findings) -> None:
    """Copies of every GPU: rate by kind, and right bytes."""
    if (found := started(given, "memcpy", asked.memcpy, findings)) is None:
        return
    document, places = found
    for kind, need in memcpy_needs(given.site.contract, given.limits, given.nodes).items():
        rows = [row for row in document.results.rows if row.kind == kind]
        if not rows and kind != "peer":
            tell_figures(findings, judge_figures({}, need), need)
        for row in rows:
            named = need if row.peer_offset is None else replace(
                need, quantity=f"{need.quantity} {row.peer_offset} apart")
            tell(findings, [Flaw(f"{named.quantity}, wrong bytes", f"rank {rank}: what arrived is not what was sent",
                                 places.subject(rank), count, 0) for rank, count in enumerate(row.wrong) if count])
            tell_figures(findings, judge_figures(places.by_gpu([tuple(each) for each in row.gbyte_s]), named), named)


def tell_figures(findings: Findings, judged: GpuFigures, need: FigureNeed) -> None:
    """Every flaw; and for each GPU without one its median, the highest beside the ceiling."""
    tell(findings, judged.flaws)
    flawed = {flaw.subject for flaw in judged.flaws}
    for subject, value in judged.medians.items():
        if subject not in flawed and need.floor is not None:
            findings.at_least(need.quantity, measured=value, required=need.floor, subject=subject, unit=need.unit)
    within = [value for subject, value in judged.medians.items() if subject not in flawed]
    if within:
        tell_below(findings, f"{need.quantity}, highest, against its physical limit", max(within), need.ceiling,
                   need.ceiling_tolerance_percent)


def tell_below(findings: Findings, quantity: str, value: float, ceiling: Ceiling, tolerance_percent: float,
               subject: str | None = None) -> None:
    """A figure that lies below its ceiling; one above it is told as a flaw by who judged it."""
    if not ceiling.exceeded(value, tolerance_percent):
        findings.holds(quantity, True, measured=value, required=ceiling.value, relation="≤", unit=ceiling.unit,
                       subject=subject)


def judge_burnin(given: Given, findings: Findings) -> None:
    """The burn-in: results, speed, clock, temperature, memory errors of every GPU."""
    if (found := started(given, "burnin", asked.burnin, findings)) is None:
        return
    document, places = found
    judged = burn_in_of(given, document, places)
    tell(findings, judged.flaws)
    flawed, wanted = {flaw.subject for flaw in judged.flaws}, given.site.contract
    for one in judged.gpus:
        if one.subject not in flawed and one.temperature_c is not None and one.clock_drop_percent is not None:
            findings.at_most("temperature under load", measured=one.temperature_c, unit="°C", subject=one.subject,
                             required=wanted.gpu.max_loaded_temperature_c)
            findings.at_most("drop of the clock", measured=one.clock_drop_percent, unit="%", subject=one.subject,
                             required=wanted.performance.burn_in.max_clock_drop_percent)
    if not judged.flaws:
        findings.at_least("hours of load", measured=document.results.asked_seconds / 3600, unit="h",
                          required=asked.burn_in_seconds(wanted) / 3600)


def burn_in_of(given: Given, document: BurninDocument, places: Places) -> BurnIn:
    """The judged burn-in; its ceiling is the peak of its data type."""
    peak = given.limits.peak
    ceiling = peak.get(document.results.dtype) or max(peak.values(), key=lambda one: one.value)
    return judge_burn_in(document, places, burn_in_need(given.site.contract, given.nodes, ceiling))
