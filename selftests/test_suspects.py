"""A slow node is told from a slow link."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acceptance.measure.pairs import flows
from acceptance.measure.suspects import suspects

NAMES = [f"n{number}" for number in range(1, 9)]
EIGHT = st.sampled_from(NAMES)


def named(bad: set[tuple[str, str]], names: list[str] = NAMES) -> list[tuple[str, str]]:
    found = suspects({pair: pair not in bad for pair in flows(names)})
    assert all(suspect.sentence() for suspect in found)
    return [(suspect.kind, suspect.subject) for suspect in found]


def test_nobody_is_suspected_when_all_is_well() -> None:
    assert named(set()) == []
    assert suspects({}) == []


@given(EIGHT)
def test_a_slow_node(name: str) -> None:
    assert named({pair for pair in flows(NAMES) if name in pair}) == [("node", name)]


@given(EIGHT)
def test_a_node_that_is_slow_one_way(name: str) -> None:
    assert named({pair for pair in flows(NAMES) if pair[0] == name}) == [("sending", name)]
    assert named({pair for pair in flows(NAMES) if pair[1] == name}) == [("receiving", name)]


@given(EIGHT, EIGHT)
def test_a_slow_link(one: str, other: str) -> None:
    if one == other:
        return
    first, second = sorted((one, other))
    assert named({(one, other), (other, one)}) == [("link", f"{first}↔{second}")]
    assert named({(one, other)}) == [("link", f"{one}→{other}")]


@given(st.sets(EIGHT, min_size=1, max_size=3))
def test_several_slow_nodes(slow: set[str]) -> None:
    bad = {pair for pair in flows(NAMES) if slow & set(pair)}
    assert sorted(named(bad)) == sorted(("node", name) for name in slow)


def test_a_slow_node_and_a_slow_link_elsewhere() -> None:
    bad = {pair for pair in flows(NAMES) if "n3" in pair} | {("n5", "n6"), ("n6", "n5")}
    assert named(bad) == [("node", "n3"), ("link", "n5↔n6")]


def test_a_slow_node_with_one_lucky_flow_is_still_found() -> None:
    bad = {pair for pair in flows(NAMES) if "n3" in pair} - {("n3", "n7")}
    assert named(bad) == [("node", "n3")]


def test_two_bad_links_of_one_node_are_links() -> None:
    bad = {("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")}
    assert named(bad) == [("link", "n1↔n2"), ("link", "n1↔n3")]


def test_all_bad_is_nobodys_own_fault() -> None:
    assert named(set(flows(NAMES))) == [("fabric", "fabric")]


def test_two_nodes_alone_cannot_be_told_apart() -> None:
    assert named({("n1", "n2"), ("n2", "n1")}, ["n1", "n2"]) == [("only link", "n1↔n2")]


def test_flows_that_were_not_measured_do_not_count() -> None:
    measured = {pair: "n3" not in pair for pair in flows(NAMES) if "n8" not in pair}
    assert [(s.kind, s.subject) for s in suspects(measured)] == [("node", "n3")]


@given(st.sets(st.sampled_from(flows(NAMES))))
def test_every_bad_flow_is_explained(bad: set[tuple[str, str]]) -> None:
    found = suspects({pair: pair not in bad for pair in flows(NAMES)})
    for source, target in bad:
        first, second = sorted((source, target))
        links = {f"{source}→{target}", f"{first}↔{second}"}
        assert any(
            s.kind == "fabric" or s.subject in links or (s.kind in ("node", "sending") and s.subject == source)
            or (s.kind in ("node", "receiving") and s.subject == target) for s in found
        )


def test_of_two_nodes_nobody_knows_which_one_it_is() -> None:
    [only] = suspects({("a", "b"): False, ("b", "a"): True})
    assert (only.kind, only.subject) == ("only link", "a→b")
    assert "others" not in only.sentence()


@given(EIGHT, EIGHT)
def test_a_suspect_explains_the_flows_that_made_it_one(name: str, other: str) -> None:
    for bad in ({pair for pair in flows(NAMES) if name in pair}, {pair for pair in flows(NAMES) if pair[0] == name},
                {pair for pair in flows(NAMES) if pair[1] == name}, {(name, other), (other, name)} & set(flows(NAMES)),
                {(name, other)} & set(flows(NAMES)), set(flows(NAMES))):
        found = suspects({pair: pair not in bad for pair in flows(NAMES)})
        assert {pair for pair in flows(NAMES) if any(one.explains(*pair) for one in found)} == bad
