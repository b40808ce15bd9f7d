"""A training run over all GPUs: every rank there, loss falling, replicas equal, efficient enough, nobody holding it up.

With N parameters, b bytes of gradient each, τ tokens a step and rank, n ranks, and t tokens a second of one rank alone:
computing takes Tc = τ / t, and at 6 N FLOP a token the rank reaches F = 6 N t. The gradients' all_reduce takes
Tm = b · N · f / busbw with f = 2(n − 1)/n. The communication share is r = Tm / Tc = b · f · F / (6 · τ · busbw), in
which N cancels. Without overlap the efficiency is 1/(1 + r); the backward pass, 2/3 of computing, can hide as much, so
that it is 1/(1 + max(0, r − 2/3)) at best; with a share η hidden, 1/(1 + (1 − η) r).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from acceptance.errors import Unmeasured
from acceptance.measure.ceilings import Ceiling
from acceptance.measure.collectives import bus_factor
from acceptance.measure.flaws import Flaw
from acceptance.measure.limits import Limits
from acceptance.measure.peers import SIGMA
from acceptance.measure.slow_gpus import SlowGpus, judge_gpus
from acceptance.site.contract import Contract

RUN = "training"
BACKWARD = 2 / 3  # of computing
EASIER = 0.75  # a run with less than this part of the contracted share is no test of the network


@dataclass(frozen=True)
class RankTraining:
    """What one rank tells: tokens a second on its GPU alone (a value a repeat, all GPUs at the same time) and in the
    run of all, and a checksum of its parameters at each checkpoint of the run of all."""

    rank: int
    node: str
    gpu: int
    alone_tokens_per_s: tuple[float, ...]
    together_tokens_per_s: tuple[float, ...]
    checksums: tuple[str, ...]


@dataclass(frozen=True)
class TrainingRun:
    """A run of all ranks. `losses` is the mean over ranks, a value a step, warm-up left out."""

    ranks: tuple[RankTraining, ...]
    losses: tuple[float, ...]
    parameters: int
    gradient_bytes: int
    tokens_per_rank: int


@dataclass(frozen=True)
class TrainingNeed:
    """What the contract asks. `nodes` are all nodes and how many GPUs each has; `busbw_gbyte_s` is what all_reduce was
    measured to reach, and `peak` the GPU's limit in TFLOP/s."""

    nodes: Mapping[str, int]
    steps: int
    min_efficiency_percent: float
    min_loss_fall_percent: float
    communication_share: float
    gradient_bytes: int
    tolerance_percent: float
    ceiling_tolerance_percent: float
    busbw_gbyte_s: float
    peak: Ceiling

    @property
    def ranks(self) -> int:
        """Ranks of the whole cluster."""
        return sum(self.nodes.values())


@dataclass(frozen=True)
class Training:
    """The judged run, with its figures where they could be had: efficiency, communication share, and the efficiency
    that it allows at worst and at best."""

    efficiency_percent: float | None
    share: float | None
    bounds_percent: tuple[float, float] | None
    tflops: float | None
    stragglers: SlowGpus | None
    flaws: tuple[Flaw, ...]


def communication_share(*, gradient_bytes: float, ranks: int, flops: float, tokens: float,
                        busbw_gbyte_s: float) -> float:
    """r, from a rank's rate in FLOP/s and its tokens a step. Raises ValueError for what is not above 0."""
    if min(gradient_bytes, ranks, flops, tokens, busbw_gbyte_s) <= 0:
        raise ValueError("a communication share follows from figures above 0 only")
    return gradient_bytes * bus_factor("all_reduce", ranks) * flops / (6 * tokens * busbw_gbyte_s * 1e9)


def tokens_for_share(*, gradient_bytes: float, ranks: int, flops: float, share: float, busbw_gbyte_s: float) -> float:
    """Tokens a step and rank at which the communication share is `share`. Raises ValueError.

    r · τ is the same whichever of the two is asked for.
    """
    return communication_share(gradient_bytes=gradient_bytes, ranks=ranks, flops=flops, tokens=share,
                               busbw_gbyte_s=busbw_gbyte_s)


def efficiency_bounds(share: float) -> tuple[float, float]:
    """Efficiency without overlap, and with the best possible one, for a communication share from 0 up."""
    if not share >= 0:
        raise ValueError(f"communication share {share}")
    return 1 / (1 + share), 1 / (1 + max(0.0, share - BACKWARD))


def overlap(efficiency: float, share: float) -> float:
    """How much of the communication was hidden, η, by the efficiency that was reached. Raises ValueError."""
    if not (efficiency > 0 and share > 0):
        raise ValueError(f"no overlap follows from efficiency {efficiency} and share {share}")
    return 1 - (1 / efficiency - 1) / share


