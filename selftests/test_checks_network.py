"""The checks of the fabric: green on a healthy one, red with the right subject otherwise, blocked without evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acceptance.evidence import Evidence
from acceptance.facts import Cluster
from acceptance.findings import Findings, Verdict
from selftests.synthetic import SITE, Break, Broken, judge_check, reds, subjects
from selftests.synthetic_network import (
    FABRIC,
    GPU_NODES,
    RDMA,
    bandwidth,
    changed,
    evidence,
    jumbo,
    network_sections,
    rdma,
    unreachable,
)

NODE = "gpu-node-03"
PER_NODE = ["link", "mtu", "vlan", "rdma-device", "roce-qos"]


def cluster(*changes: Break, down: tuple[str, ...] = (), failed: dict[str, str] | None = None) -> Cluster:
    """A healthy cluster but for NODE, to which the changes are made."""
    breaks = {host.name: [network_sections(host), *(changes if host.name == NODE else ())] for host in SITE.hosts}
    return Broken(breaks=dict(breaks), down=down, failed={NODE: failed} if failed else {}).cluster()


def judge(check: str, facts: Cluster | None = None, proof: Evidence | None = None, node: str = NODE) -> Findings:
    return judge_check(check, facts or cluster(), node, proof)


@pytest.mark.parametrize("check", PER_NODE)
def test_a_healthy_port_is_green(check: str) -> None:
    findings = judge(check)
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize("check", PER_NODE)
def test_a_silent_node_is_blocked(check: str) -> None:
    assert judge(check, cluster(down=(NODE,))).verdict() is Verdict.BLOCKED
    lost = dict.fromkeys(("net", "rdma", "qos"), "took too long")
    findings = judge(check, cluster(failed=lost))
    assert findings.verdict() is Verdict.BLOCKED
    assert "took too long" in reds(findings)[0].reason


def on_port(**values: Any) -> Break:
    return lambda s: s["net"]["interfaces"][FABRIC.interface].update(values)


def on_rdma(**values: Any) -> Break:
    return lambda s: s["rdma"]["devices"][RDMA.device]["ports"]["1"].update(values)


def only_roce_v1(sections: dict[str, Any]) -> None:
    sections["rdma"]["devices"][RDMA.device]["ports"]["1"]["gids"].pop()


DEFECTS: list[tuple[str, Break, str]] = [
    ("link", on_port(operstate="down", speed_mbps=None, duplex=None), "state: measured down"),
    ("link", on_port(speed_mbps=25000), "speed: measured 25000 Mb/s, required = 100000"),
    ("link", on_port(duplex="half"), "duplex: measured half"),
    ("link", on_port(carrier_changes=9), "measured 9, required ≤ 2"),
    ("link", lambda s: s["net"]["interfaces"].clear(), f"no interface {FABRIC.interface}"),
    ("mtu", on_port(mtu=1500), "MTU: measured 1500"),
    ("vlan", lambda s: s["net"]["lldp_neighbors"][0].update(vlan_ids=[200]), "missing: 100; extra: 200"),
    ("vlan", lambda s: s["net"]["lldp_neighbors"][0].update(vlan_ids=[100, 200]), "extra: 200"),
    ("rdma-device", on_rdma(state="DOWN"), "state: measured DOWN"),
    ("rdma-device", on_rdma(link_layer="InfiniBand"), "measured InfiniBand"),
    ("rdma-device", on_rdma(active_mtu=1024), "active_mtu: measured 1024"),
    ("rdma-device", only_roce_v1, "IB/RoCE v1"),
    ("rdma-device", on_rdma(gids=[]), f"kinds of GID of this address on {FABRIC.interface}: none"),
    ("rdma-device", lambda s: s["rdma"]["devices"].clear(), "found none, contracted mlx5_0"),
    ("roce-qos", lambda s: s["qos"].update(trust="pcp"), "trust: measured pcp"),
    ("roce-qos", lambda s: s["qos"].update(pfc_enabled=[]), "missing: 3"),
    ("roce-qos", lambda s: s["qos"].update(pfc_enabled=[3, 4]), "extra: 4"),
    ("roce-qos", lambda s: s["qos"].update(pfc_enabled=[4]), "missing: 3; extra: 4"),
    ("roce-qos", lambda s: s["qos"].update(ecn_np=[]), "notification point: measured 3"),
    ("roce-qos", lambda s: s["qos"].update(ecn_rp=[0]), "reaction point: measured 3"),
]


@pytest.mark.parametrize(("check", "change", "says"), DEFECTS)
def test_a_defect_is_red_on_its_node_alone(check: str, change: Break, says: str) -> None:
    facts = cluster(change)
    findings = judge(check, facts)
    assert findings.verdict() is Verdict.FAIL
    assert subjects(reds(findings)) == {NODE}
    assert any(says in finding.sentence() for finding in reds(findings)), [f.sentence() for f in reds(findings)]
    assert judge(check, facts, node="gpu-node-04").verdict() is Verdict.PASS


UNREAD: list[tuple[str, Break]] = [
    ("vlan", lambda s: s["net"].update(lldp_neighbors=None, errors={"lldp_neighbors": "no lldpcli"})),
    ("vlan", lambda s: s["net"].update(lldp_neighbors=[])),
    ("rdma-device", on_rdma(active_mtu=None)),
    ("roce-qos", lambda s: s["qos"].update(trust=None)),
    ("roce-qos", lambda s: s["qos"].update(pfc_enabled=None)),
    ("roce-qos", lambda s: s["qos"].update(ecn_np=None, errors={"ecn_np": "no such file"})),
]


@pytest.mark.parametrize(("check", "change"), UNREAD)
def test_what_could_not_be_read_is_blocked(check: str, change: Break) -> None:
    assert judge(check, cluster(change)).verdict() is Verdict.BLOCKED


# between nodes


def none_lost(_source: str, _target: str) -> int:
    return 0


def full(_source: str, _target: str) -> float:
    return 97.0


def test_healthy_paths_are_green() -> None:
    assert judge("jumbo-path", proof=evidence("jumbo-ping", jumbo(none_lost))).verdict() is Verdict.PASS
    assert judge("pair-bandwidth", proof=evidence("pair-bandwidth", bandwidth(full))).verdict() is Verdict.PASS
    assert judge("rdma-bandwidth", proof=evidence("rdma-bandwidth", rdma(full))).verdict() is Verdict.PASS
    assert judge("fabric-errors", proof=evidence("pair-bandwidth", bandwidth(full))).verdict() is Verdict.PASS


@pytest.mark.parametrize(("check", "collector"), [
    ("jumbo-path", "jumbo-ping"), ("pair-bandwidth", "pair-bandwidth"), ("rdma-bandwidth", "rdma-bandwidth"),
    ("fabric-errors", "pair-bandwidth"),
])
def test_no_evidence_is_blocked(check: str, collector: str) -> None:
    assert judge(check, proof=evidence(collector, [])).verdict() is Verdict.BLOCKED


def test_one_switch_port_with_a_small_mtu_is_named() -> None:
    findings = judge("jumbo-path", proof=evidence("jumbo-ping", jumbo(lambda a, b: 3 if NODE in (a, b) else 0)))
    assert findings.verdict() is Verdict.FAIL
    pairs = {f"{NODE}→{other}" for other in GPU_NODES if other != NODE}
    pairs |= {f"{other}→{NODE}" for other in GPU_NODES if other != NODE}
    assert subjects(reds(findings)) == pairs | {NODE}
    assert f"the port of {NODE}" in reds(findings)[0].reason


def test_a_node_that_is_down_blocks_its_pairs_and_names_it() -> None:
    entries = jumbo(lambda _a, b: 3 if b == NODE else 0)
    for other in GPU_NODES:
        changed(entries, f"{NODE}→{other}", lambda entry: entry.update(outcome=unreachable()))
    findings = judge("jumbo-path", proof=evidence("jumbo-ping", entries))
    blocked = [f for f in reds(findings) if f.verdict is Verdict.BLOCKED]
    assert len(blocked) == 7
    assert all(f.reason.startswith(f"{NODE}: unreachable") for f in blocked)


def slow_node(source: str, target: str) -> float:
    return 48.0 if NODE in (source, target) else 97.0


def slow_link(source: str, target: str) -> float:
    return 48.0 if {source, target} == {NODE, "gpu-node-07"} else 97.0


@pytest.mark.parametrize(("check", "collector", "make"), [
    ("pair-bandwidth", "pair-bandwidth", bandwidth), ("rdma-bandwidth", "rdma-bandwidth", rdma),
])
def test_a_slow_node_is_told_from_a_slow_link(check: str, collector: str, make: Callable[..., Any]) -> None:
    findings = judge(check, proof=evidence(collector, make(slow_node)))
    assert findings.verdict() is Verdict.FAIL
    assert [f.subject for f in findings.found if f.cause] == [findings.found[0].subject] == [NODE]
    assert len(findings.found[0].evidence) == 2 * 7  # of the slow flows, and of them alone
    findings = judge(check, proof=evidence(collector, make(slow_link)))
    assert [f.subject for f in findings.found if f.cause] == [f"{NODE}↔gpu-node-07"]
    assert findings.found[0].cause
    assert len(findings.found[0].evidence) == 2


def test_a_bandwidth_beyond_the_line_is_an_error() -> None:
    findings = judge("pair-bandwidth", proof=evidence("pair-bandwidth", bandwidth(lambda _a, _b: 99.5)))
    assert findings.verdict() is Verdict.FAIL
    assert {f.quantity for f in reds(findings)} == {"bandwidth beyond what the line can carry"}


def test_two_ways_that_differ_are_red() -> None:
    rates = {("gpu-node-01", "gpu-node-02"): 90.5}
    asymmetric = bandwidth(lambda a, b: rates.get((a, b), 98.9) if a != "gpu-node-02" else 98.9)
    assert judge("pair-bandwidth", proof=evidence("pair-bandwidth", asymmetric)).verdict() is Verdict.PASS
    rates["gpu-node-01", "gpu-node-02"] = 60.0
    uneven = bandwidth(lambda a, b: rates.get((a, b), 98.0))
    findings = judge("pair-bandwidth", proof=evidence("pair-bandwidth", uneven))
    assert "gpu-node-01↔gpu-node-02" in subjects(reds(findings))


BROKEN_PAIRS: list[tuple[dict[str, Any], str]] = [
    ({"failed": NODE, "reason": "server: no route to host"}, f"{NODE}: server: no route to host"),
    ({"client": "gpu-node-01", "server": NODE, "clients": []}, "0 clients ran, expected 4"),
    ({"client": "gpu-node-01", "server": NODE, "clients": [
        {"exit_code": None, "stdout": "", "stderr": "", "start_s": 0.0, "end_s": 16.0}] * 4}, f"did {NODE} go away?"),
    ({"client": "gpu-node-01", "server": NODE, "clients": [
        {"exit_code": 127, "stdout": "", "stderr": "not found: iperf3", "start_s": 0.0, "end_s": 0.1}] * 4}, "iperf3"),
]


@pytest.mark.parametrize(("document", "says"), BROKEN_PAIRS)
def test_a_pair_that_could_not_be_measured_is_blocked(document: dict[str, Any], says: str) -> None:
    subject = f"gpu-node-01→{NODE}"
    entries = changed(bandwidth(full), subject, lambda entry: entry.update(document=document))
    findings = judge("pair-bandwidth", proof=evidence("pair-bandwidth", entries))
    assert findings.verdict() is Verdict.BLOCKED
    assert [f.subject for f in reds(findings)] == [subject]
    assert says in reds(findings)[0].reason


def test_rdma_that_moved_nothing_or_with_another_mtu() -> None:
    entries = changed(rdma(full), f"{NODE}→gpu-node-01",
                      lambda e: e["document"]["clients"][0].update(stdout=e["document"]["clients"][0]["stdout"]
                                                                   .replace(" 1329 ", " 0 ")))
    assert judge("rdma-bandwidth", proof=evidence("rdma-bandwidth", entries)).verdict() is Verdict.FAIL
    entries = changed(rdma(full), f"{NODE}→gpu-node-01",
                      lambda e: e["document"]["clients"][0].update(stdout=e["document"]["clients"][0]["stdout"]
                                                                   .replace("4096[B]", "1024[B]")))
    assert judge("rdma-bandwidth", proof=evidence("rdma-bandwidth", entries)).verdict() is Verdict.BLOCKED


@pytest.mark.parametrize(("group", "name", "value", "verdict"), [
    ("interface", "rx_crc_errors", 19, Verdict.FAIL), ("driver", "rx_discards_phy", 8, Verdict.FAIL),
    ("rdma", "out_of_sequence", 8, Verdict.FAIL), ("interface", "rx_errors", 0, Verdict.BLOCKED),
    ("rdma", "out_of_sequence", None, Verdict.BLOCKED), ("driver", "rx_discards_phy", None, Verdict.BLOCKED),
])
def test_counters_that_grow_fall_or_vanish(group: str, name: str, value: int | None, verdict: Verdict) -> None:
    def change(entry: dict[str, Any]) -> None:
        if entry["document"]["phase"] == "after":
            entry["document"][group][name] = value

    proof = evidence("pair-bandwidth", changed(bandwidth(full), NODE, change))
    findings = judge("fabric-errors", proof=proof)
    assert findings.verdict() is verdict
    assert name in reds(findings)[0].sentence()
    assert judge("fabric-errors", proof=proof, node="gpu-node-04").verdict() is Verdict.PASS
