"""The deployed lab is accepted, and a recorded run is judged again without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lab.hosts import Lab
from selftests.lab.conftest import ROOT, Run, run_suite


@pytest.fixture(scope="module")
def healthy(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    del lab
    return run_suite(tmp_path_factory.mktemp("healthy"), "-m", "phase1 or phase2")


def judge_again(folder: Path, evidence: Path, site: Path, gates: str = "phase1 or phase2") -> Run:
    """pytest outside the lab, on a recorded run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", gates, "--evidence", str(evidence), "--site", str(site),
         "--report-dir", str(folder)], cwd=ROOT, text=True, capture_output=True, check=False, timeout=120)
    runs = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    return Run(done.returncode, done.stdout + done.stderr, runs[-1])


def test_a_deployed_lab_is_accepted(healthy: Run) -> None:
    assert healthy.reds() == [], healthy.output[-4000:]
    assert healthy.exit_code == 0
    assert "accepted" in healthy.output


def test_a_recorded_run_gives_the_same_findings_byte_for_byte(healthy: Run, tmp_path: Path) -> None:
    again = judge_again(tmp_path / "again", healthy.folder, ROOT / "lab" / "site.yaml")
    assert (again.folder / "findings.jsonl").read_bytes() == (healthy.folder / "findings.jsonl").read_bytes()
    assert again.exit_code == 0


def test_one_threshold_changes_only_the_verdicts_that_depend_on_it(healthy: Run, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"extends": str(ROOT / "lab/site.yaml"), "gpu": {"power_limit_w": 300},
                                    "inventory": str(ROOT / "inventory/hosts.yml")}))
    again = judge_again(tmp_path / "again", healthy.folder, site)
    assert {check for check, _, _ in again.reds()} == {"gpu-settings"}
    assert len(again.reds()) == 8
