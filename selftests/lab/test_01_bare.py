"""Servers as they arrive are refused, in every layer, and each failure says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.selection import load_catalogue
from lab.hosts import Lab
from selftests.lab.conftest import ROOT, Run, run_suite

CHECKS = load_catalogue(ROOT)


@pytest.fixture(scope="module")
def bare_run(bare_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    del bare_lab
    return run_suite(tmp_path_factory.mktemp("bare"), "-m", "phase2")


def test_every_layer_of_phase_2_is_red_before_deployment(bare_run: Run) -> None:
    assert bare_run.exit_code == 1
    red_layers = {CHECKS[check].layer for check, _, _ in bare_run.reds()}
    assert red_layers >= {"networking", "security", "compute"}


def test_each_failure_names_subject_values_and_remedy(bare_run: Run) -> None:
    failures = [(item, f) for item in bare_run.items for f in item["findings"] if f["verdict"] == "FAIL"]
    assert failures
    for item, finding in failures:
        assert finding["subject"], item
        assert finding["measured"] is not None or finding["reason"], item
        assert finding["required"] is not None or finding["reason"], item
    output = bare_run.output
    for check in {item["check"] for item, _ in failures}:
        assert CHECKS[check].remedy[:40] in " ".join(output.split()), check


def test_the_report_is_there_and_says_refused(bare_run: Run) -> None:
    report: Path = bare_run.folder / "report.html"
    assert "refused" in report.read_text().lower()
