"""Every finding names the records that it was judged from, where there are any, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from acceptance.checks import Check
from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence, Recorder
from acceptance.findings import Finding, Findings
from acceptance.judge import build_cluster, judge
from acceptance.sources import with_sources
from acceptance.transport.shell import Outcome
from selftests.run_folders import CHECK
from selftests.synthetic import SITE

DOWN = Outcome("unreachable", None, "", "", 1.0, "no route to host")


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Facts twice and a clock of one host, flows between two, and a collector that failed."""
    recorder = Recorder(tmp_path / "evidence.jsonl")
    recorder.record("facts", "n1", document={})  # e0001
    recorder.record("facts", "n1", document={})  # e0002
    recorder.record("clock", "n1", outcome=DOWN)  # e0003
    recorder.record("clock", "n2", outcome=DOWN)  # e0004
    recorder.record("flow", "n1→n2", document={})  # e0005
    recorder.record("flow", "n2→n1", document={})  # e0006
    recorder.record("state", "nodes", document={"error": "the API refused: 403"})  # e0007
    recorder.close()
    return recorder.evidence()


def named(evidence: Evidence, needs: Sequence[str], subject: str, *, host: str | None = None, reason: str = "",
          own: Sequence[str] = ()) -> tuple[str, ...]:
    findings = Findings(subject)
    findings.blocked("value", reason or "not read", evidence=own)
    found: list[Finding] = with_sources(findings.found, needs, host, evidence)
    return found[0].evidence


def test_a_finding_names_what_was_recorded_about_its_subject(evidence: Evidence) -> None:
    assert named(evidence, ["clock"], "n1", host="n1") == ("e0003",)
    assert named(evidence, ["facts"], "n1/gpu3") == ("e0002",)  # the last facts are those that were judged
    assert named(evidence, ["clock", "facts"], "n1") == ("e0003", "e0002")
    assert named(evidence, ["flow"], "n1↔n2") == ("e0005", "e0006")
    assert named(evidence, ["flow"], "n2→n1") == ("e0006",)
    assert named(evidence, ["clock"], "/var", host="n2") == ("e0004",)


def test_what_the_check_named_itself_stands(evidence: Evidence) -> None:
    assert named(evidence, ["clock"], "n1", own=["e0001"]) == ("e0001",)


def test_what_could_not_be_read_names_the_record_that_says_why(evidence: Evidence) -> None:
    assert named(evidence, ["state"], "cluster", reason="nodes: the API refused: 403") == ("e0007",)
    assert named(evidence, ["state"], "cluster", reason="something else") == ()


def test_nothing_is_named_that_was_not_asked_for(evidence: Evidence) -> None:
    assert named(evidence, [], "n1") == ()
    assert named(evidence, ["ping"], "n1", host="n1") == ()
    assert named(evidence, ["facts"], "cluster") == ()


def test_a_check_that_could_not_read_a_host_names_the_record_of_that_host(tmp_path: Path) -> None:
    def clock() -> None:
        raise Unmeasured("the clock could not be read")

    recorder = Recorder(tmp_path / "evidence.jsonl")
    for host in SITE.hosts:
        recorder.record("clock", host.name, outcome=DOWN)
    recorder.close()
    found, name = recorder.evidence(), SITE.hosts[1].name
    check = Check(**(CHECK | {"needs": ("clock",), "hosts": "all"}))
    judgement = judge(check, clock, "t", name, SITE, found, build_cluster(SITE, found))
    assert [finding.evidence for finding in judgement.findings] == [(found.one("clock", name).id,)]
