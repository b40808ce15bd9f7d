"""Damage never becomes a pass: what was red stays red or is blocked, and no check passes on evidence that is none."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ParseError
from acceptance.evidence import Evidence, Record
from acceptance.facts import Cluster, NodeFacts
from acceptance.findings import Verdict
from acceptance.judge import Judgement, build_cluster, judge
from acceptance.parse.kernel_log import find_trouble, same_pci_device
from acceptance.parse.ssh_login import parse_login
from acceptance.selection import load_catalogue
from acceptance.transport.shell import Outcome, Status
from selftests import test_checks_compute, test_checks_gpu, test_checks_network, test_checks_security
from selftests import test_checks_prerequisites as phase1
from selftests.synthetic import ROOT, SITE, Break, Broken, judge_check, reds
from selftests.synthetic_network import bandwidth, changed, evidence, exited, jumbo, network_sections, ping_text, rdma

NODE = "gpu-node-03"
CHECKS = load_catalogue(ROOT)
RECORDED = sorted(check.id for check in CHECKS.values() if check.needs)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 99) | st.floats() | st.text(max_size=6), lambda inner:
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8)
JUNK: tuple[Any, ...] = (None, True, 7, 0.5, float("nan"), float("inf"), "damaged", [], {}, [None], {"a": 1})

FACTS: list[tuple[str, Break]] = [
    *((check, change) for check, change, *_ in test_checks_gpu.DEFECTS),
    *((check, change) for check, change, *_ in test_checks_compute.DEFECTS),
    *((check, change) for check, change, *_ in test_checks_network.DEFECTS),
    *((check, change) for check, change, *_ in test_checks_security.DEFECTS),
]


def kind(value: Any) -> str:
    """What pydantic's strict mode tells apart; NaN and infinity stand alone, since limits must refuse them."""
    if isinstance(value, float) and not abs(value) < float("inf"):
        return "no number"
    return "number" if type(value) in (int, float) else type(value).__name__


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inner for found in ((*path, key), *places(part, (*path, key)))]


GONE = object()


def ways_to_hurt(whole: Any, path: tuple[Any, ...]) -> list[Any]:
    """What may stand in one place instead: nothing at all, or a value of another kind."""
    *way, last = path
    for key in way:
        whole = whole[key]
    # where nothing was read, any value would be news, not damage; an entry of a list may be the defect itself
    other = [junk for junk in JUNK if whole[last] is not None and kind(junk) != kind(whole[last])]
    return [*other, *([GONE] if isinstance(whole, dict) else [])]


def hurt_at(whole: Any, path: tuple[Any, ...], by: Any) -> Any:
    """A copy with one place damaged."""
    whole = inner = copy.deepcopy(whole)
    *way, last = path
    for key in way:
        inner = inner[key]
    if by is GONE:
        del inner[last]
    else:
        inner[last] = copy.deepcopy(by)
    return whole


def hurt(data: st.DataObject, whole: Any) -> Any:
    """A copy without one key, or with a value of another kind in one place."""
    path = data.draw(st.sampled_from(places(whole)))
    ways = ways_to_hurt(whole, path)
    return hurt_at(whole, path, data.draw(st.sampled_from(ways))) if ways else whole


