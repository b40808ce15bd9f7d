"""Evidence that is judged again: of the contract's own site only, and the report says where and when it was made."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from acceptance.evidence import read_evidence
from acceptance.model import ACCEPTED, load_run
from acceptance.report import write_reports
from acceptance.report.html import statement
from selftests.mini import Mini, Result
from selftests.test_wrong_use import refused


def in_lab(contract: dict[str, Any]) -> None:
    contract["site"] = {"name": "lab", "client": "nobody", "environment": "lab"}


def text_of(run: Path) -> str:
    """The report without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", (run / "report.html").read_text(encoding="utf-8")).split())


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    made = Mini(tmp_path_factory.mktemp("origin") / "site", ["echo"])
    made.write_contract("lab.yaml", in_lab)
    return made


@pytest.fixture(scope="module")
def lab_run(mini: Mini) -> Result:
    """Recorded in the lab."""
    result = mini.run("-m", "phase1", "--site", "lab.yaml")
    assert result.exit_code == 0, result.out
    return result


def changed(run: Path, folder: Path, **header: Any) -> Path:
    """A copy of a run whose run.json says something else."""
    shutil.copytree(run, folder)
    data = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(data | header))
    return folder


def clear(mini: Mini, lab_run: Result) -> Path:
    """The recorded run, elsewhere, so that no run folder is left in the project."""
    run = mini.path / "kept"
    if not run.exists():
        shutil.copytree(lab_run.path, run)
    shutil.rmtree(mini.path / "reports", ignore_errors=True)
    return run


def test_evidence_of_the_lab_is_no_report_on_the_cluster(mini: Mini, lab_run: Result) -> None:
    run = clear(mini, lab_run)
    refused(mini, "--evidence", str(run), "-m", "phase1", expected=(
        f"--evidence {run}: recorded at site lab (lab), but {mini.path}/site.yaml is the contract of site gpu-cluster "
        "(production)", "which was lab.yaml: name it with --site FILE"))


@pytest.mark.parametrize("site", [
    {"name": "gpu-cluster-2", "client": "c", "environment": "production"},
    {"name": "gpu-cluster", "client": "c", "environment": "lab"}])
def test_both_name_and_environment_must_be_the_contracts(mini: Mini, lab_run: Result, tmp_path: Path,
                                                         site: dict[str, str]) -> None:
    run = changed(clear(mini, lab_run), tmp_path / "run", site=site)
    refused(mini, "--evidence", str(run), "-m", "phase1", expected=(f"recorded at site {site['name']}",))


@pytest.mark.parametrize("site", [None, {}, [], {"name": 5, "environment": "production"}])
def test_a_run_that_does_not_say_its_site_is_refused(mini: Mini, lab_run: Result, tmp_path: Path, site: Any) -> None:
    run = changed(clear(mini, lab_run), tmp_path / "run", site=site)
    refused(mini, "--evidence", str(run), "-m", "phase1", expected=("run.json: damaged: expected the name",))
    (run / "run.json").write_text("{")
    refused(mini, "--evidence", str(run), "-m", "phase1", expected=("run.json: damaged: not JSON",))


def test_another_contract_of_the_same_site_judges_it(mini: Mini, lab_run: Result) -> None:
    run = clear(mini, lab_run)
    (mini.path / "stricter.yaml").write_text("extends: lab.yaml\ngpu: {power_limit_w: 300}\n")
    again = mini.run("-m", "phase1", "--site", "stricter.yaml", "--evidence", str(run))
    assert again.exit_code == 0, again.out + again.err
    assert [gate.decision for gate in load_run(again.path).gates] == [ACCEPTED]
    assert "LAB not the delivered cluster" in text_of(again.path)


def test_the_report_says_when_it_was_measured_and_when_judged(mini: Mini, lab_run: Result, tmp_path: Path) -> None:
    run = changed(clear(mini, lab_run), tmp_path / "run")
    lines = (run / "evidence.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        lines[number] = json.dumps(json.loads(line) | {"at": f"2026-03-04T05:0{number}:07.000+00:00"})
    (run / "evidence.jsonl").write_text("\n".join([*lines[::-1], ""]))  # hosts answer in any order
    again = mini.run("-m", "phase1", "--site", "lab.yaml", "--evidence", str(run))
    text, header = text_of(again.path), load_run(again.path).header
    assert (f"Measured 2026-03-04 05:00 to 2026-03-04 05:0{len(lines) - 1} UTC in run {lab_run.path.name} at site lab; "
            f"judged {header['started'][:16].replace('T', ' ')} UTC") in text
    assert f"pytest -m phase1 --evidence {run}" in text
    assert "not known" not in text


def test_a_run_judged_twice_remembers_where_it_was_recorded(mini: Mini, lab_run: Result, tmp_path: Path) -> None:
    run = clear(mini, lab_run)
    once = mini.run("-m", "phase1", "--site", "lab.yaml", "--evidence", str(run))
    as_if = changed(once.path, tmp_path / "run", site={"name": "gpu-cluster", "client": "c",
                                                       "environment": "production"})
    shutil.rmtree(mini.path / "reports")
    refused(mini, "--evidence", str(as_if), "-m", "phase1", expected=("recorded at site lab (lab)",))


@pytest.mark.parametrize("older", [False, True])
def test_evidence_without_its_run_is_judged_and_the_report_says_so(mini: Mini, lab_run: Result, tmp_path: Path,
                                                                   older: bool) -> None:
    run = changed(clear(mini, lab_run), tmp_path / "run", recorded=None, evidence_source="/somewhere")
    if not older:
        (run / "run.json").unlink()
    again = mini.run("-m", "phase1", "--evidence", str(run))
    assert again.exit_code == 0
    assert "where this evidence was recorded is not known" in again.out
    assert "Where this evidence was recorded is not known" in text_of(again.path)
    assert statement(load_run(again.path)).startswith("Where this evidence was recorded is not known")
    twice = mini.run("-m", "phase1", "--evidence", str(again.path))
    assert "where this evidence was recorded is not known" in twice.out
    assert len(read_evidence(twice.path / "evidence.jsonl").all) == 5


def test_a_report_of_a_run_before_this_was_noted_can_be_written(mini: Mini, lab_run: Result, tmp_path: Path) -> None:
    run = changed(clear(mini, lab_run), tmp_path / "run")
    data = json.loads((run / "run.json").read_text())
    for key in ("recorded", "suite"):
        data.pop(key, None)
    (run / "run.json").write_text(json.dumps(data | {"evidence_source": "/somewhere"}))
    write_reports(run)
    assert "judged again from /somewhere" in text_of(run)
