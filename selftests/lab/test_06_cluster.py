"""The cluster on the lab's hosts: deployed by the project's own playbooks and charts, accepted, and left as it was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from acceptance.collectors.kubernetes.objects import OWNER
from acceptance.collectors.kubernetes.projections import MANAGED_BY
from lab.hosts import Lab, home
from selftests.lab.conftest import ROOT, Run, aloud, lab_command, play, run_suite
from selftests.lab.test_03_healthy import judge_again

GATES = "(phase3 or phase5) and not performance"
EXTRA = ("-e", "@lab/ansible/kubernetes.yml", "-e", f"@{home()}/operator/images.yml")
KINDS = ("namespaces,pods,deployments,daemonsets,statefulsets,jobs,services,configmaps,secrets,serviceaccounts,roles,"
         "rolebindings,clusterroles,clusterrolebindings,networkpolicies,resourcequotas,limitranges,"
         "persistentvolumeclaims,persistentvolumes,storageclasses,customresourcedefinitions")
LASTS_S = 45  # of the 65 to 90 s that a run takes: where pods are made and removed
# 20 when an issue asks for it; continuous integration has no time for more
KILLS = int(os.environ.get("CLUSTER_KILLS", "2"))


@pytest.fixture(scope="module")
def first_deployment(request: pytest.FixtureRequest, lab: Lab) -> dict[str, int]:
    """Changes of the playbook's first run. With CLUSTER_DEPLOYED=1 the cluster that is there is taken."""
    if os.environ.get("CLUSTER_DEPLOYED") == "1":
        return dict.fromkeys(lab.nodes, 1)
    with aloud(request.config, "the lab: the cluster (about 4 minutes)"):
        _, changed = play(*EXTRA, playbook="scripts/ansible/playbooks/kubernetes.yml")
        deploy_charts()
    return changed


@pytest.fixture(scope="module")
def cluster(first_deployment: dict[str, int], lab: Lab) -> Lab:
    """The lab with its cluster."""
    assert all(first_deployment[host] > 0 for host in lab.nodes)
    return lab


@pytest.fixture(scope="module")
def healthy(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    del cluster
    return run_suite(tmp_path_factory.mktemp("healthy"), "-m", GATES)


def deploy_charts() -> None:
    lab_command("run", "scripts/helm/deploy", "--releases", "lab/releases.yaml")
    lab_command("run", "scripts/helm/validator-kubeconfig", f"{home()}/operator/validator.conf")


def objects(lab: Lab, *words: str) -> dict[str, str]:
    """What is in the cluster: uid by kind, namespace and name; but for the nodes' tokens, which end by themselves."""
    listed = json.loads(lab.ops.run(["kubectl", "get", KINDS, "-A", "-o", "json", *words]).stdout)["items"]
    return {"/".join((item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])):
            item["metadata"]["uid"] for item in listed if not item["metadata"]["name"].startswith("bootstrap-token-")}


def own(lab: Lab) -> Mapping[str, Any]:
    """What bears the suite's mark."""
    return objects(lab, "-l", f"{MANAGED_BY}={OWNER}")


def test_the_second_run_of_the_playbook_changes_nothing(cluster: Lab) -> None:
    for words in ((), ("--check",)):
        output, changed = play(*EXTRA, *words, playbook="scripts/ansible/playbooks/kubernetes.yml")
        assert {host: changed[host] for host in cluster.nodes} == dict.fromkeys(cluster.nodes, 0), output[-3000:]


def test_deploying_the_charts_again_replaces_nothing(cluster: Lab) -> None:
    before = objects(cluster)
    deploy_charts()
    # a release keeps its history in secrets, one a revision
    kept = {name: uid for name, uid in before.items() if "sh.helm.release" not in name}
    after = objects(cluster)
    assert {name: after.get(name) for name in kept} == kept


def test_the_gates_are_accepted(healthy: Run) -> None:
    assert healthy.reds() == [], healthy.output[-4000:]
    assert healthy.exit_code == 0


def test_the_hosts_are_still_accepted(cluster: Lab, tmp_path: Path) -> None:
    del cluster
    run = run_suite(tmp_path / "run", "-m", "phase1 or phase2")
    assert run.reds() == [], run.output[-4000:]
    assert run.exit_code == 0


def test_a_recorded_run_gives_the_same_findings_byte_for_byte(healthy: Run, tmp_path: Path) -> None:
    again = judge_again(tmp_path / "again", healthy.folder, ROOT / "lab" / "site.yaml", GATES)
    assert (again.folder / "findings.jsonl").read_bytes() == (healthy.folder / "findings.jsonl").read_bytes()


def test_runs_that_are_killed_leave_nothing_behind_the_next_one(
    cluster: Lab, healthy: Run, request: pytest.FixtureRequest, tmp_path: Path,
) -> None:
    del healthy  # so that what a first run makes for good, if anything, is there before
    before, moments = objects(cluster), random.Random(os.environ.get("CLUSTER_SEED", "5"))
    seen, left = 0, own(cluster)
    with aloud(request.config, f"the lab: {KILLS} runs killed at random moments"):
        for number in range(KILLS):
            end = signal.SIGKILL if number % 2 == 0 else signal.SIGINT
            process = subprocess.Popen(
                [sys.executable, "-m", "lab", "run", "pytest", "-m", GATES, "--report-dir", str(tmp_path / "killed")],
                cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                # whoever runs in the background may have been told to ignore it
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
            time.sleep(moments.uniform(2, LASTS_S))
            process.send_signal(end)
            process.wait(120)
            of_before, left = left, own(cluster)
            seen += bool(left)
            print(f"{number + 1}/{KILLS} {end.name}: {len(left)} objects of the suite left", flush=True)
            if end is signal.SIGINT:
                # of the run before it, if it came to no sweep
                assert left.items() <= of_before.items(), "Ctrl-C waits until what was made is removed"
        run = run_suite(tmp_path / "after", "-m", GATES)
    assert run.reds() == [], run.output[-4000:]
    assert own(cluster) == {}
    assert objects(cluster) == before
    assert seen or KILLS < 6, "no run was killed while it had pods: nothing was proven"