def training_need(contract: Contract, limits: Limits, nodes: Iterable[str], busbw_gbyte_s: float) -> TrainingNeed:
    """What the contract asks of a run over these nodes, where all_reduce was measured to reach that busbw."""
    work = contract.performance
    wanted = work.training
    return TrainingNeed(
        dict.fromkeys(nodes, contract.gpu.count), wanted.steps, wanted.min_efficiency_percent,
        wanted.min_loss_fall_percent, wanted.communication_share, wanted.gradient_bytes, work.peers_tolerance_percent,
        work.ceiling_tolerance_percent, busbw_gbyte_s, max(limits.peak.values(), key=lambda ceiling: ceiling.value))


def judge_training(run: TrainingRun, need: TrainingNeed) -> Training:
    """Every flaw, and the figures."""
    flaws = _ranks(run, need) + judge_losses(run.losses, need.steps, need.min_loss_fall_percent)
    flaws += judge_replicas({one.rank: one.checksums for one in run.ranks})
    if run.gradient_bytes != need.gradient_bytes:
        flaws.append(Flaw("bytes of a gradient", "another run than contracted", RUN, run.gradient_bytes,
                          need.gradient_bytes))
    speeds, more = _speeds(run)
    flaws += more
    if not speeds:
        return Training(None, None, None, None, None, tuple(flaws))
    alone, together = (math.fsum(pair[n] for pair in speeds.values()) for n in (0, 1))
    efficiency = 100 * together / alone
    stragglers, more = _stragglers(run, speeds, need)
    flaws += more + _efficiency(efficiency, need)
    share, tflops, more = _share(run, median(pair[0] for pair in speeds.values()), need)
    bounds = None
    if share is not None:
        worst, best = efficiency_bounds(share)
        bounds = (100 * worst, 100 * best)
    return Training(efficiency, share, bounds, tflops, stragglers, tuple(flaws + more))


def judge_losses(losses: Sequence[float], steps: int, min_fall_percent: float) -> list[Flaw]:
    """Whether the loss falls from the first quarter's median to the last one's, by enough and beyond its own noise."""
    if len(losses) < max(steps, 8):
        return [Flaw("steps", "the run did not come to its end", RUN, len(losses), max(steps, 8))]
    bad = [step for step, loss in enumerate(losses) if not math.isfinite(loss)]
    if bad:
        return [Flaw("loss", f"it is no number at step {bad[0]}", RUN, str(losses[bad[0]]))]
    quarter = len(losses) // 4
    first, last = median(losses[:quarter]), median(losses[-quarter:])
    fall = 100 * (first - last) / first if first > 0 else -math.inf
    jumps = [abs(after - before) for before, after in pairwise(losses)]
    noise = SIGMA * median(jumps) / math.sqrt(2)
    way = f"from {first:.4g} to {last:.4g}"
    if fall < min_fall_percent:
        return [Flaw("fall of the loss", f"{way}: it does not learn", RUN, fall, min_fall_percent, "%")]
    # the median of a quarter is so uncertain by the noise of its values, and here are two of them
    if first - last < 3 * noise * 1.2533 * math.sqrt(2 / quarter):
        return [Flaw("fall of the loss", f"{way}: no more than its noise of {noise:.4g} explains", RUN, fall, unit="%")]
    return []


def judge_replicas(checksums: Mapping[int, Sequence[str]]) -> list[Flaw]:
    """Whether all ranks hold the same parameters at every checkpoint; who diverged from the majority, and when."""
    checkpoints = max((len(told) for told in checksums.values()), default=0)
    if not checkpoints:
        return [Flaw("replicas", "no rank told a checksum of its parameters", RUN, unjudged=True)]
    flaws = [Flaw("replicas", "it told fewer checksums than the others", f"rank {rank}", len(told), checkpoints)
             for rank, told in sorted(checksums.items()) if len(told) < checkpoints or not all(told)]
    seen: set[int] = set()
    for at in range(checkpoints):
        told = {rank: sums[at] for rank, sums in checksums.items() if at < len(sums) and sums[at]}
        common, count = Counter(told.values()).most_common(1)[0] if told else ("", 0)
        if 2 * count <= len(checksums):
            return [*flaws, Flaw("replicas", f"at checkpoint {at} no value is common to more than half of the ranks",
                                 RUN, count, len(checksums))]
        for rank in sorted(told):
            if told[rank] != common and rank not in seen:
                seen.add(rank)
                flaws.append(Flaw("replicas", f"its parameters differ from those of {count} ranks, first at checkpoint "
                                  f"{at}", f"rank {rank}", told[rank], common))
    return flaws


