"""One figure of every GPU, measured several times: complete, above its floor, below its ceiling, like its peers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from acceptance.errors import Unmeasured
from acceptance.measure.ceilings import Ceiling
from acceptance.measure.flaws import Flaw
from acceptance.measure.limits import Limits
from acceptance.measure.slow_gpus import SlowGpus, gpu_subject, judge_gpus
from acceptance.site.contract import Contract

Repeats = Mapping[str, Mapping[int, Sequence[float]]]
"""By node and GPU, a value a repeat."""


@dataclass(frozen=True)
class FigureNeed:
    """What is measured ("bf16 GEMM") in which unit. `floor` None: the contract has none, peers are compared only."""

    quantity: str
    unit: str
    nodes: Mapping[str, int]
    repeats: int
    floor: float | None
    ceiling: Ceiling
    tolerance_percent: float
    ceiling_tolerance_percent: float


@dataclass(frozen=True)
class GpuFigures:
    """Medians by GPU, and every flaw; `compared` is None where too few could be compared."""

    medians: Mapping[str, float]
    compared: SlowGpus | None
    flaws: tuple[Flaw, ...]


def gemm_needs(contract: Contract, limits: Limits, nodes: Iterable[str]) -> dict[str, FigureNeed]:
    """What matrix products must reach, by data type; of types without a floor, the contract asks nothing."""
    work, gpus = contract.performance, dict.fromkeys(nodes, contract.gpu.count)
    return {dtype: FigureNeed(f"{dtype} GEMM", "TFLOP/s", gpus, work.gemm.repeats, least, limits.peak[dtype],
                              work.peers_tolerance_percent, work.ceiling_tolerance_percent)
            for dtype, least in work.gemm.floors.items()}


def memcpy_needs(contract: Contract, limits: Limits, nodes: Iterable[str]) -> dict[str, FigureNeed]:
    """What copies must reach: "host-device", "device-host", "device-device" and "peer"; without GPUs "host-host"."""
    work, link = contract.performance, limits.host_device
    wanted = work.memcpy
    gpus = dict.fromkeys(nodes, contract.gpu.count)
    kinds: tuple[tuple[str, str, float | None, Ceiling], ...] = (
        ("host-device", "copy from host to GPU", wanted.min_host_to_device_gbyte_s, link),
        ("device-host", "copy from GPU to host", wanted.min_device_to_host_gbyte_s, link),
        ("device-device", "copy within the GPU", wanted.min_device_gbyte_s, limits.device_memory),
        ("peer", "copy between GPUs", wanted.min_peer_gbyte_s, link))
    if work.pods.device == "cpu":
        kinds = (("host-host", "copy within the host", wanted.min_host_gbyte_s, limits.host_memory),)
    return {kind: FigureNeed(quantity, "GB/s", gpus, wanted.repeats, least, ceiling, work.peers_tolerance_percent,
                             work.ceiling_tolerance_percent) for kind, quantity, least, ceiling in kinds}


def judge_figures(repeats: Repeats, need: FigureNeed) -> GpuFigures:
    """Each GPU by its median over the repeats; a single repeat beyond the ceiling is an error all the same."""
    flaws: list[Flaw] = []
    medians: dict[str, dict[int, float]] = {}
    for node, count in need.nodes.items():
        for gpu in range(count):
            values = list(repeats.get(node, {}).get(gpu, ()))
            flaws += _one(values, gpu_subject(node, gpu), need)
            if values and all(math.isfinite(value) for value in values):
                medians.setdefault(node, {})[gpu] = median(values)
    flaws += [Flaw(need.quantity, "a GPU that the contract does not have", gpu_subject(node, gpu))
              for node, gpus in repeats.items() for gpu in gpus if gpu not in range(need.nodes.get(node, 0))]
    compared = None
    try:
        compared = judge_gpus(medians, tolerance_percent=need.tolerance_percent, nodes=need.nodes)
    except Unmeasured as error:
        flaws.append(Flaw(f"{need.quantity} against peers", str(error), unjudged=True))
    if compared:
        middle = compared.peers.median
        flaws += [Flaw(f"{need.quantity} against peers", part.sentence(need.quantity, need.unit, middle), part.subject,
                       part.value, middle, need.unit) for part in compared.parts]
        if compared.peers.scattered:
            flaws.append(Flaw(f"{need.quantity} against peers", "the GPUs have no common value",
                              measured=compared.peers.spread, required=compared.peers.limit, unit=need.unit))
    return GpuFigures({gpu_subject(node, gpu): value for node, gpus in medians.items() for gpu, value in gpus.items()},
                      compared, tuple(flaws))


def _one(values: Sequence[float], subject: str, need: FigureNeed) -> list[Flaw]:
    if len(values) < need.repeats:
        return [Flaw(f"repeats of {need.quantity}", "not measured" if not values else "repeats missing", subject,
                     len(values), need.repeats)]
    if not all(math.isfinite(value) for value in values):
        return [Flaw(need.quantity, "not all repeats are numbers", subject, unjudged=True)]
    flaws = []
    if need.ceiling.exceeded(max(values), need.ceiling_tolerance_percent):
        flaws.append(Flaw(f"{need.quantity} beyond its ceiling", f"the measurement is wrong: {need.ceiling.derivation}",
                          subject, max(values), need.ceiling.value, need.unit))
    if median(values) <= 0 or (need.floor is not None and median(values) < need.floor):
        share = need.ceiling.share_percent(median(values))
        flaws.append(Flaw(need.quantity, f"too slow: {share:.0f} % of the physical {need.ceiling.value:.4g}", subject,
                          median(values), need.floor, need.unit))
    return flaws


def clock_drop_percent(clocks_mhz: Sequence[float]) -> float:
    """How far the median clock of the last tenth lies below that of the first. Raises Unmeasured for under ten values.

    The first tenth counts, and not the highest value, because a cold GPU boosts for moments.
    """
    if len(clocks_mhz) < 10 or not all(math.isfinite(clock) and clock > 0 for clock in clocks_mhz):
        raise Unmeasured(f"{len(clocks_mhz)} samples of the clock: it takes ten that are numbers above 0")
    tenth = len(clocks_mhz) // 10
    first, last = median(clocks_mhz[:tenth]), median(clocks_mhz[-tenth:])
    return 100 * (first - last) / first
