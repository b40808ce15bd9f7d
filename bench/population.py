"""What is in a cluster of so many nodes that is delivered as contracted, made through its API: nodes, pods, workloads.

kwok makes nodes Ready and pods run. What controllers would write, and nobody does here, is written as they would:
the status of DaemonSets and Deployments, the ClusterPolicy's state, and the nodes' metrics.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from acceptance.site.contract import Contract
from acceptance.site.inventory import Host
from acceptance.site.load import Site
from acceptance.transport.kube import Kube, list_all
from bench.measure import BenchError
from lab import programs

CHARTS = Path(__file__).parents[1] / "scripts" / "helm" / "charts"
PODS_A_NODE = 20
AT_ONCE = 16
DEADLINE_S = 60.0
RUNNING_S = 900.0
LOOK_S = 3.0
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
Raw = dict[str, Any]
Say = Callable[[str], None]


def post(kube: Kube, path: str, body: Raw) -> Raw:
    """Create an object; one that is there already is left. Raises ApiFailed."""
    answer = kube.request("POST", path, body=body, deadline_s=DEADLINE_S)
    return body if answer.status == 409 else answer.object()


def post_all(kube: Kube, bodies: Iterable[tuple[str, Raw]]) -> None:
    """Create many, several at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda one: post(kube, *one), bodies):
            pass


def put_status(kube: Kube, path: str, status: Raw) -> None:
    """Write an object's status. Raises ApiFailed."""
    found = kube.request("GET", path, deadline_s=DEADLINE_S).object()
    status = status | {"observedGeneration": found["metadata"]["generation"]}
    kube.request("PUT", f"{path}/status", body=found | {"status": status}, deadline_s=DEADLINE_S).object()


