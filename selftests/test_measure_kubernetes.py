"""Numbers and rights reckoned from what Kubernetes says."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ParseError
from acceptance.facts.kubernetes import Binding, Rule
from acceptance.measure.etcd import gauge, observations, p99_ms, parse_metrics
from acceptance.measure.grants import dangers, holders
from acceptance.measure.quantities import quantity
from selftests.synthetic_kubernetes import etcd_sample, histogram

NAME = "etcd_disk_wal_fsync_duration_seconds"


def test_p99_lies_in_the_bucket_of_its_rank() -> None:
    last = parse_metrics(histogram(NAME, 0.003, 500))
    assert 2 < p99_ms({}, last, NAME) < 4
    slow = parse_metrics([f'{NAME}_bucket{{le="0.001"}} 90', f'{NAME}_bucket{{le="0.1"}} 100',
                          f'{NAME}_bucket{{le="+Inf"}} 100', f"{NAME}_count 100"])
    assert p99_ms({}, slow, NAME) == pytest.approx(1000 * (0.001 + 0.099 * 0.9))
    beyond = parse_metrics([f'{NAME}_bucket{{le="8"}} 0', f'{NAME}_bucket{{le="+Inf"}} 5'])
    assert p99_ms({}, beyond, NAME) == 8000


def test_only_what_was_added_between_two_samples_counts() -> None:
    before, after = (parse_metrics(histogram(NAME, 0.002, n)) for n in (1000, 1050))
    assert observations(before, after, NAME) == 50
    assert p99_ms(before, after, NAME) < 4
    with pytest.raises(ParseError, match="no .* meanwhile"):
        p99_ms(after, after, NAME)
    with pytest.raises(ParseError, match="restarted"):
        p99_ms(after, before, NAME)


@pytest.mark.parametrize("lines", [[], ["# HELP"], ["etcd_server_has_leader"], ["etcd_server_has_leader one"]])
def test_metrics_that_are_none_are_refused(lines: list[str]) -> None:
    with pytest.raises(ParseError):
        gauge(parse_metrics(lines), "etcd_server_has_leader")
    with pytest.raises(ParseError):
        p99_ms({}, parse_metrics(lines), NAME)


def test_a_whole_sample_is_read() -> None:
    assert gauge(parse_metrics(etcd_sample(10)), "etcd_server_has_leader") == 1.0


@pytest.mark.parametrize(("text", "value"), [
    ("1", 1), ("1000m", 1), ("0.5", Fraction(1, 2)), ("1Gi", 2**30), ("1024Mi", 2**30), ("1G", 10**9), ("1e3", 1000),
    ("5E", 5 * 10**18), ("812450n", Fraction(812450, 10**9)), ("12Ki", 12288)])
def test_quantities(text: str, value: Fraction | int) -> None:
    assert quantity(text) == value


@given(text=st.text(max_size=8))
def test_what_is_no_quantity_raises(text: str) -> None:
    try:
        assert isinstance(quantity(text), Fraction)
    except ParseError:
        return


def rule(verbs: str, resources: str, groups: str = "", names: str = "") -> Rule:
    return Rule(verbs=verbs.split(), resources=resources.split(), groups=groups.split() or [""], names=names.split(),
                urls=[])


@pytest.mark.parametrize(("rules", "everywhere", "expected"), [
    ([rule("*", "*", "*")], True, "does everything"), ([rule("*", "pods")], False, "has a wildcard"),
    ([rule("get list", "secrets")], True, "reads all secrets"), ([rule("create", "pods/exec")], True, "runs commands"),
    ([rule("get", "nodes/proxy")], True, "runs commands"), ([rule("impersonate", "users")], False, "acts as others"),
    ([rule("bind", "clusterroles", "rbac.authorization.k8s.io")], False, "gives any role"),
    ([rule("approve", "signers", "certificates.k8s.io")], True, "certificates signed"),
    ([rule("create", "*/exec")], True, "runs commands")])
def test_rights_that_lead_further_are_seen(rules: list[Rule], everywhere: bool, expected: str) -> None:
    assert "; ".join(dangers(rules, everywhere)).count(expected)


@pytest.mark.parametrize(("rules", "everywhere"), [
    ([rule("get list watch", "pods nodes services")], True), ([rule("create", "pods")], False),
    ([rule("get", "secrets")], False), ([rule("impersonate", "users", names="nlp-scientist")], True),
    ([rule("create", "subjectaccessreviews", "authorization.k8s.io")], True), ([], True)])
def test_ordinary_rights_are_not(rules: list[Rule], everywhere: bool) -> None:
    assert dangers(rules, everywhere) == []


def test_everybody_and_masters_are_told_whatever_their_role_is() -> None:
    bindings = [Binding(name="b", namespace="", role_kind="ClusterRole", role="r", subjects=[
        "Group system:authenticated", "Group system:masters", "Group auditors"])]
    found = {one.subject: one.dangers for one in holders(bindings, {("", "r"): [rule("get", "pods")]})}
    assert found == {"Group system:authenticated": ("bound to everybody",),
                     "Group system:masters": ("bound to system:masters",)}
    assert all(one.dangers[-1] == "its role is not there" for one in holders(bindings, {}))
