"""Rounds of disjoint pairs, and physical ceilings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.measure.ceilings import ping_payload, roce_payload_gbps, tcp_goodput_gbps
from acceptance.measure.pairs import flow, flows, rounds_of_pairs


def names(count: int) -> list[str]:
    return [f"gpu-node-{number:02}" for number in range(1, count + 1)]


def test_eight_nodes_take_seven_rounds_of_four() -> None:
    rounds = rounds_of_pairs(names(8))
    assert [len(pairs) for pairs in rounds] == [4] * 7


@given(st.integers(min_value=0, max_value=41))
def test_every_pair_once_and_every_node_once_a_round(count: int) -> None:
    rounds = rounds_of_pairs(names(count))
    met = [frozenset(pair) for pairs in rounds for pair in pairs]
    assert len(met) == len(set(met)) == count * (count - 1) // 2
    assert all(len(pair) == 2 for pair in met)
    for pairs in rounds:
        busy = [name for pair in pairs for name in pair]
        assert len(busy) == len(set(busy))
    assert len(rounds) == (0 if count < 2 else count - 1 + count % 2)


def test_the_work_of_the_client_is_spread() -> None:
    first = [pair[0] for pairs in rounds_of_pairs(names(8)) for pair in pairs]
    assert max(map(first.count, names(8))) <= 5


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        rounds_of_pairs(["a", "b", "a"])


def test_flows_are_all_ordered_pairs() -> None:
    assert len(flows(names(8))) == 56
    assert flow("gpu-node-01", "gpu-node-02") == "gpu-node-01→gpu-node-02"


def test_ceilings_of_a_hundred_gigabit_port() -> None:
    assert round(tcp_goodput_gbps(100, 9000), 1) == 99.0
    assert round(tcp_goodput_gbps(100, 1500), 1) == 94.1
    assert round(tcp_goodput_gbps(100, 9000, tagged=True), 2) == 98.96
    assert round(roce_payload_gbps(100, 4096), 2) == 98.04
    assert round(roce_payload_gbps(100, 2048), 1) == 96.2
    assert round(roce_payload_gbps(100, 1024), 1) == 92.6
    assert ping_payload(9000) == 8972


@given(st.floats(min_value=0.001, max_value=1e4), st.integers(min_value=576, max_value=65535))
def test_a_ceiling_is_below_the_line(line: float, mtu: int) -> None:
    assert 0 < tcp_goodput_gbps(line, mtu, tagged=True) < tcp_goodput_gbps(line, mtu) < line
    assert 0 < roce_payload_gbps(line, mtu) < line


@pytest.mark.parametrize(("line", "mtu"), [(0, 9000), (-1, 9000), (100, 52), (100, 0)])
def test_senseless_ports_have_no_ceiling(line: float, mtu: int) -> None:
    with pytest.raises(ValueError, match="no goodput"):
        tcp_goodput_gbps(line, mtu)
