"""The bandwidth curve: complete, right, possible, fast enough where it counts, smooth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.measure.collectives import CollectiveRow, bus_factor, contradiction, size_text
from acceptance.measure.curve import Curve, curve_need, judge_curve, share_sentence
from acceptance.measure.limits import limits_of
from acceptance.measure.nccl_tests import parse_text
from selftests.nccl_samples import healthy_time_us, results, table
from selftests.synthetic import SITE

LIMITS = limits_of(SITE.contract)
NEED = curve_need(SITE.contract, LIMITS)
GIB = 1 << 30


def row(size: int, busbw: float, *, in_place: bool = False, repeat: int = 0, ranks: int = 32,
        collective: str = "all_reduce") -> CollectiveRow:
    algbw = busbw / bus_factor(collective, ranks)
    return CollectiveRow(size, in_place, size / algbw / 1000, algbw, busbw, 0, ranks, repeat)


def healthy(seed: int = 1, noise: float = 0.01, repeats: int = NEED.repeats) -> list[CollectiveRow]:
    chance = random.Random(seed)
    rows = []
    for size in NEED.sizes:
        for repeat in range(repeats):
            for in_place in (False, True):
                busbw = size / healthy_time_us(size) / 1000 * bus_factor("all_reduce", 32) * chance.gauss(1, noise)
                rows.append(row(size, busbw, in_place=in_place, repeat=repeat))
    return rows


def but(rows: Sequence[CollectiveRow], size: int, factor: float, *, in_place: bool | None = None,
        repeat: int | None = None) -> list[CollectiveRow]:
    """The same rows, those of one size so many times as fast."""
    return [row(r.size_bytes, r.busbw_gbyte_s * factor, in_place=r.in_place, repeat=r.repeat)
            if r.size_bytes == size and in_place in (None, r.in_place) and repeat in (None, r.repeat) else r
            for r in rows]


def said(curve: Curve) -> list[tuple[str, str]]:
    return [(flaw.subject, flaw.quantity) for flaw in curve.flaws]


@given(st.integers(0, 10_000))
def test_a_healthy_curve_has_no_flaw(seed: int) -> None:
    curve = judge_curve(healthy(seed, 0.02), NEED)
    assert (curve.flaws, curve.alerts, curve.missed_target) == ((), (), ())
    assert len(curve.points) == 62
    assert curve.weakest is not None
    assert 10 < curve.weakest.busbw_gbyte_s < 11


def test_the_sentence_for_the_approver() -> None:
    rows = [row(r.size_bytes, 10.0, in_place=r.in_place, repeat=r.repeat) for r in healthy()]
    assert share_sentence(judge_curve(but(rows, 2 * GIB, 0.9, in_place=True), NEED), NEED) == (
        "all_reduce over 32 GPUs reached 9 GB/s at its slowest large size (2 GiB in place): 73 % of the physical limit "
        "of 12.25 GB/s.")
    assert "was not measured" in share_sentence(judge_curve([], NEED), NEED)


def test_what_nccl_tests_print_can_be_judged() -> None:
    rows = [one for repeat in range(5) for one in parse_text(table(results()), "all_reduce", repeat=repeat).rows]
    assert judge_curve(rows, NEED).flaws == ()


def test_nothing_measured_is_all_flaws() -> None:
    curve = judge_curve([], NEED)
    assert len([flaw for flaw in curve.flaws if flaw.reason == "size missing"]) == 62
    assert any(flaw.unjudged for flaw in curve.flaws)
    assert curve.weakest is None


def test_a_missing_size_repeat_or_mode_is_named() -> None:
    rows = healthy()
    curve = judge_curve([r for r in rows if r.size_bytes != GIB], NEED)
    assert said(curve) == [("all_reduce 1 GiB out of place", "repeats"), ("all_reduce 1 GiB in place", "repeats")]
    [only] = judge_curve([r for r in rows if (r.size_bytes, r.in_place, r.repeat) != (64, True, 3)], NEED).flaws
    assert (only.subject, only.measured, only.required) == ("all_reduce 64 B in place", 4, 5)
    assert len(judge_curve([r for r in rows if not r.in_place], NEED).flaws) == 31
    assert said(judge_curve([*rows, rows[0]], NEED)) == [("all_reduce 8 B out of place", "repeats")]


def test_large_sizes_cannot_be_replaced_by_small_ones() -> None:
    curve = judge_curve([r for r in healthy() if r.size_bytes < NEED.threshold_from_bytes], NEED)
    assert [flaw.reason for flaw in curve.flaws if flaw.unjudged] == [
        "no size of 1,000,000,000 bytes or more was measured"]


@pytest.mark.parametrize("in_place", [False, True])
def test_one_slow_size_is_too_slow_whatever_the_average(in_place: bool) -> None:
    fast = [row(r.size_bytes, 12.0, in_place=r.in_place, repeat=r.repeat) for r in healthy()]
    curve = judge_curve(but(fast, 8 * GIB, 7.9 / 12, in_place=in_place), NEED)
    mode = "in place" if in_place else "out of place"
    assert ("all_reduce 8 GiB " + mode, "busbw") in said(curve)
    assert {subject for subject, _ in said(curve)} == {"all_reduce 8 GiB " + mode}
    assert "64 % of the physical 12.25 GB/s" in curve.flaws[0].reason


def test_between_floor_and_target() -> None:
    rows = [row(r.size_bytes, min(r.busbw_gbyte_s, 9.0), in_place=r.in_place, repeat=r.repeat) for r in healthy()]
    curve = judge_curve(rows, NEED)
    assert curve.flaws == ()
    assert len(curve.missed_target) == 8


def test_small_sizes_may_be_slow() -> None:
    rows = [r for r in healthy() if r.size_bytes >= GIB] + [
        row(r.size_bytes, r.busbw_gbyte_s / 3, in_place=r.in_place, repeat=r.repeat)
        for r in healthy() if r.size_bytes < GIB]
    curve = judge_curve(rows, NEED)
    assert curve.flaws == ()
    assert {flaw.quantity for flaw in curve.alerts} == {"latency"}
    assert len(curve.alerts) == 16


def test_faster_than_the_network_is_an_error() -> None:
    curve = judge_curve(but(healthy(), GIB, 1.3, repeat=2), NEED)
    assert ("all_reduce 1 GiB in place", "busbw beyond its ceiling") in said(curve)
    assert "98.04 Gb/s / 8 = 12.25 GB/s a port" in curve.flaws[0].reason
    assert judge_curve(but(healthy(noise=0), GIB, 12.3 / 10.5), NEED).flaws == ()  # within rounding


@pytest.mark.parametrize("size", [1 << 20, 64 << 20, 2 * GIB])
def test_a_dip_is_named(size: int) -> None:
    curve = judge_curve(but(healthy(), size, 0.2 if size < 2 << 20 else 0.6), NEED)
    dips = [flaw for flaw in curve.flaws if flaw.quantity == "dip in the curve"]
    assert {flaw.subject for flaw in dips} == {f"all_reduce {size_text(size)} {mode}" for mode in
                                               ("in place", "out of place")}


def test_a_wide_dip_is_one_dip() -> None:
    curve = judge_curve(but(but(healthy(), 64 << 20, 0.6, in_place=True), 128 << 20, 0.5, in_place=True), NEED)
    assert said(curve) == [("all_reduce 128 MiB in place", "dip in the curve")]


def test_a_curve_that_falls_at_its_end_dips() -> None:
    curve = judge_curve(but(healthy(), 8 * GIB, 0.77), NEED)
    assert ("all_reduce 8 GiB in place", "dip in the curve") in said(curve)


def test_one_slow_repeat_is_no_dip() -> None:
    assert judge_curve(but(healthy(), 64 << 20, 0.5, repeat=1), NEED).flaws == ()


def test_noise_makes_no_dip() -> None:
    """What stands out by less than the repeats scatter everywhere."""
    rows = healthy(noise=0)
    for size in NEED.sizes:
        for repeat, factor in enumerate((0.8, 0.9, 1.0, 1.1, 1.2)):
            rows = but(rows, size, 0.75 if size == 64 << 20 else factor, repeat=repeat)
    assert [flaw.quantity for flaw in judge_curve(rows, NEED).flaws if "dip" in flaw.quantity] == []


def test_repeats_that_differ_much_are_told() -> None:
    rows = healthy()
    for repeat, factor in enumerate((0.8, 1.15, 1.0, 1.15, 0.8)):
        rows = but(rows, 4 * GIB, factor, repeat=repeat)
    curve = judge_curve(rows, NEED)
    assert {flaw.quantity for flaw in curve.alerts} == {"spread of the repeats"}


def test_wrong_results_are_named_with_size_and_rank() -> None:
    rows = healthy()
    rows[100] = replace(rows[100], wrong=17, wrong_ranks=(5, 6))
    [only] = judge_curve(rows, NEED).flaws
    assert only.measured == 17
    assert only.subject.startswith(f"all_reduce {size_text(rows[100].size_bytes)}")
    assert "ranks 5, 6" in only.reason


def test_an_unverified_result_is_no_right_one() -> None:
    rows = [replace(r, wrong=None) if r.size_bytes == 8 and r.in_place else r for r in healthy()]
    assert [flaw.reason for flaw in judge_curve(rows, NEED).flaws] == [
        f"repeat {n}: nobody verified the result" for n in range(5)]
    out_of_place = replace(NEED, verified=(False,))
    assert judge_curve(rows, out_of_place).flaws == ()


def test_a_run_of_fewer_ranks_is_no_run_of_all() -> None:
    rows = [row(r.size_bytes, r.busbw_gbyte_s, in_place=r.in_place, repeat=r.repeat, ranks=28) for r in healthy()]
    curve = judge_curve(rows, NEED)
    assert {flaw.quantity for flaw in curve.flaws} == {"ranks"}
    rows = healthy()
    rows[0] = replace(rows[0], silent_ranks=(31,))
    assert [flaw.sentence() for flaw in judge_curve(rows, NEED).flaws] == [
        "all_reduce 8 B out of place: ranks: repeat 0: not all took part; silent: 31"]


@pytest.mark.parametrize("change", [
    {"time_us": 0.0}, {"time_us": -1.0}, {"busbw_gbyte_s": float("nan")}, {"algbw_gbyte_s": float("inf")},
    {"time_us": 12.0}, {"busbw_gbyte_s": 9.0}, {"algbw_gbyte_s": 5.0}])
def test_figures_that_cannot_be_true_together_are_told(change: dict[str, Any]) -> None:
    rows = healthy()
    at = next(n for n, r in enumerate(rows) if r.size_bytes == GIB)
    rows[at] = replace(rows[at], **change)
    assert "figures" in {flaw.quantity for flaw in judge_curve(rows, NEED).flaws}


def test_other_collectives_have_no_floor_but_a_ceiling() -> None:
    need = curve_need(SITE.contract, LIMITS, "alltoall", modes=(False,))
    rows = [row(size, 0.1, repeat=repeat, collective="alltoall") for size in need.sizes for repeat in range(5)]
    assert judge_curve(rows, need).flaws == ()
    fast = [row(size, 4.0, repeat=repeat, collective="alltoall") for size in need.sizes for repeat in range(5)]
    assert {flaw.quantity for flaw in judge_curve(fast, need).flaws} == {"busbw beyond its ceiling"}


@given(st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall"]),
       st.integers(2, 64), st.floats(1, 1e7), st.integers(1, 1 << 34))
def test_rows_by_definition_do_not_contradict_themselves(collective: str, ranks: int, time: float, size: int) -> None:
    algbw = size / time / 1000
    good = CollectiveRow(size, False, time, algbw, algbw * bus_factor(collective, ranks), 0, ranks)
    assert contradiction(good, collective) == ""
    if algbw > 1:
        assert contradiction(replace(good, algbw_gbyte_s=algbw * 1.05), collective)
        assert contradiction(replace(good, busbw_gbyte_s=good.busbw_gbyte_s * 1.05), collective)



@pytest.mark.parametrize(("size", "text"), [(8, "8 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1 << 30, "1 GiB")])
def test_sizes_as_people_write_them(size: int, text: str) -> None:
    assert size_text(size) == text