def foundation(kube: Kube, contract: Contract) -> None:
    """What does not grow with the nodes: kinds, namespaces, and the suite's own rights, from its own chart."""
    kubernetes = contract.kubernetes
    spaces = {"kube-system", kubernetes.probes.namespace, kubernetes.gpu_operator.namespace, *kubernetes.tenants.teams,
              kubernetes.cni.daemonset.namespace, contract.performance.pods.namespace,
              *(one.namespace for one in kubernetes.workloads)}
    for space in sorted(spaces):
        post(kube, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    post(kube, DEFINITIONS, definition("nvidia.com", "v1", "ClusterPolicy", "clusterpolicies"))
    post(kube, DEFINITIONS, definition("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes"))
    for body in rights(contract):
        space = body["metadata"].get("namespace")
        within = f"/namespaces/{space}" if space else ""
        post(kube, f"/apis/{body['apiVersion']}{within}/{body['kind'].lower()}s", body)
    _eventually(lambda: post(kube, "/apis/nvidia.com/v1/clusterpolicies", {
        "apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "status": {"state": "ready"},
        "metadata": {"name": kubernetes.gpu_operator.policy}}))


def _eventually(act: Callable[[], Any], seconds: float = 30) -> None:
    """A kind that was just defined takes a moment. Raises what the last try raised."""
    end = time.monotonic() + seconds
    while True:
        try:
            act()
            return
        except Exception:
            if time.monotonic() > end:
                raise
        time.sleep(0.3)


def definition(group: str, version: str, kind: str, plural: str) -> Raw:
    """A kind of any content. Those of Kubernetes itself need a note that says that they were approved, or not."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}",
                         "annotations": {"api-approved.kubernetes.io": "unapproved, in a bench"}},
            "spec": {"group": group, "scope": "Cluster",
                     "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
                     "versions": [{"name": version, "served": True, "storage": True, "schema": schema}]}}


def rights(contract: Contract) -> list[Raw]:
    """Roles and bindings of the chart "validator", rendered from the contract. Raises BenchError."""
    data = contract.model_dump(mode="json", by_alias=True)
    words = [str(programs.PROGRAMS["helm"].built), "template", "validator", str(CHARTS / "validator"), "-f", "-"]
    values = json.dumps({name: data["kubernetes"][name] for name in ("probes", "tenants", "rbac")} | {
        "workloads": data["performance"]["pods"]})
    done = subprocess.run(words, input=values, text=True, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise BenchError(f"helm template: {done.stderr.strip() or 'failed'}")
    return [one for one in yaml.safe_load_all(done.stdout) if one and "rbac" in one["apiVersion"]]


def populate(kube: Kube, site: Site, hosts: Iterable[Host], say: Say) -> None:
    """These hosts as nodes, with what runs on them; workloads then are of all hosts of the site."""
    contract, chosen = site.contract, list(hosts)
    say(f"making {len(chosen)} nodes")
    post_all(kube, (("/api/v1/nodes", node(contract, host)) for host in chosen))
    _eventually(lambda: post_all(kube, (("/apis/metrics.k8s.io/v1beta1/nodes", metrics(host)) for host in chosen)))
    say(f"making {len(chosen) * PODS_A_NODE} pods")
    post_all(kube, ((f"/api/v1/namespaces/{one['metadata']['namespace']}/pods", one)
                    for host in chosen for one in pods(contract, host)))
    for space, name, count in daemonsets(site):
        path = f"/apis/apps/v1/namespaces/{space}/daemonsets"
        post(kube, path, workload("DaemonSet", space, name))
        put_status(kube, f"{path}/{name}", {"desiredNumberScheduled": count, "currentNumberScheduled": count,
                                            "numberReady": count, "updatedNumberScheduled": count,
                                            "numberAvailable": count, "numberMisscheduled": 0})
    await_running(kube, len(site.hosts), say)


def await_running(kube: Kube, nodes: int, say: Say) -> None:
    """Until kwok has every node Ready and every pod run. Raises BenchError."""
    end = time.monotonic() + RUNNING_S
    while time.monotonic() < end:
        pending = list_all(kube, "/api/v1/pods", project=lambda item: 1, deadline_s=DEADLINE_S, query=[
            ("fieldSelector", "status.phase!=Running")]).items
        ready = list_all(kube, "/api/v1/nodes", project=_is_ready, page=250, deadline_s=DEADLINE_S).items
        if len(ready) != nodes:
            raise BenchError(f"there are {len(ready)} nodes, expected {nodes}")
        if all(ready) and not pending:
            return
        say(f"waiting for kwok: {ready.count(False)} nodes are not Ready yet, {len(pending)} pods do not run yet")
        time.sleep(LOOK_S)
    raise BenchError(f"kwok has not made {nodes} nodes Ready, and their pods run, within {RUNNING_S:g} s")


def _is_ready(item: Raw) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in item["status"].get("conditions") or [])


def node(contract: Contract, host: Host) -> Raw:
    """A node as its kubelet registers it."""
    gpu, kubernetes = "gpu_nodes" in host.groups, contract.kubernetes
    resources = {"cpu": "128", "memory": "1056000000Ki", "pods": "250", "ephemeral-storage": "900000000Ki"}
    resources |= {"nvidia.com/gpu": str(contract.gpu.count)} if gpu else {}
    taints = [taint for group in host.groups for taint in kubernetes.allowed_taints.get(group, [])]
    version = f"v{kubernetes.version}"
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": host.name, "labels": {
            "kubernetes.io/hostname": host.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            **(kubernetes.gpu_operator.node_labels if gpu else {})}},
        "spec": {"taints": [{"key": taint.rpartition(":")[0].partition("=")[0], "effect": taint.rpartition(":")[2]}
                            for taint in taints]},
        "status": {"capacity": resources, "allocatable": resources,
                   "addresses": [{"type": "InternalIP", "address": host.address},
                                 {"type": "Hostname", "address": host.name}],
                   "nodeInfo": {"kubeletVersion": version, "kubeProxyVersion": version, "osImage": "Ubuntu 22.04.4 LTS",
                                "containerRuntimeVersion": "containerd://1.7.24", "kernelVersion": "5.15.0-91-generic",
                                "operatingSystem": "linux", "architecture": "amd64", "machineID": "", "systemUUID": "",
                                "bootID": ""}}}


def daemonsets(site: Site) -> list[tuple[str, str, int]]:
    """Namespace, name and pods of each that the contract has."""
    kubernetes = site.contract.kubernetes
    found = [(one.namespace, one.name, len(site.group(one.hosts)))
             for one in [*kubernetes.workloads, kubernetes.cni.daemonset] if one.hosts]
    count = len(site.group("gpu_nodes"))
    return [*found, *((kubernetes.gpu_operator.namespace, name, count) for name in kubernetes.gpu_operator.daemonsets)]


def pods(contract: Contract, host: Host) -> list[Raw]:
    """The pods of a node: one of each DaemonSet, the rest of the teams."""
    kubernetes = contract.kubernetes
    places = [(one.namespace, one.name) for one in [*kubernetes.workloads, kubernetes.cni.daemonset]
              if one.hosts in ("all", *host.groups)]
    if "gpu_nodes" in host.groups:
        places += [(kubernetes.gpu_operator.namespace, name) for name in kubernetes.gpu_operator.daemonsets]
    teams = sorted(kubernetes.tenants.teams)
    places += [(teams[number % len(teams)], f"training-{number:02}") for number in range(PODS_A_NODE - len(places))]
    return [pod(space, name, host.name) for space, name in places]


def template(name: str) -> Raw:
    """Labels and one container, about as large as they usually are."""
    env = [{"name": f"SETTING_{number}", "value": f"value-of-setting-{number}" * 2} for number in range(8)]
    return {"metadata": {"labels": {"app": name, "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "bench"}},
            "spec": {"containers": [{"name": "main", "image": f"registry.internal/bench/{name}:1.0", "env": env,
                                     "resources": {"requests": {"cpu": "100m", "memory": "128Mi"},
                                                   "limits": {"cpu": "1", "memory": "1Gi"}}}],
                     "tolerations": [{"operator": "Exists"}]}}


def pod(space: str, name: str, on: str) -> Raw:
    """A pod that is placed already."""
    body = template(name)
    return {"apiVersion": "v1", "kind": "Pod", "spec": body["spec"] | {"nodeName": on},
            "metadata": body["metadata"] | {"name": f"{name}-{on}", "namespace": space}}


def workload(kind: str, space: str, name: str) -> Raw:
    """A DaemonSet, whose pods nobody makes."""
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": space},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name)}}


def metrics(host: Host) -> Raw:
    """What metrics-server would tell."""
    return {"apiVersion": "metrics.k8s.io/v1beta1", "kind": "NodeMetrics", "metadata": {"name": host.name},
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), "window": "10s",
            "usage": {"cpu": "812m", "memory": "204800Ki"}}
