"""Physical ceilings follow from the contract, with their derivation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ContractError
from acceptance.measure.ceilings import (
    Ceiling,
    busbw,
    busbw_inside,
    data_sheet,
    pcie,
    port_bytes,
    roce_payload,
    tcp_goodput,
)
from acceptance.measure.limits import limits_of, ranks_of
from acceptance.site.load import load_contract
from selftests.synthetic import ROOT, SITE
from selftests.test_contract import write_site

ROCE = roce_payload(100, 4096)


def over_cluster(collective: str, payload: Ceiling = ROCE, *, algorithm: str = "ring", ports: int = 1) -> Ceiling:
    """Eight nodes of four GPUs."""
    return busbw(collective, payload, ranks=32, ranks_per_node=4, ports_per_node=ports, algorithm=algorithm)


def test_the_clients_ceilings() -> None:
    limits = limits_of(SITE.contract)
    assert ranks_of(SITE.contract) == 32
    assert round(limits.tcp.value, 1) == 99.0
    assert round(limits.roce.value, 2) == 98.04
    assert round(limits.collectives["all_reduce"].value, 2) == 12.25
    assert round(limits.collectives["alltoall"].value, 2) == 3.39
    assert round(limits.host_device.value, 1) == 31.5
    assert limits.device_memory.value == 1555
    assert limits.peak["bf16"].value == 312
    assert {ceiling.unit for ceiling in limits.all} == {"Gb/s", "GB/s", "TFLOP/s"}


def test_a_derivation_is_one_line_that_ends_in_the_value() -> None:
    for ceiling in limits_of(SITE.contract).all:
        assert "\n" not in ceiling.derivation
        assert f"{ceiling.value:.4g}" in ceiling.derivation
        assert ceiling.unit in ceiling.derivation
    assert ROCE.derivation == "100 Gb/s · 4096 / (4096 + 82 of headers and frame) = 98.04 Gb/s"
    assert tcp_goodput(100, 1500, tagged=True).derivation == (
        "100 Gb/s · (1500 − 52 headers) / (1500 + 38 of the frame + 4 for the VLAN tag) = 93.9 Gb/s")
    assert over_cluster("all_reduce").derivation == (
        "RoCE v2 payload 98.04 Gb/s / 8 = 12.25 GB/s a port; with a ring over 32 ranks, 4 a node, a node's port must "
        "send 1.938 × the message, and busbw counts 1.938 ×: 1 · 12.25 / 1.938 · 1.938 = 12.25 GB/s")


@pytest.mark.parametrize(("algorithm", "value"), [("ring", 12.25), ("tree", 11.87), ("any", 13.56)])
def test_all_reduce_by_algorithm(algorithm: str, value: float) -> None:
    exactly = Ceiling("RoCE v2 payload", 98, "Gb/s", "12.25 GB/s")
    assert round(over_cluster("all_reduce", exactly, algorithm=algorithm).value, 2) == value


def test_a_tree_over_two_nodes_may_exceed_the_line() -> None:
    assert round(busbw("all_reduce", ROCE, ranks=8, ranks_per_node=4, algorithm="tree").value, 2) == 21.45
    assert round(busbw("all_reduce", ROCE, ranks=8, ranks_per_node=4).value, 2) == 12.25


def test_two_ports_carry_twice_as_much() -> None:
    one, two = (over_cluster("all_gather", ports=count).value for count in (1, 2))
    assert two == 2 * one


@pytest.mark.parametrize(("generation", "width", "value"),
                         [(3, 16, 15.75), (4, 16, 31.51), (4, 8, 15.75), (5, 16, 63.02)])
def test_pcie(generation: int, width: int, value: float) -> None:
    assert round(pcie(generation, width).value, 2) == value


def test_inside_a_node_the_slowest_link_counts() -> None:
    assert busbw_inside("all_reduce", pcie(4, 16), ranks=4).value == pcie(4, 16).value


@given(st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "broadcast"]), st.integers(2, 16),
       st.integers(1, 8))
def test_no_algorithm_beats_what_none_can_do_without(collective: str, nodes: int, per_node: int) -> None:
    ranks = nodes * per_node
    least = port_bytes(collective, "any", ranks, per_node)
    assert least <= port_bytes(collective, "ring", ranks, per_node)
    assert least <= port_bytes(collective, "tree", ranks, per_node)


@pytest.mark.parametrize("call", [
    lambda: pcie(9, 16), lambda: pcie(4, 3), lambda: busbw("all_reduce", ROCE, ranks=30, ranks_per_node=4),
    lambda: busbw("all_reduce", ROCE, ranks=4, ranks_per_node=4), lambda: over_cluster("gather"),
    lambda: over_cluster("all_reduce", algorithm="nvls"), lambda: busbw_inside("all_reduce", ROCE, ranks=1),
    lambda: over_cluster("all_reduce", pcie(4, 16)), lambda: over_cluster("all_reduce", ports=0),
    lambda: roce_payload(0, 4096), lambda: tcp_goodput(100, 40)])
def test_senseless_hardware_has_no_ceiling(call: Callable[[], Ceiling]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call()


def test_a_figure_above_is_an_error_and_below_a_share() -> None:
    ceiling = data_sheet("bf16 peak", 312, "TFLOP/s", "A100")
    assert [ceiling.exceeded(value, 1) for value in (300, 312, 315, 315.2, float("nan"), float("inf"))] == [
        False, False, False, True, True, True]
    assert ceiling.share_percent(156) == 50


def test_a_lab_with_limited_ports_has_limits_of_its_own() -> None:
    limits = limits_of(load_contract(ROOT / "lab" / "site.yaml"))
    assert round(limits.tcp.value, 3) == 0.198
    assert round(limits.collectives["all_reduce"].value, 4) == 0.0248
    assert "TCP goodput" in limits.collectives["all_reduce"].derivation


def _hosts(contract: dict[str, Any]) -> None:
    contract["hosts"]["gpu_nodes"] = 1


@pytest.mark.parametrize(("change", "expected"), [
    (lambda c: c["performance"]["collectives"].update(target_busbw_gbyte_s=13), "beyond what the contracted hardware"),
    (lambda c: c["performance"]["memcpy"].update(min_host_to_device_gbyte_s=40), "31.51 GB/s"),
    (lambda c: c["hosts"].pop("gpu_nodes"), "no group gpu_nodes"), (_hosts, "two nodes or more"),
    (lambda c: c["gpu"].update(pcie_generation=9), "unknown PCIe link")])
def test_a_contract_that_asks_for_the_impossible_is_refused(
        tmp_path: Path, change: Callable[[dict[str, Any]], Any], expected: str) -> None:
    with pytest.raises(ContractError, match=expected):
        limits_of(load_contract(write_site(tmp_path, change)))


@pytest.mark.parametrize(("change", "expected"), [
    (lambda p: p["collectives"]["sizes"].update(last=9000000000), "not 8 times a power of 2"),
    (lambda p: p["collectives"].update(threshold_from_bytes=10**10), "no size reaches threshold_from_bytes"),
    (lambda p: p["collectives"].update(target_busbw_gbyte_s=7), "below min_busbw_gbyte_s"),
    (lambda p: p["collectives"].update(backend="gloo"), "gloo knows TCP only"),
    (lambda p: p["collectives"].update(others=["all_reduce"]), "always run"),
    (lambda p: p["collectives"].update(others=["alltoall", "alltoall"]), "each of the others once"),
    (lambda p: p["gemm"]["min_tflops"].update(fp16=400), "min_tflops.fp16"),
    (lambda p: p["gemm"]["peak_tflops"].pop("tf32"), "min_tflops.tf32"),
    (lambda p: p["memcpy"].update(min_device_gbyte_s=2000), "above peak_device_gbyte_s"),
    (lambda p: p.pop("deadlines"), "performance.deadlines is missing"),
    (lambda p: p["training"].update(effciency=85), "unknown key performance.training.effciency")])
def test_a_performance_section_that_judges_nothing_is_refused(
        tmp_path: Path, change: Callable[[dict[str, Any]], Any], expected: str) -> None:
    with pytest.raises(ContractError, match=expected):
        load_contract(write_site(tmp_path, lambda contract: change(contract["performance"])))
