"""Hosts that hang or die cost the run their deadline and no more, and only they are BLOCKED."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acceptance.evidence import read_evidence
from acceptance.findings import Verdict
from acceptance.model import load_run
from lab.faults.base import PORT_DOWN, PORT_UP
from lab.faults.gpu import STATE
from lab.hosts import Lab
from selftests.lab.conftest import ROOT, Run, run_suite

VICTIM = "gpu-node-06"


@contextmanager
def broken(lab: Lab, inject: str, clear: str) -> Iterator[None]:
    try:
        lab.host(VICTIM).run(inject)
        yield
    finally:
        lab.host(VICTIM).run(clear)


def blocked_hosts(run: Run) -> set[str]:
    return {item["subject"] for item in run.items if item["verdict"] == "BLOCKED" and item["subject"] != "cluster"}


def test_a_host_whose_sshd_hangs_is_blocked_alone(lab: Lab, tmp_path: Path) -> None:
    with broken(lab, "kill -STOP $(cat /run/sshd.pid)", "kill -CONT $(cat /run/sshd.pid)"):
        run = run_suite(tmp_path / "run", "-m", "phase2", "--read-only")
    assert blocked_hosts(run) == {VICTIM}
    reasons = {f["reason"] for i in run.items if i["subject"] == VICTIM for f in i["findings"] if f["reason"]}
    assert any("timed out" in reason or "unreachable" in reason for reason in reasons), reasons


def test_an_nvml_that_never_answers_blocks_only_that_hosts_gpus(lab: Lab, tmp_path: Path) -> None:
    with broken(lab, f"sed -i 's/^hang = 0$/hang = 1/' {STATE}", f"sed -i 's/^hang = 1$/hang = 0/' {STATE}"):
        run = run_suite(tmp_path / "run", "-m", "phase2", "--read-only")
    assert blocked_hosts(run) == {VICTIM}
    checks = {i["check"] for i in run.items if i["subject"] == VICTIM and i["verdict"] == "BLOCKED"}
    assert checks
    assert all(check.startswith("gpu-") for check in checks), checks


def test_a_host_that_dies_in_the_bandwidth_run_is_named(lab: Lab, tmp_path: Path) -> None:
    routes = lab.host(VICTIM).run("ip route").stdout
    lab.host(VICTIM).run("systemd-run --quiet --unit lab-fault-death sh -c "
                         f"'until pgrep -x iperf3 >/dev/null; do sleep 0.1; done; {PORT_DOWN}'")
    try:
        run = run_suite(tmp_path / "run", "-k", "bandwidth", "-m", "phase2")
    finally:
        lab.host(VICTIM).run(f"systemctl stop lab-fault-death 2>/dev/null || true; {PORT_UP}")
    reds = {f["subject"] for i in run.items for f in i["findings"] if f["verdict"] != "PASS"}
    assert reds
    assert all(VICTIM in subject for subject in reds), reds
    assert lab.host(VICTIM).run("ip route").stdout == routes, "what comes after has this host as it was"


def written(folder: Path) -> int:
    """Complete lines of evidence and findings so far."""
    return sum(path.read_bytes().count(b"\n") for name in ("evidence.jsonl", "findings.jsonl")
               for path in folder.glob(f"*/{name}") if not path.parent.is_symlink())


@pytest.mark.parametrize("lines", sorted(random.Random(20).sample(range(1, 300), 20)))
def test_kill_9_loses_no_evidence_and_accepts_nothing(lab: Lab, tmp_path: Path, lines: int) -> None:
    del lab
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "run", "pytest", "-m", "phase2", "--read-only", "--report-dir", str(folder)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and written(folder) < lines:
        time.sleep(0.002)
    process.kill()
    process.wait()
    [run] = [path.parent for path in folder.glob("*/run.json") if not path.parent.is_symlink()]
    complete = (run / "evidence.jsonl").read_bytes().count(b"\n")
    assert len(read_evidence(run / "evidence.jsonl").all) == complete
    report = load_run(run)
    judged = [item for item in report.items if item.verdict is not Verdict.NOT_RUN]
    assert complete + len(judged) >= lines
    assert len(judged) < len(report.items)
    assert not any(gate.accepted for gate in report.gates)
    assert not report.finished
