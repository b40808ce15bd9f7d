"""Who differs from its peers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import Unmeasured
from acceptance.measure.peers import compare, compare_percent

SEEDS = st.integers(0, 10**6)


def fleet(count: int, seed: int, noise: float = 0.008) -> dict[str, float]:
    chance = random.Random(seed)
    return {f"gpu{number}": 200 * chance.uniform(1 - noise, 1 + noise) for number in range(count)}


@given(st.integers(3, 32), SEEDS)
def test_a_healthy_fleet_has_nobody_off(count: int, seed: int) -> None:
    found = compare_percent(fleet(count, seed), 5)
    assert found.good
    assert found.members == count


@given(st.integers(4, 32), SEEDS, st.sampled_from([0.5, 0.8, 0.9, 1.1, 1.5]))
def test_one_that_is_off_is_named_and_no_other(count: int, seed: int, factor: float) -> None:
    values = fleet(count, seed)
    odd = random.Random(seed).choice(list(values))
    values[odd] *= factor
    found = compare_percent(values, 5)
    assert [peer.name for peer in found.off] == [odd]
    assert found.off[0].deviation_percent == pytest.approx(100 * (factor - 1), abs=4)
    assert not found.good


@given(st.integers(7, 32), SEEDS)
def test_just_under_half_may_be_off(count: int, seed: int) -> None:
    values = fleet(count, seed)
    odd = random.Random(seed).sample(list(values), (count - 1) // 2 - 1)
    for name in odd:
        values[name] *= 0.7
    assert {peer.name for peer in compare_percent(values, 5).off} == set(odd)


@given(st.integers(2, 16), SEEDS)
def test_half_against_half_has_no_common_value(half: int, seed: int) -> None:
    values = fleet(2 * half, seed)
    for name in list(values)[:half]:
        values[name] *= 0.8
    found = compare_percent(values, 5)
    assert found.scattered
    assert not found.good


def test_noise_of_all_widens_the_limit_only_up_to_the_floor() -> None:
    values = {f"n{number}": 100.0 + 6 * number for number in range(8)}
    assert compare_percent(values, 5).scattered
    calm = compare_percent({f"n{number}": 100.0 + number for number in range(8)}, 5)
    assert calm.good
    assert calm.limit == pytest.approx(3 * calm.spread)


def test_equal_values_need_a_floor() -> None:
    found = compare_percent({"a": 100.0, "b": 100.0, "c": 100.0, "d": 104.0}, 5)
    assert (found.spread, found.off) == (0, ())


def test_a_missing_member_is_told() -> None:
    found = compare_percent(fleet(4, 1), 5, expected=[f"gpu{number}" for number in range(6)])
    assert found.missing == ("gpu4", "gpu5")
    assert not found.good


def test_lateness_has_a_floor_of_its_own_unit() -> None:
    late = {f"rank{number}": float(number % 3) for number in range(32)} | {"rank7": 900.0}
    [only] = compare(late, floor=200).off
    assert (only.name, only.deviation) == ("rank7", 899.0)


@pytest.mark.parametrize("values", [{}, {"a": 1.0}, {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 1.0, "c": float("nan")},
                                    {"a": 0.0, "b": 0.0, "c": 0.0}, {"a": -1.0, "b": -1.0, "c": -1.0}])
def test_what_cannot_be_compared_is_not_measured(values: dict[str, float]) -> None:
    with pytest.raises(Unmeasured):
        compare_percent(values, 5)


def test_no_floor_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="floor"):
        compare({"a": 1.0, "b": 1.0, "c": 1.0}, floor=0)
