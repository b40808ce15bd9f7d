"""A slow node is told from a slow link, and a slow GPU from a slow node, in hundreds of random worlds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import Unmeasured
from acceptance.measure.diagnose import Diagnosis, both_ways, diagnose, limit_of, next_round
from acceptance.measure.pairs import rounds_of_pairs
from acceptance.measure.slow_gpus import SlowGpus, judge_gpus, judge_lateness
from selftests.worlds import TOLERANCE, World, nodes

EIGHT = nodes(8)
SEEDS = st.integers(0, 10**9)
FACTORS = st.floats(0.1, 0.8)
SWEEPS = st.sampled_from([1, 2, 4, None])


def verdict(world: World, rounds: int | None = None) -> Diagnosis:
    return diagnose(world.names, world.measured, TOLERANCE, rounds=rounds)


def named(world: World, rounds: int | None = None) -> list[tuple[str, str]]:
    """What is proven, once everything that was asked for is measured; nothing may be left open."""
    world.explore(rounds=rounds)
    found = verdict(world, rounds)
    assert (found.open, found.unmeasured) == ((), ())
    assert all(culprit.sentence for culprit in found.culprits)
    return sorted((culprit.kind, culprit.subject) for culprit in found.culprits)


@given(SEEDS, SWEEPS, st.integers(3, 16))
def test_a_healthy_world_names_nobody(seed: int, sweep: int | None, count: int) -> None:
    world = World(nodes(count), seed)
    assert named(world, sweep) == []
    assert verdict(world, sweep).healthy


@given(SEEDS, SWEEPS, FACTORS, st.sampled_from(EIGHT))
def test_one_slow_node_of_eight_is_named_and_no_other(seed: int, sweep: int | None, factor: float, slow: str) -> None:
    world = World(EIGHT, seed)
    world.slow_node(slow, factor)
    assert named(world, sweep) == [("node", slow)]
    [culprit] = verdict(world, sweep).culprits
    assert culprit.below_percent == pytest.approx(100 * (1 - factor), abs=8)


def test_twenty_runs_with_a_slow_node_chosen_at_random() -> None:
    chance = random.Random(5)
    for seed in range(20):
        slow = chance.choice(EIGHT)
        world = World(EIGHT, seed)
        world.slow_node(slow, chance.uniform(0.3, 0.8))
        assert named(world) == [("node", slow)]


@given(SEEDS, FACTORS, st.permutations(EIGHT), st.booleans())
def test_a_slow_link_is_named_and_neither_of_its_nodes(seed: int, factor: float, order: list[str], both: bool) -> None:
    one, other = order[:2]
    world = World(EIGHT, seed, links={(one, other): factor} | ({(other, one): factor} if both else {}))
    first, second = sorted((one, other))
    assert named(world) == [("link", f"{first}↔{second}" if both else f"{one}→{other}")]


@given(SEEDS, SWEEPS, FACTORS, st.sampled_from(EIGHT), st.booleans())
def test_a_port_that_is_slow_one_way(seed: int, sweep: int | None, factor: float, slow: str, sends: bool) -> None:
    world = World(EIGHT, seed, sending={slow: factor} if sends else {}, receiving={} if sends else {slow: factor})
    assert named(world, sweep) == [("sending" if sends else "receiving", slow)]


@given(SEEDS, SWEEPS, FACTORS, FACTORS, st.permutations(EIGHT))
def test_two_slow_nodes(seed: int, sweep: int | None, one: float, other: float, order: list[str]) -> None:
    world = World(EIGHT, seed)
    world.slow_node(order[0], one)
    world.slow_node(order[1], other)
    assert named(world, sweep) == sorted(("node", name) for name in order[:2])


@given(SEEDS, FACTORS, FACTORS, st.permutations(EIGHT))
def test_a_slow_node_and_a_slow_link_elsewhere(seed: int, one: float, other: float, order: list[str]) -> None:
    world = World(EIGHT, seed, links={(order[1], order[2]): other, (order[2], order[1]): other})
    world.slow_node(order[0], one)
    first, second = sorted(order[1:3])
    assert named(world) == [("link", f"{first}↔{second}"), ("node", order[0])]


@given(SEEDS, FACTORS, st.integers(4, 12))
def test_a_slow_node_in_clusters_of_other_sizes(seed: int, factor: float, count: int) -> None:
    names = nodes(count)
    slow = random.Random(seed).choice(names)
    world = World(names, seed)
    world.slow_node(slow, factor)
    assert named(world) == [("node", slow)]


@given(SEEDS, FACTORS, st.sampled_from(EIGHT))
def test_after_one_round_three_more_are_enough(seed: int, factor: float, slow: str) -> None:
    """A quick test: one round of disjoint pairs, then suspects with good partners, at most so many rounds."""
    world = World(EIGHT, seed, noise=0.01)
    world.slow_node(slow, factor)
    assert named(world, 1) == [("node", slow)]
    assert len(world.rounds) <= 4
    partners = [pair for pairs in world.rounds[1:] for pair in pairs]
    assert any(slow in pair for pair in partners)


def test_the_sweep_measures_every_pair_once_where_nothing_is_slow() -> None:
    world = World(EIGHT, 1, noise=0.0)
    world.explore()
    assert world.rounds == rounds_of_pairs(EIGHT)


def test_a_suspicion_is_open_until_its_nodes_have_met_good_partners() -> None:
    world = World(EIGHT, 1, noise=0.0)
    world.slow_node("gpu-node-03", 0.5)
    for one, other in rounds_of_pairs(EIGHT)[0]:
        for flow in ((one, other), (other, one)):
            world.measured[flow] = [world.flow(*flow)]
    found = verdict(world, 1)
    assert found.culprits == ()
    assert [culprit.kind for culprit in found.open] == ["link"]
    assert "gpu-node-03" in found.open[0].subject
    assert not found.healthy


def test_suspects_are_tried_with_partners_that_are_known_to_be_good() -> None:
    """Two slow nodes in different pairs: nobody of these pairs is a partner for anybody."""
    world = World(EIGHT, 1, noise=0.0)
    pairs = rounds_of_pairs(EIGHT)[0]
    for pair in pairs[:2]:
        world.slow_node(pair[0], 0.5)
    for one, other in pairs:
        for flow in ((one, other), (other, one)):
            world.measured[flow] = [world.flow(*flow)]
    suspected = {name for pair in pairs[:2] for name in pair}
    chosen = next_round(EIGHT, world.measured, TOLERANCE, rounds=1)
    assert len(chosen) == 4
    assert all(len(suspected & set(pair)) == 1 for pair in chosen)


def test_who_is_to_blame_is_no_partner_for_all_its_lucky_measurements() -> None:
    pairs = {("n3", "n1"): 50.0, ("n3", "n2"): 50.0, ("n3", "n4"): 96.0, ("n1", "n2"): 96.0, ("n7", "n8"): 96.0,
             ("n5", "n6"): 40.0}
    chosen = next_round(["n3", *(f"n{number}" for number in (1, 2, 4, 5, 6, 7, 8))],
                        both_ways({pair: [value] for pair, value in pairs.items()}), TOLERANCE, rounds=0)
    assert {"n5", "n6"} <= {name for pair in chosen for name in pair}
    assert not any("n3" in pair for pair in chosen if {"n5", "n6"} & set(pair))


def test_one_slow_measurement_is_measured_again_before_it_is_believed() -> None:
    world = World(EIGHT, 1, noise=0.0)
    world.explore()
    world.measured["gpu-node-01", "gpu-node-02"] = [50.0]
    assert [culprit.subject for culprit in verdict(world).open] == ["gpu-node-01→gpu-node-02"]
    world.explore()
    assert world.measured["gpu-node-01", "gpu-node-02"] == [50.0, 96.0, 96.0]
    assert verdict(world).healthy


def test_what_was_not_measured_is_not_healthy() -> None:
    world = World(EIGHT, 1, dead={("gpu-node-02", "gpu-node-05")})
    world.explore()
    found = verdict(world)
    assert found.unmeasured == (("gpu-node-02", "gpu-node-05"),)
    assert not found.healthy
    assert len(world.measured["gpu-node-02", "gpu-node-05"]) == 3
    with pytest.raises(Unmeasured):
        diagnose(EIGHT, {}, TOLERANCE)
    assert next_round(EIGHT, {(one, other): [None] * 3 for one in EIGHT for other in EIGHT if one != other},
                      TOLERANCE) == []


def test_below_the_floor_all_share_the_cause() -> None:
    world = World(EIGHT, 1, reach=40)
    world.explore(floor=80)
    found = diagnose(EIGHT, world.measured, TOLERANCE, floor=80)
    assert [culprit.kind for culprit in found.culprits] == ["fabric"]


def test_of_two_nodes_nobody_can_tell() -> None:
    world = World(nodes(2), 1, links={("gpu-node-01", "gpu-node-02"): 0.5})
    world.explore()
    found = diagnose(world.names, world.measured, TOLERANCE)
    assert [(culprit.kind, culprit.subject) for culprit in found.culprits] == [
        ("only link", "gpu-node-01→gpu-node-02")]


def test_measurements_without_a_direction_count_both_ways() -> None:
    pairs = {pair: [5.0 if "gpu-node-06" in pair else 10.0] for pairs in rounds_of_pairs(EIGHT) for pair in pairs}
    found = diagnose(EIGHT, both_ways(pairs), TOLERANCE)
    assert [(culprit.kind, culprit.subject) for culprit in found.culprits] == [("node", "gpu-node-06")]
    assert "50 % less than the 10 of others" in found.culprits[0].sentence


@given(SEEDS, st.integers(0, 5))
def test_the_reach_holds_while_most_nodes_are_slow(seed: int, slow: int) -> None:
    world = World(EIGHT, seed)
    for name in EIGHT[:slow]:
        world.slow_node(name, 0.6)
    world.explore()
    assert limit_of(world.measured, TOLERANCE).reach == pytest.approx(96, rel=0.04)


FOUR = dict.fromkeys(EIGHT, 4)


def figures(seed: int, noise: float = 0.01) -> dict[str, dict[int, float]]:
    chance = random.Random(seed)
    return {node: {gpu: 208 * chance.gauss(1, noise) for gpu in range(4)} for node in EIGHT}


def gpus(found: SlowGpus) -> list[tuple[str, str]]:
    return sorted((part.kind, part.subject) for part in found.parts)


@given(SEEDS)
def test_healthy_gpus_name_nobody(seed: int) -> None:
    assert judge_gpus(figures(seed), tolerance_percent=5, nodes=FOUR).good


@given(SEEDS, st.sampled_from(EIGHT), st.sets(st.integers(0, 3), min_size=1, max_size=3), st.floats(0.3, 0.85))
def test_slow_gpus_are_named_and_not_their_node(seed: int, node: str, slow: set[int], factor: float) -> None:
    values = figures(seed)
    for gpu in slow:
        values[node][gpu] *= factor
    found = judge_gpus(values, tolerance_percent=5, nodes=FOUR)
    assert gpus(found) == [("GPU", f"{node}/gpu{gpu}") for gpu in sorted(slow)]
    assert not found.good


@given(SEEDS, st.sampled_from(EIGHT), st.floats(0.3, 0.9))
def test_a_slow_node_is_named_and_not_its_gpus(seed: int, node: str, factor: float) -> None:
    values = figures(seed)
    values[node] = {gpu: value * factor for gpu, value in values[node].items()}
    found = judge_gpus(values, tolerance_percent=5, nodes=FOUR)
    assert gpus(found) == [("node", node)]
    assert found.parts[0].deviation_percent == pytest.approx(100 * (factor - 1), abs=4)
    assert "all 4 GPUs of the node" in found.parts[0].sentence("GEMM", "TFLOP/s", found.peers.median)


@pytest.mark.parametrize(("shares", "expected"), [
    ((0.5, 0.5, 0.5, 0.96), ["gpu0", "gpu1", "gpu2"]), ((0.92, 0.92, 0.92, 0.955), [""]),
    ((0.93, 0.93, 0.96, 0.96), [""]), ((0.93, 0.96, 0.96, 0.96), ["gpu0"]), ((0.9, 0.9, 0.9, 1.1), [
        "gpu0", "gpu1", "gpu2", "gpu3"])])
def test_all_gpus_of_a_node_or_some(shares: tuple[float, ...], expected: list[str]) -> None:
    values = figures(1, noise=0.0)
    values["gpu-node-02"] = {gpu: 208 * share for gpu, share in enumerate(shares)}
    found = judge_gpus(values, tolerance_percent=5, nodes=FOUR)
    assert sorted(part.subject for part in found.parts) == [
        f"gpu-node-02/{name}".removesuffix("/") for name in expected]


@given(SEEDS, st.permutations(EIGHT))
def test_a_slow_node_and_a_slow_gpu_elsewhere(seed: int, order: list[str]) -> None:
    values = figures(seed)
    values[order[0]] = {gpu: value * 0.8 for gpu, value in values[order[0]].items()}
    values[order[1]][2] *= 0.7
    assert gpus(judge_gpus(values, tolerance_percent=5, nodes=FOUR)) == [
        ("GPU", f"{order[1]}/gpu2"), ("node", order[0])]


def test_a_gpu_too_fast_is_off_too() -> None:
    values = figures(1)
    values["gpu-node-04"][1] *= 1.2
    [part] = judge_gpus(values, tolerance_percent=5, nodes=FOUR).parts
    assert (part.kind, part.subject) == ("GPU", "gpu-node-04/gpu1")
    assert "more than the median" in part.sentence("GEMM", "TFLOP/s", 208)


def test_a_gpu_that_is_not_there_is_missing() -> None:
    values = figures(1)
    del values["gpu-node-04"][1]
    found = judge_gpus(values, tolerance_percent=5, nodes=FOUR)
    assert found.peers.missing == ("gpu-node-04/gpu1",)
    assert not found.good


@given(SEEDS, st.sampled_from(EIGHT), st.integers(0, 3))
def test_the_rank_that_comes_late_is_named(seed: int, node: str, gpu: int) -> None:
    chance = random.Random(seed)
    arrivals = {name: {index: chance.uniform(0, 150) for index in range(4)} for name in EIGHT}
    assert judge_lateness(arrivals, floor_us=200, nodes=FOUR).good
    arrivals[node][gpu] += 5000
    assert gpus(judge_lateness(arrivals, floor_us=200, nodes=FOUR)) == [("GPU", f"{node}/gpu{gpu}")]
    arrivals[node] = {index: value + 5000 for index, value in enumerate(arrivals[EIGHT[0]].values())}
    assert ("node", node) in gpus(judge_lateness(arrivals, floor_us=200, nodes=FOUR))


def test_who_comes_early_is_not_late() -> None:
    arrivals = {name: dict.fromkeys(range(4), 10_000.0) for name in EIGHT}
    arrivals["gpu-node-02"][0] = 0.0
    assert judge_lateness(arrivals, floor_us=200, nodes=FOUR).good


def test_nodes_of_one_gpu_are_told_as_their_gpu() -> None:
    values = {name: {0: 100.0} for name in EIGHT} | {"gpu-node-05": {0: 60.0}}
    assert gpus(judge_gpus(values, tolerance_percent=5, nodes=dict.fromkeys(EIGHT, 1))) == [("GPU", "gpu-node-05/gpu0")]
