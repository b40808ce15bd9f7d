"""Findings fail closed: nothing, None, NaN and the wrong kind of value are never a pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.findings import Findings, Verdict, show

Call = Callable[[Findings, Any], None]
COMPARISONS: list[Call] = [
    lambda f, x: f.equal("q", measured=x, required=4),
    lambda f, x: f.at_least("q", measured=x, required=4),
    lambda f, x: f.at_most("q", measured=x, required=4),
    lambda f, x: f.within("q", measured=x, required=4, tolerance=0.5),
    lambda f, x: f.one_of("q", measured=x, required=[4]),
]


def verdict(call: Call, value: Any) -> Verdict:
    findings = Findings("gpu-node-01")
    call(findings, value)
    return findings.verdict()


@pytest.mark.parametrize("call", COMPARISONS)
def test_the_required_value_passes_and_none_is_blocked(call: Call) -> None:
    assert verdict(call, 4) is Verdict.PASS
    assert verdict(call, None) is Verdict.BLOCKED


@pytest.mark.parametrize("call", COMPARISONS)
@pytest.mark.parametrize("value", [float("nan"), "4", "", [], {}, [4]])
def test_no_damaged_value_passes(call: Call, value: Any) -> None:
    assert verdict(call, value) is Verdict.FAIL


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), True, False])
def test_infinity_and_truth_are_no_measurements(value: Any) -> None:
    for call in COMPARISONS[1:4]:
        assert verdict(call, value) is Verdict.FAIL


def test_true_is_not_one() -> None:
    assert verdict(lambda f, x: f.equal("q", measured=x, required=1), True) is Verdict.FAIL
    assert verdict(lambda f, x: f.equal("q", measured=x, required=True), 1) is Verdict.FAIL


def test_judging_nothing_is_a_failure() -> None:
    assert Findings("cluster").verdict() is Verdict.FAIL


def test_one_failure_outweighs_what_is_blocked_and_blocked_outweighs_pass() -> None:
    findings = Findings("cluster")
    findings.equal("a", measured=1, required=1)
    findings.blocked("b", "host down")
    assert findings.verdict() is Verdict.BLOCKED
    findings.fail("c", "wrong")
    assert findings.verdict() is Verdict.FAIL


def test_sets_say_what_is_missing_and_what_is_extra() -> None:
    findings = Findings("gpu-node-01")
    findings.same_set("open ports", measured=["22/tcp", "80/tcp"], required=["22/tcp", "10250/tcp"])
    assert findings.verdict() is Verdict.FAIL
    assert findings.found[0].reason == "missing: 10250/tcp; extra: 80/tcp"


def test_an_empty_list_passes_only_if_it_was_read() -> None:
    assert verdict(lambda f, x: f.empty("failed units", measured=x), []) is Verdict.PASS
    assert verdict(lambda f, x: f.empty("failed units", measured=x), None) is Verdict.BLOCKED
    assert verdict(lambda f, x: f.empty("failed units", measured=x), ["a"]) is Verdict.FAIL


@given(st.text())
def test_shown_text_has_no_control_characters(text: str) -> None:
    assert all(c.isprintable() for c in show(text))


@given(st.one_of(st.none(), st.booleans(), st.text(), st.floats(), st.lists(st.integers())))
def test_nothing_but_a_number_within_limits_passes_a_limit(value: Any) -> None:
    passed = verdict(COMPARISONS[1], value) is Verdict.PASS
    assert passed == (isinstance(value, float) and 4 <= value < float("inf"))


def test_causes_stand_before_what_they_explain_in_their_own_order() -> None:
    findings = Findings("cluster")
    findings.at_least("bandwidth", measured=1, required=2)
    findings.cause("cause", "the port of a", subject="a", evidence=["e0001"])
    findings.cause("cause", "the port of b", subject="b")
    assert [finding.subject for finding in findings.found] == ["a", "b", "cluster"]
    assert findings.found[0].sentence() == "a: cause: the port of a"
    assert findings.found[0].evidence == ("e0001",)
    assert findings.verdict() is Verdict.FAIL