def _ranks(run: TrainingRun, need: TrainingNeed) -> list[Flaw]:
    found, flaws = Counter(one.rank for one in run.ranks), []
    missing = [rank for rank in range(need.ranks) if rank not in found]
    other = sorted(rank for rank, times in found.items() if times > 1 or rank not in range(need.ranks))
    if missing:
        flaws.append(Flaw("ranks", f"nothing of {_list(missing)}", RUN, need.ranks - len(missing), need.ranks))
    if other:
        flaws.append(Flaw("ranks", f"{_list(other)}: there twice, or not contracted", RUN, len(run.ranks),
                          need.ranks))
    by_node = Counter(one.node for one in run.ranks)
    flaws += [Flaw("ranks", "not one for each of its GPUs", node, by_node[node], need.nodes.get(node, 0))
              for node in sorted(set(by_node) | set(need.nodes)) if by_node[node] != need.nodes.get(node, 0)]
    places = Counter((one.node, one.gpu) for one in run.ranks)
    flaws += [Flaw("ranks", "share one GPU", f"{node}/gpu{gpu}", times, 1)
              for (node, gpu), times in sorted(places.items()) if times > 1]
    return flaws


def _speeds(run: TrainingRun) -> tuple[dict[int, tuple[float, float]], list[Flaw]]:
    """Median throughput alone and together of every rank; none when one lacks either, for the sums would be wrong."""
    found, flaws = {}, []
    for one in run.ranks:
        both = (one.alone_tokens_per_s, one.together_tokens_per_s)
        if not all(values and all(math.isfinite(value) and value > 0 for value in values) for values in both):
            flaws.append(Flaw("throughput", "not measured alone and together", f"rank {one.rank}", unjudged=True))
        else:
            found[one.rank] = (median(both[0]), median(both[1]))
    return ({}, flaws) if flaws else (found, flaws)


def _stragglers(run: TrainingRun, speeds: Mapping[int, tuple[float, float]],
                need: TrainingNeed) -> tuple[SlowGpus | None, list[Flaw]]:
    figures: dict[str, dict[int, float]] = {}
    for one in run.ranks:
        figures.setdefault(one.node, {})[one.gpu] = speeds[one.rank][0]
    try:
        found = judge_gpus(figures, tolerance_percent=need.tolerance_percent, nodes=need.nodes)
    except Unmeasured as error:
        return None, [Flaw("throughput alone", str(error), RUN, unjudged=True)]
    flaws = [Flaw("throughput alone", part.sentence("training", "tokens/s", found.peers.median), part.subject,
                  part.value, found.peers.median, "tokens/s") for part in found.parts]
    if found.peers.scattered:
        flaws.append(Flaw("throughput alone", "the ranks have no common value", RUN, found.peers.spread,
                          found.peers.limit, "tokens/s"))
    return found, flaws


def _efficiency(efficiency: float, need: TrainingNeed) -> list[Flaw]:
    named = {"subject": RUN, "measured": efficiency, "unit": "%"}
    if efficiency > 100 + need.ceiling_tolerance_percent:
        return [Flaw("efficiency beyond 100 %", "more together than the same GPUs alone: the measurement is wrong",
                     required=100.0, **named)]  # type: ignore[arg-type]
    if efficiency < need.min_efficiency_percent:
        return [Flaw("efficiency", "too little of what the GPUs do alone is left together",
                     required=need.min_efficiency_percent, **named)]  # type: ignore[arg-type]
    return []


def _share(run: TrainingRun, alone: float, need: TrainingNeed) -> tuple[float | None, float, list[Flaw]]:
    flops = 6 * run.parameters * alone
    flaws = []
    if need.peak.exceeded(flops / 1e12, need.ceiling_tolerance_percent):
        flaws.append(Flaw("computing beyond its ceiling", f"6 FLOP a parameter and token: {need.peak.derivation}",
                          RUN, flops / 1e12, need.peak.value, "TFLOP/s"))
    try:
        share = communication_share(gradient_bytes=run.gradient_bytes, ranks=need.ranks, flops=flops,
                                    tokens=run.tokens_per_rank, busbw_gbyte_s=need.busbw_gbyte_s)
    except ValueError as error:
        return None, flops / 1e12, [*flaws, Flaw("communication share", str(error), RUN, unjudged=True)]
    if share < EASIER * need.communication_share:
        flaws.append(Flaw("communication share", "the run hardly needs the network: its efficiency says little of it",
                          RUN, share, need.communication_share))
    return share, flops / 1e12, flaws


def _list(ranks: Iterable[int]) -> str:
    return f"ranks {', '.join(map(str, ranks))}"
