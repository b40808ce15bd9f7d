"""The lab's charts: what they render, and that it fits the stand-ins' program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import go, images
from lab.programs import PROGRAMS

CHARTS = Path(__file__).parents[1] / "lab" / "charts"
HELM = PROGRAMS["helm"].built
pytestmark = pytest.mark.skipif(not HELM.exists(), reason="not built: python -m lab.programs helm")


def render(chart: str, namespace: str, *options: str) -> list[dict[str, Any]]:
    done = subprocess.run([HELM, "template", chart, CHARTS / chart, "--namespace", namespace, *options],
                          capture_output=True, text=True, timeout=60, check=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def daemon_sets(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in documents if one["kind"] == "DaemonSet"}


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pods = [one["spec"]["template"]["spec"] for one in documents if one["kind"] in ("DaemonSet", "Deployment")]
    return [container for pod in pods for container in (*pod.get("initContainers", []), *pod["containers"])]


@pytest.fixture(scope="module")
def operator() -> list[dict[str, Any]]:
    return render("gpu-operator", "gpu-operator")


def test_the_operator_waits_for_the_daemon_sets_that_there_are(operator: list[dict[str, Any]]) -> None:
    source = (go.MODULES / "standin/operator.go").read_text()
    awaited = set(re.findall(r'"([^"]+)"', re.findall(r"daemons  = \[\]string\{([^}]*)\}", source)[0]))
    chosen = set(re.findall(r'"([^"]+)"', re.findall(r"operands = \[\]string\{([^}]*)\}", source)[0]))
    sets = daemon_sets(operator)
    assert awaited == {name for name, pod in sets.items() if "nodeSelector" in pod}
    labels = {label for pod in sets.values() for label in pod.get("nodeSelector", {})}
    assert labels == {f"nvidia.com/gpu.deploy.{name}" for name in chosen}


def test_every_container_runs_a_command_of_the_stand_in(operator: list[dict[str, Any]]) -> None:
    commands = set(re.findall(r'^\t"([a-z-]+)": +run', (go.MODULES / "standin/main.go").read_text(), re.M))
    network = render("network", "kube-system", "--set", "podRange=10.244.0.0/16")
    for container in containers(operator + network):
        assert container["image"] == images.STAND_IN
        assert container["args"][0] in commands
        mounted = {mount["name"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")}
        assert mounted <= {"cni", "device-plugins"}


def test_the_pod_network_wants_to_know_its_range() -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        render("network", "kube-system")
    assert "network.pod_range" in error.value.stderr
