"""The workloads' documents as what is judged: rows of bandwidth, figures of GPUs, a training run, a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean, median

from acceptance.measure.collectives import CollectiveRow
from acceptance.measure.curve import CurveNeed
from acceptance.measure.documents.collectives import NEVER, AllreduceDocument, Placement
from acceptance.measure.documents.collectives import Collective as Name
from acceptance.measure.documents.collectives import CollectiveRow as Measured
from acceptance.measure.documents.frame import Rank, Versions
from acceptance.measure.documents.training import DdpDocument
from acceptance.measure.flaws import Flaw
from acceptance.measure.places import Places
from acceptance.measure.training import RankTraining, TrainingRun
from acceptance.measure.transport import TransportNeed


def modes_of(collective: Name) -> tuple[bool, ...]:
    """The ways in which a collective is measured: out of place (False), in place (True)."""
    ways: tuple[tuple[Placement, bool], ...] = (("out_of_place", False), ("in_place", True))
    return tuple(in_place for placement, in_place in ways if (collective, placement) not in NEVER)


def collective_rows(document: AllreduceDocument, collective: Name) -> list[CollectiveRow]:
    """Each repeat of each size. Wrong elements, which are counted over all repeats, stand in the first."""
    return [one for row in document.results.rows if row.collective == collective for one in _repeats(row)]


def _repeats(row: Measured) -> Iterable[CollectiveRow]:
    wrong = tuple(rank for rank, count in enumerate(row.wrong) if count)
    for repeat, (algbw, busbw) in enumerate(zip(row.algbw_gbyte_s, row.busbw_gbyte_s, strict=True)):
        slowest = max(seconds[repeat] for seconds in row.seconds)
        yield CollectiveRow(row.bytes, row.placement == "in_place", slowest * 1e6, algbw, busbw,
                            0 if repeat else sum(row.wrong), len(row.seconds), repeat, () if repeat else wrong)


def sizes_used(document: AllreduceDocument, need: CurveNeed, collective: Name) -> CurveNeed:
    """The need with the sizes that whole elements for each rank give; those too small for any are none."""
    width = {"float32": 4, "int32": 4, "float16": 2, "bfloat16": 2}[document.arguments.dtype]
    used = (document.arguments.elements(collective, size, len(document.ranks)) * width for size in need.sizes)
    return replace(need, sizes=tuple(dict.fromkeys(size for size in used if size)))


def late_us(document: AllreduceDocument, places: Places, up_to_bytes: int) -> dict[str, dict[int, float]]:
    """How long each rank works before an all_reduce of these sizes: the median, by node and GPU.

    Of small sizes, where that is next to nothing: of large ones, GPUs of a speed would differ by more than a late rank.
    """
    rows = [row for row in document.results.rows if row.collective == "all_reduce" and row.bytes <= up_to_bytes]
    times = [[1e6 * value for row in rows for value in row.arrive_seconds[rank]] for rank in range(len(document.ranks))]
    return places.by_gpu([median(values) if values else math.nan for values in times])


def transport_need(document: AllreduceDocument, network: str, gpu_direct: bool) -> TransportNeed:
    """Which ranks must tell of their channels, by the name of the host that they run on."""
    ranks: dict[str, set[int]] = {}
    for rank in document.ranks:
        ranks.setdefault(rank.host, set()).add(rank.rank)
    nodes = {rank.host: rank.node or rank.host for rank in document.ranks}
    return TransportNeed({host: frozenset(mine) for host, mine in ranks.items()}, nodes, network, gpu_direct)


def logs_of(document: AllreduceDocument) -> tuple[str, list[Flaw]]:
    """The debug logs of all ranks as one text, and a flaw for each node where some are missing or cut."""
    missing: dict[str, list[int]] = {}
    cut: dict[str, list[int]] = {}
    for rank, log in zip(document.ranks, document.results.nccl_logs, strict=True):
        if log is None:
            missing.setdefault(rank.node or rank.host, []).append(rank.rank)
        elif log.truncated:
            cut.setdefault(rank.node or rank.host, []).append(rank.rank)
    flaws = [Flaw("debug log", f"ranks {_list(ranks)} have none: nothing proves how they talked", node, unjudged=True)
             for node, ranks in missing.items()]
    flaws += [Flaw("debug log", f"of ranks {_list(ranks)} only the beginning is there", node, unjudged=True)
              for node, ranks in cut.items()]
    return "\n".join(log.text for log in document.results.nccl_logs if log), flaws


def training_run(document: DdpDocument, places: Places) -> TrainingRun:
    """The run with all ranks together beside each alone; the loss is the mean over ranks, warm-up left out."""
    results, warmups = document.results, document.arguments.warmups
    ranks = [RankTraining(place.rank, place.node, place.gpu,
                          tuple(results.tokens / each for each in results.alone.seconds[place.rank]),
                          tuple(results.tokens / each for each in results.together.seconds[place.rank]),
                          (results.replicas.start[place.rank], results.replicas.end[place.rank]))
             for place in places.each]
    steps = zip(*(loss[warmups:] for loss in results.together.loss), strict=True)
    losses = tuple(fmean(math.nan if value is None else value for value in step) for step in steps)
    return TrainingRun(tuple(ranks), losses, results.model.parameters, results.gradient_bytes, results.tokens)


def version_flaws(ranks: Sequence[Rank]) -> list[Flaw]:
    """Software that is not the same on all ranks: who differs from most."""
    flaws = []
    for name in Versions.model_fields:
        values = [str(getattr(rank.versions, name)) for rank in ranks]
        common = max(set(values), key=lambda value: (values.count(value), value))
        nodes = sorted({rank.node or rank.host for rank, value in zip(ranks, values, strict=True) if value != common})
        flaws += [Flaw(f"version of {name}", "differs from the others", node, _of(ranks, node, name), common)
                  for node in nodes]
    return flaws


def _of(ranks: Sequence[Rank], node: str, name: str) -> str:
    return ", ".join(sorted({str(getattr(rank.versions, name)) for rank in ranks if (rank.node or rank.host) == node}))


def _list(ranks: Iterable[int]) -> str:
    return ", ".join(map(str, ranks))
