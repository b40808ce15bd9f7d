"""A training run over all GPUs, and figures of single GPUs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import Unmeasured
from acceptance.measure.gpu_figures import FigureNeed, clock_drop_percent, gemm_needs, judge_figures, memcpy_needs
from acceptance.measure.limits import limits_of
from acceptance.measure.training import (
    RankTraining,
    Training,
    TrainingRun,
    communication_share,
    efficiency_bounds,
    judge_losses,
    judge_replicas,
    judge_training,
    overlap,
    tokens_for_share,
    training_need,
)
from selftests.synthetic import SITE

NODES = [host.name for host in SITE.group("gpu_nodes")]
LIMITS = limits_of(SITE.contract)
NEED = training_need(SITE.contract, LIMITS, NODES, busbw_gbyte_s=10.5)
SEEDS = st.integers(0, 10**6)
PARAMETERS = 350_000_000
ALONE = 100e12 / 6 / PARAMETERS  # tokens a second at 100 TFLOP/s


def losses(seed: int = 1, steps: int = 40, start: float = 8.0, end: float = 5.0, noise: float = 0.05) -> list[float]:
    chance = random.Random(seed)
    return [end + (start - end) * math.exp(-3 * step / steps) + chance.gauss(0, noise) for step in range(steps)]


def healthy(seed: int = 1, efficiency: float = 0.9) -> TrainingRun:
    chance = random.Random(seed)
    ranks = tuple(RankTraining(
        rank, NODES[rank // 4], rank % 4, tuple(ALONE * chance.gauss(1, 0.005) for _ in range(3)),
        tuple(ALONE * efficiency * chance.gauss(1, 0.005) for _ in range(3)), ("aa", "bb", "cc")) for rank in range(32))
    return TrainingRun(ranks, tuple(losses(seed)), PARAMETERS, 2, 16384)


def change(run: TrainingRun, rank: int, edit: Callable[[RankTraining], RankTraining]) -> TrainingRun:
    return replace(run, ranks=tuple(edit(one) if one.rank == rank else one for one in run.ranks))


def said(found: Training) -> list[tuple[str, str]]:
    return [(flaw.subject, flaw.quantity) for flaw in found.flaws]


@given(SEEDS)
def test_a_healthy_run(seed: int) -> None:
    found = judge_training(healthy(seed), NEED)
    assert found.flaws == ()
    assert found.efficiency_percent == pytest.approx(90, abs=1)
    assert found.share == pytest.approx(0.375, abs=0.01)
    assert found.tflops == pytest.approx(100, rel=0.01)
    assert found.bounds_percent == pytest.approx((72.7, 100), abs=0.5)


def test_the_formulas_give_the_worked_numbers() -> None:
    def share(gradient_bytes: int, tokens: float) -> float:
        return communication_share(gradient_bytes=gradient_bytes, ranks=32, flops=100e12, tokens=tokens,
                                   busbw_gbyte_s=10.5)

    assert share(2, 1) == pytest.approx(6150, rel=1e-3)
    assert share(4, 1) == pytest.approx(12300, rel=1e-3)
    tokens = tokens_for_share(gradient_bytes=2, ranks=32, flops=100e12, share=0.375, busbw_gbyte_s=10.5)
    assert tokens == pytest.approx(16400, rel=1e-3)
    assert share(2, tokens) == pytest.approx(0.375)
    assert efficiency_bounds(0.375) == pytest.approx((0.727, 1.0), abs=1e-3)
    assert efficiency_bounds(0.375 * 10.5 / 4)[1] == pytest.approx(0.758, abs=1e-3)  # over TCP
    assert overlap(0.85, 0.375) == pytest.approx(0.53, abs=0.01)
    assert overlap(0.85, 0.375 * 10.5 / 8) == pytest.approx(0.64, abs=0.01)


@given(st.floats(0.01, 2), st.floats(0, 1))
def test_overlap_is_what_the_efficiency_came_from(share: float, hidden: float) -> None:
    assert overlap(1 / (1 + (1 - hidden) * share), share) == pytest.approx(hidden, abs=1e-9)


@pytest.mark.parametrize("call", [
    lambda: communication_share(gradient_bytes=2, ranks=0, flops=1, tokens=1, busbw_gbyte_s=1),
    lambda: communication_share(gradient_bytes=2, ranks=2, flops=1, tokens=1, busbw_gbyte_s=0),
    lambda: efficiency_bounds(-1), lambda: efficiency_bounds(math.nan), lambda: overlap(0, 1), lambda: overlap(1, 0)])
def test_senseless_figures_have_no_share(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call()


def test_a_run_of_fewer_ranks_fails() -> None:
    run = healthy()
    found = judge_training(replace(run, ranks=run.ranks[:-1]), NEED)
    assert said(found) == [("training", "ranks"), ("gpu-node-08", "ranks")]
    assert "nothing of ranks 31" in found.flaws[0].reason


def test_no_rank_at_all() -> None:
    found = judge_training(TrainingRun((), (), 0, 2, 0), NEED)
    assert found.efficiency_percent is None
    assert {"ranks", "steps", "replicas"} <= {flaw.quantity for flaw in found.flaws}


def test_two_ranks_on_one_gpu() -> None:
    found = judge_training(change(healthy(), 5, lambda one: replace(one, gpu=0)), NEED)
    assert ("gpu-node-02/gpu0", "ranks") in said(found)
    assert judge_training(change(healthy(), 5, lambda one: replace(one, node="gpu-node-01")), NEED).flaws
    twice = judge_training(change(healthy(), 5, lambda one: replace(one, rank=4)), NEED)
    assert "ranks 4: there twice, or not contracted" in [flaw.reason for flaw in twice.flaws]
    strange = judge_training(change(healthy(), 5, lambda one: replace(one, rank=77)), NEED)
    assert "ranks 77: there twice, or not contracted" in [flaw.reason for flaw in strange.flaws]


@given(SEEDS)
def test_a_loss_that_falls(seed: int) -> None:
    assert judge_losses(losses(seed), 40, 10) == []
    assert judge_losses(losses(seed, steps=12), 12, 1) == []


@given(SEEDS)
def test_a_loss_that_does_not_fall(seed: int) -> None:
    [flaw] = judge_losses(losses(seed, start=8.0, end=8.0), 40, 10)
    assert "does not learn" in flaw.reason
    assert judge_losses(losses(seed, start=5.0, end=8.0), 40, 10)


def test_a_fall_that_noise_explains_is_none() -> None:
    reasons = []
    for seed in range(40):
        chance = random.Random(seed)
        [flaw] = judge_losses([8 + chance.uniform(-2, 2) for _ in range(40)], 40, 0.1)
        reasons.append("noise" in flaw.reason)
    assert any(reasons)


@given(SEEDS, st.integers(1, 39))
def test_one_outlier_does_not_make_a_fall(seed: int, at: int) -> None:
    flat = losses(seed, start=8.0, end=8.0)
    flat[at] = 0.1
    assert judge_losses(flat, 40, 10)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number(bad: float) -> None:
    values = losses()
    values[17] = bad
    assert [flaw.reason for flaw in judge_losses(values, 40, 10)] == ["it is no number at step 17"]


def test_a_run_that_ended_early() -> None:
    assert [(flaw.measured, flaw.required) for flaw in judge_losses(losses()[:30], 40, 10)] == [(30, 40)]
    assert judge_losses([], 0, 10)


def test_a_diverged_replica_is_named_with_its_first_checkpoint() -> None:
    run = change(healthy(), 13, lambda one: replace(one, checksums=("aa", "xx", "yy")))
    [flaw] = judge_training(run, NEED).flaws
    assert (flaw.subject, flaw.measured, flaw.required) == ("rank 13", "xx", "bb")
    assert "those of 31 ranks, first at checkpoint 1" in flaw.reason


@given(st.sets(st.integers(0, 31), min_size=1, max_size=15))
def test_every_diverged_replica_is_named(bad: set[int]) -> None:
    sums = {rank: ("aa", f"own {rank}" if rank in bad else "bb") for rank in range(32)}
    assert [flaw.subject for flaw in judge_replicas(sums)] == [f"rank {rank}" for rank in sorted(bad)]


def test_replicas_without_a_majority_or_a_checksum() -> None:
    half = {rank: ("a" if rank < 16 else "b",) for rank in range(32)}
    assert "more than half" in judge_replicas(half)[0].reason
    assert judge_replicas({rank: () for rank in range(32)})[0].unjudged
    assert judge_replicas({})[0].unjudged
    short = {rank: ("a", "b") if rank else ("a",) for rank in range(32)}
    assert [flaw.subject for flaw in judge_replicas(short)] == ["rank 0"]
    silent = {rank: ("a", "" if rank == 3 else "b") for rank in range(32)}
    assert [flaw.subject for flaw in judge_replicas(silent)] == ["rank 3"]


def test_too_little_is_left_together() -> None:
    [flaw] = judge_training(healthy(efficiency=0.8), NEED).flaws
    assert flaw.quantity == "efficiency"
    assert flaw.measured == pytest.approx(80, abs=1)


def test_more_together_than_alone_is_an_error() -> None:
    assert said(judge_training(healthy(efficiency=1.1), NEED)) == [("training", "efficiency beyond 100 %")]
    assert judge_training(healthy(efficiency=1.005), NEED).flaws == ()


@given(SEEDS, st.integers(0, 31), st.floats(0.3, 0.9))
def test_a_straggler_is_named(seed: int, rank: int, factor: float) -> None:
    run = change(healthy(seed), rank, lambda one: replace(
        one, alone_tokens_per_s=tuple(value * factor for value in one.alone_tokens_per_s)))
    found = judge_training(run, NEED)
    assert [flaw.subject for flaw in found.flaws] == [f"{NODES[rank // 4]}/gpu{rank % 4}"]


def test_a_slow_node_holds_all_up() -> None:
    run = healthy()
    for rank in range(8, 12):
        run = change(run, rank, lambda one: replace(
            one, alone_tokens_per_s=tuple(value * 0.8 for value in one.alone_tokens_per_s)))
    assert [flaw.subject for flaw in judge_training(run, NEED).flaws] == ["gpu-node-03"]


@pytest.mark.parametrize("values", [(), (0.0,), (math.nan,), (100.0, -1.0)])
def test_a_rank_without_a_throughput_spoils_the_efficiency(values: tuple[float, ...]) -> None:
    found = judge_training(change(healthy(), 2, lambda one: replace(one, together_tokens_per_s=values)), NEED)
    assert found.efficiency_percent is None
    assert [(flaw.subject, flaw.unjudged) for flaw in found.flaws] == [("rank 2", True)]


def test_a_run_that_hardly_needs_the_network_proves_nothing_of_it() -> None:
    found = judge_training(replace(healthy(), tokens_per_rank=65536), NEED)
    assert said(found) == [("training", "communication share")]
    other = judge_training(replace(healthy(), gradient_bytes=4), NEED)
    assert said(other) == [("training", "bytes of a gradient")]


def test_computing_beyond_the_data_sheet_is_an_error() -> None:
    found = judge_training(replace(healthy(), parameters=4 * PARAMETERS), NEED)
    assert ("training", "computing beyond its ceiling") in said(found)


FIGURE = gemm_needs(SITE.contract, LIMITS, NODES)["bf16"]


def figures(value: float = 208.0, seed: int = 1) -> dict[str, dict[int, list[float]]]:
    chance = random.Random(seed)
    return {node: {gpu: [value * chance.gauss(1, 0.005) for _ in range(10)] for gpu in range(4)} for node in NODES}


def flawed(values: dict[str, dict[int, list[float]]], need: FigureNeed = FIGURE) -> list[tuple[str, str]]:
    return [(flaw.subject, flaw.quantity) for flaw in judge_figures(values, need).flaws]


def test_good_gpus() -> None:
    found = judge_figures(figures(), FIGURE)
    assert found.flaws == ()
    assert len(found.medians) == 32


def test_a_slow_gpu_misses_floor_and_peers() -> None:
    values = figures()
    values["gpu-node-05"][2] = [150.0] * 10
    assert flawed(values) == [("gpu-node-05/gpu2", "bf16 GEMM"), ("gpu-node-05/gpu2", "bf16 GEMM against peers")]
    assert flawed(figures(180)) == [(f"{node}/gpu{gpu}", "bf16 GEMM") for node in NODES for gpu in range(4)]


def test_a_gpu_above_the_floor_may_still_be_off_its_peers() -> None:
    values = figures()
    values["gpu-node-05"][2] = [190.0] * 10
    assert flawed(values) == [("gpu-node-05/gpu2", "bf16 GEMM against peers")]


def test_one_repeat_beyond_the_peak_is_an_error() -> None:
    values = figures()
    values["gpu-node-05"][2][7] = 330.0
    assert flawed(values) == [("gpu-node-05/gpu2", "bf16 GEMM beyond its ceiling")]


def test_missing_repeats_and_gpus() -> None:
    values = figures()
    values["gpu-node-05"][2].pop()
    del values["gpu-node-06"]
    values["gpu-node-07"][9] = [208.0] * 10
    found = flawed(values)
    assert ("gpu-node-05/gpu2", "repeats of bf16 GEMM") in found
    assert ("gpu-node-06/gpu3", "repeats of bf16 GEMM") in found
    assert ("gpu-node-07/gpu9", "bf16 GEMM") in found
    assert judge_figures({}, FIGURE).compared is None
    assert ("", "bf16 GEMM against peers") in flawed({})


def test_values_that_are_none() -> None:
    values = figures()
    values["gpu-node-05"][2][0] = math.nan
    [flaw] = judge_figures(values, FIGURE).flaws
    assert flaw.unjudged
    zero = {node: {gpu: [0.0] * 10 for gpu in range(4)} for node in NODES}
    assert judge_figures(zero, replace(FIGURE, floor=None)).flaws


def test_every_data_type_is_asked_of_every_gpu() -> None:
    needs = gemm_needs(SITE.contract, LIMITS, (name for name in NODES))
    assert {dtype: (need.floor, sum(need.nodes.values())) for dtype, need in needs.items()} == {
        "bf16": (185, 32), "tf32": (90, 32)}


def test_copies_have_floors_and_ceilings() -> None:
    needs = memcpy_needs(SITE.contract, LIMITS, NODES)
    assert [(need.floor, round(need.ceiling.value, 1)) for need in needs.values()] == [
        (21, 31.5), (21, 31.5), (1100, 1555), (None, 31.5)]
    assert flawed(figures(26), needs["peer"]) == []
    assert {quantity for _, quantity in flawed(figures(33), needs["peer"])} == {
        "copy between GPUs beyond its ceiling"}


def test_a_clock_that_drops() -> None:
    assert clock_drop_percent([1410.0] * 100) == 0
    assert clock_drop_percent([1500.0, *[1400.0] * 49, *[1200.0] * 50]) == pytest.approx(14.3, abs=0.1)
    for bad in ([], [1400.0] * 9, [1400.0] * 10 + [0.0], [1400.0] * 10 + [math.nan]):
        with pytest.raises(Unmeasured):
            clock_drop_percent(bad)
