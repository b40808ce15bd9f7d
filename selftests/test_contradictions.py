"""A run folder whose files contradict one another is told as such everywhere, and nothing of it is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceptance.cli import main
from acceptance.evidence import read_evidence
from acceptance.findings import Verdict
from acceptance.model import ACCEPTED, CONTRADICTED, load_run
from acceptance.terminal import verdict_lines
from selftests.run_folders import finding, run_folder
from selftests.test_report import Page, ctrf, junit, page

Change = Callable[[Path], None]


def change_line(**values: Any) -> Change:
    def change(path: Path) -> None:
        file = path / "findings.jsonl"
        file.write_text(json.dumps(json.loads(file.read_text()) | values) + "\n")
    return change


def without_evidence(path: Path) -> None:
    (path / "evidence.jsonl").unlink()


def findings_and_no_trace_of_evidence(path: Path) -> None:
    uncited = finding("gpus", Verdict.PASS).as_json() | {"evidence": []}
    change_line(findings=[uncited])(path)
    without_evidence(path)


def emptied_evidence(path: Path) -> None:
    (path / "evidence.jsonl").write_text("")


def red_finding_in_a_green_item(path: Path) -> None:
    change_line(findings=[finding("gpus").as_json()])(path)


def second_verdict(path: Path) -> None:
    file = path / "findings.jsonl"
    red = json.loads(file.read_text()) | {"verdict": "FAIL", "findings": [finding("gpus").as_json()]}
    file.write_text(json.dumps(red) + "\n" + file.read_text())


def item_of_another_run(path: Path) -> None:
    file = path / "findings.jsonl"
    file.write_text(file.read_text() + json.dumps(json.loads(file.read_text()) | {"subject": "gpu-node-77"}) + "\n")


@pytest.mark.parametrize(("change", "said"), [
    (without_evidence, "evidence.jsonl is missing, while findings refer to 1 of its records"),
    (findings_and_no_trace_of_evidence, "evidence.jsonl is missing, while findings.jsonl has verdicts"),
    (emptied_evidence, "evidence.jsonl lacks records that findings refer to: e0001"),
    (red_finding_in_a_green_item, "gpu-inventory on gpu-node-01 is PASS while its findings make it FAIL"),
    (change_line(findings=[]), "gpu-inventory on gpu-node-01 is PASS while its findings make it FAIL"),
    (change_line(error="broke"), "gpu-inventory on gpu-node-01 is PASS while its findings make it FAIL"),
    (change_line(verdict="BLOCKED"), "gpu-inventory on gpu-node-01 is BLOCKED while its findings make it PASS"),
    (second_verdict, "two verdicts of one item: gpu-inventory on gpu-node-01"),
    (item_of_another_run, "what run.json did not plan: gpu-inventory on gpu-node-77"),
])
def test_a_contradiction_is_loud_and_nothing_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                         change: Change, said: str) -> None:
    path = run_folder(tmp_path / "run")
    assert [gate.decision for gate in load_run(path).gates] == [ACCEPTED]
    assert main(["report", str(path)]) == 0
    assert "CONTRADICT" not in "".join(capsys.readouterr())
    change(path)
    report = load_run(path)
    assert not report.passed
    assert [gate.decision for gate in report.gates] == [CONTRADICTED]
    assert main(["report", str(path)]) == 1
    printed = capsys.readouterr().err
    assert "THE FILES OF THIS RUN CONTRADICT ONE ANOTHER" in printed
    assert said in printed
    assert verdict_lines(report)[1].startswith("THE FILES OF THIS RUN CONTRADICT")
    text = "".join(page(report).text)
    assert text.index(said) < text.index(CONTRADICTED) < text.index("What was promised")
    assert "The parties accept" not in text
    assert "criteria hold everywhere" not in text
    assert Page((path / "report.html").read_text()).text  # written, so that no older one stays
    assert said in (junit(report)[-1][0].findtext("error") or "")
    assert ctrf(report)["results"]["tests"][-1]["status"] == "failed"


def test_a_run_that_ended_before_anything_was_recorded_contradicts_nothing(tmp_path: Path) -> None:
    path = run_folder(tmp_path, finished=False)
    (path / "findings.jsonl").unlink()
    (path / "evidence.jsonl").unlink()
    report = load_run(path)
    assert not report.contradictions
    assert [item.verdict for item in report.items] == [Verdict.NOT_RUN]


def test_a_record_cut_off_at_the_end_contradicts_nothing(tmp_path: Path) -> None:
    path = run_folder(tmp_path)
    with (path / "evidence.jsonl").open("a") as file:
        file.write("{")
    assert read_evidence(path / "evidence.jsonl").torn
    assert not load_run(path).contradictions
