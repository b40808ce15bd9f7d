"""The decision of a gate, from items and from a run folder, whole or damaged."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import WrongUse
from acceptance.findings import Verdict
from acceptance.model import ACCEPTED, CONDITIONS, PARTIAL, REFUSED, decide, load_run
from acceptance.report.html import render_html
from selftests.run_folders import item, run_folder

P, F, B, W, N = Verdict.PASS, Verdict.FAIL, Verdict.BLOCKED, Verdict.WAIVED, Verdict.NOT_RUN
MISSING = [("gpu-ecc", "gpu-node-01")]


@pytest.mark.parametrize(("musts", "targets", "missing", "decision"), [
    ([P], [], [], ACCEPTED), ([P, P], [P], [], ACCEPTED), ([P, W], [], [], CONDITIONS), ([P], [F], [], CONDITIONS),
    ([P], [B], [], CONDITIONS), ([P], [N], [], CONDITIONS), ([W], [W], [], CONDITIONS), ([P, F], [], [], REFUSED),
    ([P, B], [], [], REFUSED), ([P, N], [], [], REFUSED), ([W, B], [P], [], REFUSED), ([], [], [], REFUSED),
    ([], [P], [], REFUSED), ([P], [], MISSING, PARTIAL), ([W], [F], MISSING, PARTIAL), ([P, F], [], MISSING, REFUSED),
    ([], [P], MISSING, PARTIAL),
])
def test_decisions(musts: list[Verdict], targets: list[Verdict], missing: list[tuple[str, str]], decision: str) -> None:
    items = [*(item(v) for v in musts), *(item(v, "target") for v in targets)]
    assert decide(items, missing) == decision


@given(st.lists(st.tuples(st.sampled_from(Verdict), st.sampled_from(["must", "target"])), max_size=8), st.booleans())
def test_a_gate_is_never_accepted_with_a_must_that_is_neither_passed_nor_waived(
    drawn: list[tuple[Verdict, str]], complete: bool
) -> None:
    decision = decide([item(verdict, level) for verdict, level in drawn], [] if complete else MISSING)
    musts = [verdict for verdict, level in drawn if level == "must"]
    if decision in (ACCEPTED, CONDITIONS):
        assert complete
        assert musts
        assert set(musts) <= {P, W}
    if decision == ACCEPTED:
        assert {verdict for verdict, _ in drawn} == {P}


def test_items_of_every_verdict_pair_decide_alike_in_any_order() -> None:
    for pair in itertools.product(Verdict, repeat=2):
        assert decide([item(v) for v in pair]) == decide([item(v) for v in reversed(pair)])


def test_a_run_that_was_killed_is_not_run_for_the_rest_and_refused(tmp_path: Path) -> None:
    report = load_run(run_folder(tmp_path, planned=3, finished=False))
    assert [i.verdict for i in report.items] == [P, N, N]
    assert (report.finished, report.passed) == (False, False)
    assert [gate.decision for gate in report.gates] == [REFUSED]
    assert report.gates[0].counts == {"PASS": 1, "FAIL": 0, "BLOCKED": 0, "WAIVED": 0, "NOT RUN": 2}
    assert "did not come to its end" in render_html(report)


def test_a_torn_last_line_of_the_findings_counts_as_not_judged(tmp_path: Path) -> None:
    path = run_folder(tmp_path)
    whole = (path / "findings.jsonl").read_text()
    for at in range(len(whole)):
        (path / "findings.jsonl").write_text(whole[:at])
        assert [i.verdict for i in load_run(path).items] == [N]
    (path / "findings.jsonl").unlink()
    assert [i.verdict for i in load_run(path).items] == [N]


def test_a_damaged_line_of_the_findings_is_refused(tmp_path: Path) -> None:
    path = run_folder(tmp_path)
    whole = (path / "findings.jsonl").read_text()
    damaged = (whole.replace("PASS", "FINE"), whole.replace("unit", "u"), whole[:99] + "\n")
    for line in ("{}\n", "5\n", "null\n", "[" * 99_999 + "\n", *damaged):
        (path / "findings.jsonl").write_text(line)
        with pytest.raises(WrongUse, match="damaged"):
            load_run(path)
