"""Facts fail closed: without an answer, a section or a well-formed value there is no fact, only a reason."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import Unmeasured
from acceptance.facts import Cluster, NodeFacts, Section
from acceptance.probe.sections import SECTIONS

SECTION_NAMES = ("identity", "os", "cpu", "memory", "disks", "net", "rdma", "qos", "nvml", "nvidia_smi", "topology",
                 "kernel_log", "kernel", "limits", "services", "sshd", "firewall", "accounts", "time", "resolve")
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner:
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8)
CHRONY = {"synchronised": True, "stratum": 3, "offset_s": 0.001, "reference": "ntp"}
DATA: dict[str, Any] = {
    "os": {"id": "debian", "version_id": "12", "kernel": "6.1.0"},
    "memory": {"total_mib": 524288},
    "firewall": {"active": False, "at_boot": False, "ipv6": False, "default_incoming": "allow",
                 "default_routed": "allow", "default_incoming_v6": None, "default_routed_v6": None, "rules": []},
    "limits": {"memlock_soft": "unlimited", "memlock_hard": 65536},
    "time": {"epoch_s": 1000.0, "chrony": CHRONY, "sources": [], "errors": {}},
    "resolve": {"names": {"gpu-node-01": ["10.100.0.101"]}},
    "net": {"interfaces": {}, "vlans": {}, "lldp_neighbors": None, "errors": {"lldp_neighbors": "lldpcli: not found"}},
}


def document(**changes: Any) -> dict[str, Any]:
    """What the probe answers, with some sections."""
    sections = {name: {"ok": True, "data": copy.deepcopy(data)} for name, data in DATA.items()}
    return {"probe": 1, "hostname": "h", "sections": sections, "operator": {
        "sent_epoch_s": 999.5, "received_epoch_s": 1000.5}} | changes


def node(answer: Any, reason: str | None = None) -> NodeFacts:
    return NodeFacts.from_document("gpu-node-01", ("gpu_nodes",), "10.100.0.101", answer, reason, "e0001")


def test_every_section_of_the_probe_has_its_facts_and_no_other_is_asked_for() -> None:
    assert set(SECTIONS) == set(SECTION_NAMES)
    assert all(hasattr(NodeFacts, name) for name in SECTION_NAMES)


def test_what_was_read() -> None:
    facts = node(document())
    assert facts.answered
    assert (facts.os.id, facts.memory.total_mib, facts.firewall.active) == ("debian", 524288, False)
    assert facts.limits.memlock_soft == "unlimited"
    assert facts.resolve == {"gpu-node-01": ["10.100.0.101"]}


@pytest.mark.parametrize("name", SECTION_NAMES)
def test_a_host_without_an_answer_has_no_fact_but_the_reason(name: str) -> None:
    for facts in (node(None, "timed out: no answer within 20 s"), node(document(), "timed out: no answer within 20 s")):
        with pytest.raises(Unmeasured, match="gpu-node-01: no facts: timed out: no answer within 20 s"):
            getattr(facts, name)
    with pytest.raises(Unmeasured):
        getattr(node({**document(), "sections": {}}), name)


def test_a_failed_section_gives_its_reason() -> None:
    failed = document(sections={"os": {"ok": False, "error": "no answer within 5 s"}})
    with pytest.raises(Unmeasured, match="gpu-node-01: os: no answer within 5 s"):
        _ = node(failed).os


@pytest.mark.parametrize("answer", [{}, {"probe": 2, "sections": {}}, {"probe": True, "sections": {}}, {"probe": 1},
                                    {"probe": 1, "sections": []}, {"probe": "1", "sections": {}}])
def test_another_document_is_no_answer(answer: Any) -> None:
    facts = node(answer)
    assert not facts.answered
    assert facts.reason
    with pytest.raises(Unmeasured):
        _ = facts.os


@pytest.mark.parametrize("entry", [
    None, [], "ok", {}, {"ok": "true", "data": DATA["os"]}, {"ok": 1, "data": DATA["os"]}, {"ok": True},
    {"ok": True, "data": None}, {"ok": True, "data": []}])
def test_a_malformed_section_is_no_fact(entry: Any) -> None:
    with pytest.raises(Unmeasured):
        _ = node(document(sections={"os": entry})).os


@pytest.mark.parametrize("change", [
    lambda d: d["memory"].update(total_mib="524288"), lambda d: d["memory"].update(total_mib=True),
    lambda d: d["memory"].update(total_mib=None), lambda d: d["memory"].update(total_mib=1.5),
    lambda d: d["memory"].update(more=1), lambda d: d["memory"].clear(),
])
def test_a_value_of_another_kind_is_no_fact(change: Callable[[dict[str, Any]], None]) -> None:
    data = copy.deepcopy(DATA)
    change(data)
    with pytest.raises(Unmeasured, match="memory.*malformed answer"):
        _ = node(document(sections={"memory": {"ok": True, "data": data["memory"]}})).memory


@given(JSON, st.sampled_from(SECTION_NAMES))
def test_any_data_is_a_section_or_unmeasured(data: Any, name: str) -> None:
    for answer in (document(sections={name: {"ok": True, "data": data}}), document(sections={name: data}), data):
        with contextlib.suppress(Unmeasured):
            value = getattr(node(answer if isinstance(answer, dict) else None), name)
            assert isinstance(value, Section | dict)


@given(st.sampled_from(sorted(DATA)), st.data())
def test_a_section_with_a_key_lost_or_a_value_replaced_is_never_better(name: str, data: st.DataObject) -> None:
    fields = copy.deepcopy(DATA[name])
    key = data.draw(st.sampled_from(sorted(fields)))
    lost = {k: v for k, v in fields.items() if k != key}
    with pytest.raises(Unmeasured):
        getattr(node(document(sections={name: {"ok": True, "data": lost}})), name)
    fields[key] = data.draw(st.floats(allow_nan=True) | st.binary(max_size=3).map(str) | st.just(["x"]))
    with contextlib.suppress(Unmeasured):
        value = getattr(node(document(sections={name: {"ok": True, "data": fields}})), name)
        assert "nan" not in repr(value)


def test_lldp_that_could_not_be_read_says_why() -> None:
    with pytest.raises(Unmeasured, match="LLDP neighbours: lldpcli: not found"):
        _ = node(document()).net.lldp


@pytest.mark.parametrize(("epoch", "difference"), [
    (1000.0, 0.0), (999.5, 0.0), (1000.5, 0.0), (1005.5, 5.0), (994.5, -5.0)])
def test_the_clocks_difference_is_what_the_exchange_proves(epoch: float, difference: float) -> None:
    answer = document()
    answer["sections"]["time"]["data"]["epoch_s"] = epoch
    assert node(answer).clock_difference_s == difference


def test_a_clock_without_the_operators_beside_it_is_not_compared() -> None:
    with pytest.raises(Unmeasured, match="operator"):
        _ = node(document(operator=None)).clock_difference_s


def test_groups_of_the_cluster() -> None:
    nodes = [NodeFacts("a", ("gpu_nodes",)), NodeFacts("b", ("k8s_control",))]
    cluster = Cluster({facts.name: facts for facts in nodes})
    assert [facts.name for facts in cluster] == ["a", "b"]
    assert [facts.name for facts in cluster.of("gpu_nodes")] == ["a"]
    assert len(cluster.of("all")) == len(cluster) == 2
    assert cluster["b"] is nodes[1]
