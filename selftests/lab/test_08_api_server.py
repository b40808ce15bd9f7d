"""The lab's API server restarted, and made to answer 429, 500 and truncated lists, during a run.

Retries are bounded and stand in the evidence, what could not be had is BLOCKED, and nothing is left in the cluster.
Only where Kubernetes is deployed: `make kubernetes`, then `LAB_DEPLOYED=1 pytest selftests/lab/test_08_api_server.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.collectors.kubernetes.objects import MINE
from acceptance.evidence import Evidence, read_evidence
from lab.faults.kubernetes import ALL_READY
from lab.hosts import Lab
from selftests.lab.conftest import ROOT, Run, lab_command, plain_environment, with_cluster

CONTROL = "k8s-cp-01"
RUN_S = 600.0
MADE = ("pods", "services", "persistentvolumeclaims", "leases")
STATE = "kubectl get nodes,pods -A -o wide; kubectl get events -A --field-selector type=Warning | tail -40"
ONCE: list[dict[str, Any]] = [
    {"do": "429", "path": "/api/v1/pods"}, {"do": "500", "path": "/api/v1/nodes"},
    {"do": "cut", "path": "/apis/apps/v1/daemonsets"}, {"do": "restart", "path": "/apis/apps/v1/deployments"}]
PODS: list[dict[str, Any]] = [
    {"do": "429", "path": "/api/v1/namespaces/.*/pods", "method": "POST", "skip": 3, "times": 2},
    {"do": "cut", "path": "/api/v1/namespaces/.*/pods", "times": 2}, {"do": "cut", "path": ".*/log", "times": 2},
    {"do": "500", "path": "/api/v1/namespaces/.*/pods/.*", "method": "DELETE", "times": 2},
    {"do": "restart", "path": "/api/v1/namespaces/.*/services/.*", "method": "DELETE", "away_s": 2.0}]


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Lab]:
    """The lab with its cluster, healthy again afterwards."""
    yield with_cluster(lab)
    until(lab, ALL_READY)


def until(lab: Lab, condition: str) -> None:
    end = time.monotonic() + 180
    while lab.ops.run(condition, check=False, timeout=180).returncode:
        assert time.monotonic() < end, lab.ops.run(STATE, check=False, timeout=60).stdout
        time.sleep(1)


def left(lab: Lab) -> str:
    """What of this suite is in the cluster."""
    return lab.ops.run(f"kubectl get {','.join(MADE)} -A -l {MINE} -o name", timeout=60).stdout.strip()


def command(lab: Lab, folder: Path, rules: list[dict[str, Any]], *arguments: str) -> list[str]:
    """The words after `lab run` that run the suite through a proxy with these rules."""
    folder.mkdir()
    (folder / "site.yaml").write_text(yaml.safe_dump({
        "extends": str(ROOT / "lab/site.yaml"), "inventory": str(ROOT / "inventory/hosts.yml"),
        "kubernetes": {"kubeconfig": str(folder / "proxy/kubeconfig")}}))
    return [sys.executable, "-m", "selftests.api_proxy", json.dumps(rules),
            str(lab.home / "operator" / "validator.conf"), str(folder / "proxy"), "pytest", *arguments,
            "--site", str(folder / "site.yaml"), "--report-dir", str(folder / "reports")]


def found(folder: Path, exit_code: int, output: str) -> Run:
    [run] = [path for path in (folder / "reports").iterdir() if path.is_dir() and not path.is_symlink()]
    return Run(exit_code, output, run)


def through(lab: Lab, folder: Path, rules: list[dict[str, Any]], *arguments: str) -> tuple[Run, Evidence, list[int]]:
    """A run through the proxy, its evidence, and how often each rule was met."""
    done = lab_command("run", *command(lab, folder, rules, *arguments), timeout=RUN_S, check=False)
    run = found(folder, done.returncode, done.stdout)
    return run, read_evidence(run.folder / "evidence.jsonl"), json.loads((folder / "proxy/met.json").read_text())


def attempts(evidence: Evidence, collector: str) -> dict[str, list[dict[str, Any]]]:
    """Attempts by request, of the requests of a collector that took more than one."""
    return {one["request"]: one["attempts"] for one in evidence.one(collector, "tried again").document["requests"]}


def test_trouble_that_passes_costs_attempts_and_no_verdict(cluster: Lab, tmp_path: Path) -> None:
    run, evidence, met = through(cluster, tmp_path / "run", ONCE, "-m", "phase3 and daily")
    assert met == [1] * len(ONCE)
    assert run.reds() == [], run.output[-3000:]
    assert run.exit_code == 0
    shown = attempts(evidence, "kube-state")
    for rule in ONCE:
        tries = shown[f"GET {rule['path']}"]
        assert [bool(one["error"]) for one in tries] == [True] * (len(tries) - 1) + [False]
        assert len(tries) <= 5


@pytest.mark.parametrize("do", ["429", "500", "cut", "close"])
def test_trouble_that_lasts_blocks_what_needs_it(cluster: Lab, tmp_path: Path, do: str) -> None:
    rule = {"do": do, "path": "/api/v1/nodes", "times": 999}
    run, evidence, met = through(cluster, tmp_path / "run", [rule], "-m", "phase3 and daily")
    assert met == [len(evidence.one("kube-state", "nodes").document["attempts"])]
    assert met[0] <= 5
    reds = {(check, verdict) for check, _, verdict in run.reds()}
    assert reds >= {("nodes", "BLOCKED"), ("versions", "BLOCKED"), ("gpu-allocatable", "BLOCKED")}
    assert {verdict for _, verdict in reds} == {"BLOCKED"}, reds
    assert run.exit_code == 1


def test_pods_are_made_tried_and_removed_in_spite_of_trouble(cluster: Lab, tmp_path: Path) -> None:
    run, evidence, met = through(cluster, tmp_path / "run", PODS, "-m", "phase3")
    assert met == [rule.get("times", 1) for rule in PODS]
    assert run.reds() == [], run.output[-3000:]
    assert any(request.startswith("POST ") for request in attempts(evidence, "kube-probes"))
    assert left(cluster) == ""


def test_an_api_server_that_is_killed_in_the_middle_passes_nothing_out_of_nothing(cluster: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "lab", "run", *command(cluster, folder, [], "-m", "phase3")]
    with subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=plain_environment()) as process:
        while process.poll() is None and '"servers"' not in evidence_of(folder):
            time.sleep(0.05)
        cluster.host(CONTROL).run("kill -9 $(pgrep -x kube-apiserver)")
        output = process.communicate(timeout=RUN_S)[0]
    run = found(folder, process.returncode, output)
    assert "Traceback" not in output
    assert attempts(read_evidence(run.folder / "evidence.jsonl"), "kube-probes")
    # whoever makes volumes, and whoever lets a new pod's packets through, asks the API server too
    late = {(check, "FAIL") for check in ("storage", "pod-network", "dns")}
    reds = {(check, verdict) for check, _, verdict in run.reds()} - late
    assert {verdict for _, verdict in reds} <= {"BLOCKED"}, run.output[-3000:]
    assert run.exit_code == (1 if run.reds() else 0)
    until(cluster, ALL_READY)
    again, _, _ = through(cluster, tmp_path / "again", [], "-m", "phase3", "-k", "storage")
    assert again.exit_code == 0, again.output[-3000:]
    assert left(cluster) == ""


def evidence_of(folder: Path) -> str:
    """What a run has recorded so far."""
    return "".join(path.read_text() for path in folder.glob("reports/2*/evidence.jsonl"))