def differing(one: Any, other: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths in `other` to what is not the same in `one`, and to all that these stand in."""
    if one == other:
        return []
    inner: list[tuple[Any, ...]] = []
    if isinstance(one, dict) and isinstance(other, dict):
        inner = [p for key in other for p in differing(one.get(key), other[key], (*path, key))]
    elif isinstance(one, list) and isinstance(other, list):
        before = [*one, *[None] * len(other)]
        inner = [p for n, part in enumerate(other) for p in differing(before[n], part, (*path, n))]
    return [*([path] if path else []), *inner]


def with_document(cluster: Cluster, document: Any) -> Cluster:
    """The cluster, in which the sick node has answered this."""
    host = SITE.host(NODE)
    return Cluster({**cluster.nodes, NODE: NodeFacts(NODE, host.groups, host.address, document, None, "e1")})


def sick(change: Break) -> Cluster:
    """A cluster on which one node has a defect."""
    breaks = {h.name: [network_sections(h), *([change] if h.name == NODE else [])] for h in SITE.hosts}
    return Broken(breaks=dict(breaks)).cluster()


HEALTHY = sick(lambda _: None)


def verdict(check: str, cluster: Cluster, proof: Evidence | None = None) -> Verdict:
    return judge_check(check, cluster, NODE, proof or watched(cluster)).verdict()


def watched(cluster: Cluster) -> Evidence:
    """What the collector of PCIe samples would have recorded of the same node."""
    return Evidence(tuple(Record(f"e{n}", "", "pcie-samples", NODE, None, None, cluster[NODE].document)
                          for n in range(2)))


@pytest.mark.parametrize(("check", "change"), FACTS)
def test_the_defect_is_red_before_it_is_damaged(check: str, change: Break) -> None:
    assert verdict(check, sick(change)) is not Verdict.PASS


@pytest.mark.parametrize(("check", "change"), FACTS)
def test_the_defect_itself_damaged_in_any_way_never_passes(check: str, change: Break) -> None:
    cluster = sick(change)
    document = cluster[NODE].document
    for path in differing(HEALTHY[NODE].document, document):
        for by in ways_to_hurt(document, path):
            damaged = with_document(cluster, hurt_at(document, path, by))
            assert verdict(check, damaged) is not Verdict.PASS, (path, by)


@given(case=st.sampled_from(FACTS), data=st.data())
def test_damaged_facts_of_a_sick_node_never_pass(case: tuple[str, Break], data: st.DataObject) -> None:
    check, change = case
    cluster = sick(change)
    whole: Any = cluster[NODE].document
    document, hurt_before = whole, None
    for path in data.draw(st.lists(st.sampled_from(places(whole)), min_size=1, max_size=2)):
        ways = ways_to_hurt(whole, path)
        # the damage of damage may be the right value again
        if ways and not (hurt_before and all(a == b for a, b in zip(path, hurt_before, strict=False))):
            document, hurt_before = hurt_at(document, path, data.draw(st.sampled_from(ways))), path
    assert verdict(check, with_document(cluster, document)) is not Verdict.PASS


@given(data=st.data())
def test_damaged_facts_of_a_healthy_node_break_no_check(data: st.DataObject) -> None:
    cluster = with_document(HEALTHY, hurt(data, HEALTHY[NODE].document))
    for check in sorted({check for check, _ in FACTS}):
        verdict(check, cluster)


# evidence of the other collectors


def grown(entry: dict[str, Any]) -> None:
    if entry["document"]["phase"] == "after":
        entry["document"]["interface"]["rx_crc_errors"] = 19


def slow(source: str, target: str) -> float:
    return 48.0 if NODE in (source, target) else 97.0


SICK: dict[str, Callable[[], Evidence]] = {
    "reachability": lambda: phase1.pings(exited(ping_text(10, 4))),
    "clock": lambda: phase1.clocks((100.0, 100.1, "205.05\n")),
    "ssh-access": lambda: phase1.access(exited("user=nobody\nsudo=1\n")),
    "host-names": lambda: phase1.here(gpu_node_03=exited("10.100.0.99 STREAM gpu-node-03\n")),
    "tool-versions": lambda: phase1.tools(helm=exited("v2.9.4")),
    "ldap": lambda: phase1.directory(wrong_password={"ok": True, "detail": "success", "code": 0}),
    "jumbo-path": lambda: evidence("jumbo-ping", jumbo(lambda a, b: 3 if NODE in (a, b) else 0)),
    "pair-bandwidth": lambda: evidence("pair-bandwidth", bandwidth(slow)),
    "rdma-bandwidth": lambda: evidence("rdma-bandwidth", rdma(slow)),
    "fabric-errors": lambda: evidence("pair-bandwidth", changed(bandwidth(lambda *_: 97.0), NODE, grown)),
    "sshd": lambda: Evidence(tuple(test_checks_security.logins(admin_password=exited()))),
    "firewall-behaviour": lambda: Evidence(tuple(test_checks_security.probed(
        lambda steps: [steps[end]["ends"].update({"47808": "connected"}) for end in ("operator", "peer")]))),
}


def test_every_check_that_reads_more_than_facts_is_among_them() -> None:
    others = {"facts", "pcie-samples", "etcd"}  # those of Kubernetes are in test_damage_kubernetes.py
    assert set(SICK) == {check.id for check in CHECKS.values()
                         if any(need not in others and not need.startswith("kube-") for need in check.needs)}


@pytest.mark.parametrize("check", sorted(SICK))
def test_the_defect_is_red_before_its_evidence_is_damaged(check: str) -> None:
    findings = judge_check(check, HEALTHY, NODE, SICK[check]())
    assert findings.verdict() is Verdict.FAIL, [finding.sentence() for finding in reds(findings)]


def hurt_record(data: st.DataObject, record: Record) -> Record:
    """One record with its text cut, its outcome lost or ended otherwise, or its document damaged."""
    outcome = record.outcome
    into_document = data.draw(st.booleans())
    if into_document and places(record.document):
        return replace(record, document=hurt(data, record.document))
    if outcome is None:
        return replace(record, document=data.draw(st.sampled_from(JUNK)))
    cut = outcome.stdout[:data.draw(st.integers(0, len(outcome.stdout)))]
    return replace(record, outcome=data.draw(st.sampled_from([
        None, replace(outcome, stdout=cut), replace(outcome, exit_code=255), replace(outcome, exit_code=None),
        Outcome("timed-out", None, cut, "", 9.0, "no end"), Outcome("unreachable", None, cut, "", 9.0, "no route")])))


@given(check=st.sampled_from(sorted(SICK)), data=st.data())
def test_damaged_evidence_of_something_sick_never_passes(check: str, data: st.DataObject) -> None:
    records = list(SICK[check]().all)
    at = data.draw(st.integers(0, len(records) - 1))
    records[at:at + 1] = [] if data.draw(st.integers(0, 3)) == 0 else [hurt_record(data, records[at])]
    assert judged(check, Evidence(tuple(records))).verdict is not Verdict.PASS


@pytest.mark.parametrize("check", sorted(SICK))
def test_documents_of_something_sick_without_any_one_key_never_pass(check: str) -> None:
    records = list(SICK[check]().all)
    of_node = [n for n, record in enumerate(records) if NODE in record.subject and record.document is not None]
    alone = [n for n in of_node if records[n].subject == NODE]
    for n in {*of_node[:2], *alone} or range(len(records)):
        for path in places(records[n].document):
            for by in [way for way in ways_to_hurt(records[n].document, path) if way is GONE or way is None]:
                document = hurt_at(records[n].document, path, by)
                proof = Evidence((*records[:n], replace(records[n], document=document), *records[n + 1:]))
                assert judged(check, proof).verdict is not Verdict.PASS, (records[n].subject, path, by)


def judged(id: str, proof: Evidence, cluster: Cluster = HEALTHY) -> Judgement:
    """Judge one check as a run does, on a node of the cluster or on all of it."""
    check = CHECKS[id]
    function = getattr(sys.modules[check.module], check.function)
    return judge(check, function, id, NODE if check.hosts else None, SITE, proof, cluster)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome | None:
    """Any outcome that a shell can give, or none."""
    text = st.text(max_size=40)
    status: Status | None = draw(st.sampled_from(("exited", "timed-out", "unreachable", None)))
    if status is None:
        return None
    code = draw(st.sampled_from([0, 1, 2, 127, 255, -9])) if status == "exited" else None
    return Outcome(status, code, draw(text), draw(text), 0.1, "" if status == "exited" else draw(text))


@given(check=st.sampled_from(RECORDED), data=st.data())
def test_no_check_passes_on_any_other_evidence(check: str, data: st.DataObject) -> None:
    subjects = st.sampled_from(["cluster", "operator", NODE, "gpu-node-04", f"{NODE}→gpu-node-04", "connect", "tls"])
    records = [Record(f"e{n:04}", "", need, data.draw(subjects), None, data.draw(outcomes()), data.draw(JSON))
               for need in CHECKS[check].needs for n in range(data.draw(st.integers(0, 3)))]
    proof = Evidence(tuple(records))
    judgement = judged(check, proof, build_cluster(SITE, proof))
    assert judgement.verdict is not Verdict.PASS
    if CHECKS[check].needs == ("facts",):  # what a node answers; the other documents are the operator's own
        assert judgement.error == ""


# parsers that are not tried elsewhere

LINE = st.text(max_size=60) | st.from_regex(r"NVRM: Xid \(PCI:[0-9a-fA-F:.]{0,12}\): \d{0,9}.{0,9}")


@given(text=LINE, other=st.sampled_from(["00000000:B1:00.0", "0000:17:00.0"]) | st.text(max_size=20))
def test_any_kernel_message_is_read(text: str, other: str) -> None:
    trouble = find_trouble(text)
    if trouble is not None and trouble.pci is not None:
        assert isinstance(same_pci_device(trouble.pci, other), bool)


@given(number=st.integers(0, 999), before=st.text(max_size=20), after=st.text(max_size=20))
def test_an_xid_is_found_wherever_it_stands(number: int, before: str, after: str) -> None:
    trouble = find_trouble(f"{before}NVRM: Xid (PCI:0000:B1:00): {number}, {after}")
    assert trouble is not None
    assert (trouble.xid, trouble.pci) == (number, "0000:B1:00")


@given(code=st.integers(-255, 255), stderr=st.text(max_size=80) | st.from_regex(r"Permission denied \([a-z,]{0,20}\)"))
def test_a_login_is_let_in_refused_by_name_or_not_understood(code: int, stderr: str) -> None:
    try:
        answer = parse_login(code, stderr)
    except ParseError:
        assert code != 0
    else:
        assert answer.let_in == (code == 0)
        assert answer.let_in or answer.offered
