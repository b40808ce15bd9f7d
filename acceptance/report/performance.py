"""The report's part on performance: how much of the physical limits was reached, as sentences, plots and tables.

It is made from the evidence again, by the same judgement as the checks; where something was not measured it is left
out here, as the findings say why.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from acceptance.errors import AcceptanceError
from acceptance.evidence import Evidence
from acceptance.facts import Cluster
from acceptance.judge import build_cluster
from acceptance.measure.curve import share_sentence
from acceptance.measure.documents import asked
from acceptance.measure.gate import BURN_IN, WORKLOADS, Given, burn_in_of
from acceptance.measure.gate_network import Collectives, collectives_of, training_of
from acceptance.measure.gpu_figures import FigureNeed, GpuFigures, gemm_needs, judge_figures, memcpy_needs
from acceptance.report.plot import Plot, Strip, busbw_plot, strips_plot
from acceptance.site.contract import Contract
from acceptance.site.inventory import Host
from acceptance.site.load import Site


@dataclass
class Performance:
    """What the report shows; empty where nothing was measured. With each of `sentences` stands whether what it says is
    as contracted; rows of `collectives` and `training` are texts."""

    sentences: list[tuple[str, bool]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    collectives: list[tuple[str, ...]] = field(default_factory=list)
    transport: list[tuple[str, str, str]] = field(default_factory=list)
    training: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.sentences or self.plots or self.training)


def performance(header: Mapping[str, Any], evidence: Evidence) -> Performance:
    """All of it. What cannot be read is left out."""
    found = Performance()
    if not (evidence.records(WORKLOADS) or evidence.records(BURN_IN)):
        return found
    try:
        given = _given(header, evidence)
    except (ValidationError, AcceptanceError, LookupError, TypeError):
        return found  # of an older contract: the findings are listed all the same
    for part in (_network, _training):
        with suppress(AcceptanceError):
            part(given, found)
    strips: list[Strip] = []
    for figures in (_gemm, _memcpy, _burn_in):
        with suppress(AcceptanceError):
            strips += figures(given)
    if any(strip.values for strip in strips):
        found.plots.append(strips_plot(strips))
    return found


def _given(header: Mapping[str, Any], evidence: Evidence) -> Given:
    contract = Contract.model_validate(header["contract"])
    hosts = tuple(Host(str(one["name"]), str(one["address"]), tuple(one["groups"])) for one in header["hosts"])
    site = Site(Path(str(header.get("site_file", ""))), contract, hosts)
    cluster: Cluster = build_cluster(site, evidence)
    return Given(site, evidence, cluster)


def _network(given: Given, found: Performance) -> None:
    document = given.document("allreduce", asked.allreduce)
    judged = collectives_of(given, document, given.places(document.ranks))
    curve, need = judged.main
    missed = f" The target of {need.target_busbw_gbyte_s:g} GB/s was missed." if curve.missed_target else ""
    found.sentences.append((share_sentence(curve, need) + missed, not curve.flaws))
    found.plots.append(busbw_plot(curve, need))
    found.collectives += _rows(judged)
    for node in sorted(judged.transport, key=lambda one: one.node):
        networks = ", ".join(f"{name}: {count}" for name, count in sorted(node.by_network.items())) or "none"
        inside = "" if not node.inside else f"{node.inside} inside the node"
        gpu_direct = f", {node.gpu_direct} by GPUDirect" if node.gpu_direct else ""
        found.transport.append((node.node, networks + gpu_direct, inside))


def _rows(judged: Collectives) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, (curve, need) in judged.curves.items():
        largest = [point for point in curve.points if point.size_bytes == max(need.sizes, default=0)]
        if largest:
            slow = min(largest, key=lambda point: point.busbw_gbyte_s)
            small = min(curve.points, key=lambda point: point.size_bytes).time_us
            rows.append((name, slow.name, f"{slow.busbw_gbyte_s:.3g} GB/s", f"{need.ceiling.value:.4g} GB/s",
                         f"{need.ceiling.share_percent(slow.busbw_gbyte_s):.0f} %",
                         f"{round(small, 1 if small < 100 else None):,} µs"))
    return rows


def _training(given: Given, found: Performance) -> None:
    document = given.document("ddp", asked.ddp)
    judged = training_of(given, document, given.places(document.ranks))
    wanted, results = given.site.contract.performance.training, document.results
    if judged.efficiency_percent is None:
        return
    found.sentences.append((
        f"Training over {len(document.ranks)} GPUs together reached {judged.efficiency_percent:.3g} % of what the same "
        f"GPUs reach each alone; at least {wanted.min_efficiency_percent:g} % is contracted.",
        not judged.flaws))
    found.training += [
        ("efficiency, all together over the sum of each alone", f"{judged.efficiency_percent:.3g} %"),
        ("tokens a second, each alone, summed", f"{sum(results.alone.tokens_per_s):,.0f}"),
        ("tokens a second, all together", f"{sum(results.together.tokens_per_s):,.0f}"),
        ("rate of computing of a GPU alone, 6 FLOP a parameter and token", f"{judged.tflops or 0:.3g} TFLOP/s"),
        ("parameters; tokens a step and GPU", f"{results.model.parameters:,}; {results.tokens:,}"),
        ("loss, first and last step", _loss(results.together.loss, document.arguments.warmups)),
    ]
    if judged.share is not None and judged.bounds_percent is not None:
        low, high = judged.bounds_percent
        found.training.append(("communication over computing; efficiency that it allows",
                               f"{judged.share:.3g}; {low:.0f} % without overlap, {high:.0f} % at best"))


def _loss(loss: list[list[float | None]], warmups: int) -> str:
    ends = [[mine[at] for mine in loss] for at in (warmups, -1)]
    return " to ".join(f"{median(value for value in one if value is not None):.4g}" if any(
        value is not None for value in one) else "no number" for one in ends)


def _strip(name: str, judged: GpuFigures, need: FigureNeed) -> Strip:
    bad = frozenset(flaw.subject for flaw in judged.flaws)
    off = frozenset(gpu for gpu in judged.medians if gpu in bad or gpu.partition("/")[0] in bad)
    return Strip(name, need.unit, dict(judged.medians), off, need.floor, need.ceiling.value)


def _gemm(given: Given) -> list[Strip]:
    document = given.document("gemm", asked.gemm)
    places, needs = given.places(document.ranks), gemm_needs(given.site.contract, given.limits, given.nodes)
    return [_strip(need.quantity, judge_figures(places.by_gpu([tuple(each) for each in row.tflops]), need), need)
            for row in document.results.rows if (need := needs.get(row.dtype))]


def _memcpy(given: Given) -> list[Strip]:
    document = given.document("memcpy", asked.memcpy)
    places, needs = given.places(document.ranks), memcpy_needs(given.site.contract, given.limits, given.nodes)
    return [_strip(need.quantity + (f" {row.peer_offset} apart" if row.peer_offset else ""),
                   judge_figures(places.by_gpu([tuple(each) for each in row.gbyte_s]), need), need)
            for row in document.results.rows if (need := needs.get(row.kind))]


def _burn_in(given: Given) -> list[Strip]:
    document = given.document("burnin", asked.burnin)
    judged = burn_in_of(given, document, given.places(document.ranks))
    bad = frozenset(flaw.subject for flaw in judged.flaws)
    limit = given.site.contract.gpu.max_loaded_temperature_c
    heat = {one.subject: one.temperature_c for one in judged.gpus if one.temperature_c is not None}
    return [Strip("burn-in, median", "TFLOP/s", {one.subject: one.tflops for one in judged.gpus}, bad, None, None),
            Strip("burn-in, hottest", "°C", heat, bad, limit, None, "at most")]
