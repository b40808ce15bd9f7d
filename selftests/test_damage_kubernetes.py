"""Damage to what was recorded of Kubernetes never becomes a pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.findings import Verdict
from selftests.synthetic import judge_check
from selftests.synthetic_kubernetes import FACTS, Change, Recorded, healthy, recorded
from selftests.test_checks_kubernetes import DEFECTS
from selftests.test_damage import GONE, JUNK, differing, hurt, hurt_at, ways_to_hurt

NODE = "gpu-node-03"
HEALTHY = healthy()


def verdict(check: str, documents: Recorded) -> Verdict:
    return judge_check(check, FACTS, NODE, recorded(documents)).verdict()


def sick(change: Change) -> Recorded:
    documents = healthy()
    change(documents)
    return documents


def touched(documents: Recorded) -> list[tuple[str, str]]:
    """Collector and subject of the documents that the defect changed."""
    return [(collector, subject) for collector, found in documents.items() for subject, document in found.items()
            if HEALTHY[collector].get(subject) != document]


def mends(path: tuple[Any, ...], by: Any) -> bool:
    """Where nothing at all is the healthy form, taking the defect away mends it."""
    nothing = by in (GONE, None, False, [], {})
    return (path[-1] == "alarms" and nothing) or path[-1] == "isLearner" or (
        path[-1] == "allocatable_gpus" and by is None)


@pytest.mark.parametrize(("check", "change"), [defect[:2] for defect in DEFECTS])
def test_the_defect_itself_damaged_in_any_way_never_passes(check: str, change: Change) -> None:
    documents = sick(change)
    for collector, subject in touched(documents):
        document = documents[collector][subject]
        paths = differing(HEALTHY[collector].get(subject), document)
        for path in paths if len(paths) < 40 else paths[::len(paths) // 40]:
            for by in ways_to_hurt(document, path):
                if mends(path, by):
                    continue
                damaged = {**documents, collector: {**documents[collector], subject: hurt_at(document, path, by)}}
                assert verdict(check, damaged) is not Verdict.PASS, (subject, path, by)


@given(case=st.sampled_from(DEFECTS), data=st.data())
def test_damaged_evidence_of_something_sick_never_passes(case: tuple[str, Change, str], data: st.DataObject) -> None:
    check, change, _ = case
    documents = sick(change)
    collector, subject = data.draw(st.sampled_from(touched(documents) or [("kube-state", "nodes")]))
    document = documents[collector].get(subject)
    if data.draw(st.integers(0, 4)) == 0 or document is None:
        documents[collector].pop(subject, None)
    elif data.draw(st.integers(0, 4)) == 0:
        documents[collector][subject] = data.draw(st.sampled_from(JUNK))
    elif subject != "k8s-cp-01" or collector != "etcd":
        documents[collector][subject] = hurt(data, document)
    assert verdict(check, documents) is not Verdict.PASS


@given(case=st.sampled_from(DEFECTS), data=st.data())
def test_damage_breaks_no_check(case: tuple[str, Change, str], data: st.DataObject) -> None:
    """A check that meets damage blocks; it does not fall over, but for text where nobody could expect it."""
    documents = healthy()
    collector = data.draw(st.sampled_from(sorted(documents)))
    subject = data.draw(st.sampled_from(sorted(documents[collector])))
    documents[collector][subject] = hurt(data, documents[collector][subject])
    verdict(case[0], documents)
