"""Numbers are written so that people read them right: few digits, no exponents, no rounding that deceives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.figures import beside, figure, span
from acceptance.findings import Finding, Findings
from acceptance.report.wording import promised, wrong


@pytest.mark.parametrize(("value", "text"), [
    (0.199952, "0.2"), (0.200466, "0.2005"), (3.4e-05, "0.000034"), (250.0, "250"), (15728.6, "15729"), (0.0, "0"),
    (-0.0035, "-0.0035"), (97.26, "97.26"), (999.96, "1000"), (1e-9, "1e-09"), (float("inf"), "inf"),
    (float("nan"), "nan"),
])
def test_a_figure(value: float, text: str) -> None:
    assert figure(value) == text


@given(st.floats(1e-5, 1e11))
def test_a_figure_is_near_what_it_stands_for_and_has_no_exponent(value: float) -> None:
    assert float(figure(value)) == pytest.approx(value, rel=5e-4)
    assert "e" not in figure(value)


@given(st.floats(0.001, 1000), st.floats(-1e-7, 1e-7))
def test_what_is_not_its_bound_does_not_look_like_it(bound: float, difference: float) -> None:
    value = bound * (1 + difference)
    if f"{value:.12g}" != f"{bound:.12g}":
        assert beside(value, [bound]) != figure(bound) or value == bound


@pytest.mark.parametrize(("values", "text"), [
    ([3.4e-05, 0.003584], "0.00003 to 0.00358"), ([0.199572, 0.207672], "0.2 to 0.208"), ([70.0, 70.0], "70"),
    ([515578, 524288], "515578 to 524288"), ([1.00001, 1.00002], "1.00001 to 1.00002"), ([-1.5, 2.25], "-1.5 to 2.25"),
    ([0.0, 0.0], "0"), ([0.0, 37.19], "0 to 37.2"),
])
def test_a_range(values: list[float], text: str) -> None:
    assert span(values) == text


def found(call: str, **named: Any) -> Finding:
    findings = Findings("n1")
    getattr(findings, call)("q", **named)
    return findings.found[0]


def test_a_tolerance_is_written_with_its_unit_once() -> None:
    near = found("within", measured=0.0035, required=0, tolerance=1, unit="s")
    assert promised(near) == "0 ± 1 s"
    assert near.sentence() == "n1: q: measured 0.0035 s, required 0 ± 1 s"
    memory = found("within", measured=500000, required=524288, tolerance=15728.64, unit="MiB")
    assert wrong(memory) == "q: measured 500000 MiB, required 524288 ± 15729 MiB"


def test_a_failure_by_less_than_the_digits_shown_says_by_how_much() -> None:
    low = found("at_least", measured=0.89999, required=0.9, unit="Gb/s")
    assert low.sentence() == "n1: q: measured 0.89999 Gb/s, required ≥ 0.9 Gb/s"
    assert wrong(low) == "q: measured 0.89999 Gb/s, required ≥ 0.9 Gb/s"
    far = found("within", measured=1.00001, required=0, tolerance=1.0, unit="s")
    assert far.sentence() == "n1: q: measured 1.00001 s, required 0 ± 1 s"
    assert span([0.5, 0.8999], [0.9]) == "0.5 to 0.8999"
    equal = found("equal", measured=250.00001, required=250.0, unit="W")
    assert wrong(equal) == "q: measured 250.00001 W, required 250 W"


def test_what_was_not_found_is_still_required_at_least() -> None:
    gone = found("fail", reason="helm: not found", required="3.12", relation="≥")
    assert promised(gone) == "≥ 3.12"
