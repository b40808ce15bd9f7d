"""Phase 3: the nodes of the cluster, their GPUs as Kubernetes sees them, and what it measures of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.checks import check
from acceptance.errors import Unmeasured
from acceptance.measure.quantities import quantity
from acceptance.measure.workloads import judge_daemonset

if TYPE_CHECKING:
    from acceptance.facts import Cluster
    from acceptance.facts.kubernetes import KubeFacts, Node
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract
    from acceptance.site.inventory import Host
    from acceptance.site.load import Site

PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
OPERATOR = "Application Configuration / GPU Operator Installation"
POLICIES = "clusterpolicies.nvidia.com"


@check("nodes", phase=3, layer="kubernetes", area="k8s", needs=("kube-state",), daily=True,
       clause="Application Configuration / Kubernetes Cluster Deployment",
       criterion="Exactly the contracted hosts are nodes, each Ready at its address, without pressure, schedulable, "
                 "with no taint but the contracted ones",
       remedy="kubectl describe node NAME; journalctl -u kubelet on it; kubectl uncordon NAME, or find out who "
              "cordoned or tainted it and why")
def test_nodes(site: Site, kube: KubeFacts, findings: Findings) -> None:
    findings.evidence = kube.id("nodes")
    nodes = kube.nodes
    for name in nodes:
        if name not in {host.name for host in site.hosts}:
            findings.fail("node", "it is no host of the inventory", subject=name, measured="a node", required="no node")
    for host in site.hosts:
        node = nodes.get(host.name)
        if node is None:
            findings.fail("node", "the cluster has no such node", subject=host.name, measured="absent",
                          required="a node")
            continue
        _judge_node(findings, site.contract, host, node)


def _judge_node(findings: Findings, contract: Contract, host: Host, node: Node) -> None:
    subject, taints = host.name, contract.kubernetes.allowed_taints
    findings.equal("Ready", measured=node.conditions.get("Ready"), required="True", subject=subject)
    for pressure in PRESSURES:
        findings.equal(pressure, measured=node.conditions.get(pressure), required="False", subject=subject)
    findings.equal("cordoned", measured=node.unschedulable, required=False, subject=subject)
    findings.same_set("addresses", measured=node.addresses, required=[host.address], subject=subject)
    # a node that is not Ready, or cordoned, bears taints that say so; these are told above
    own = [taint for taint in node.taints if not taint.startswith("node.kubernetes.io/")]
    allowed = {taint for group in host.groups for taint in taints.get(group, [])}
    findings.same_set("taints", measured=own, required=allowed, subject=subject)


@check("gpu-operator", phase=3, layer="kubernetes", area="k8s", needs=("kube-state",), daily=True, clause=OPERATOR,
       criterion="The GPU Operator's policy is ready, each of its DaemonSets runs on every GPU node, and the nodes "
                 "bear its labels",
       remedy="kubectl get clusterpolicy; kubectl -n gpu-operator get pods -o wide; kubectl logs of the pod named; "
              "gpu-feature-discovery writes the labels")
def test_gpu_operator(site: Site, kube: KubeFacts, findings: Findings) -> None:
    contract = site.contract.kubernetes.gpu_operator
    _judge_policy(findings, kube, contract.policy)
    for name in contract.daemonsets:
        judge_daemonset(findings, kube, site, contract.namespace, name, "gpu_nodes")
    listed = {f"{contract.namespace}/{name}" for name in contract.daemonsets}
    for subject, one in kube.daemonsets.items():
        if one.namespace == contract.namespace and subject not in listed:
            findings.equal("pods ready, of those wanted", measured=one.ready, required=one.desired, subject=subject,
                           evidence=kube.id("daemonsets"))
    for pod in kube.pods:
        if pod.namespace == contract.namespace and not pod.terminating and pod.phase != "Succeeded":
            findings.equal(f"ready on {pod.node or 'no node'}", measured=pod.ready, required=True, subject=pod.subject,
                           reason=", ".join(pod.waiting) or pod.phase, evidence=kube.id("pods"))
    findings.evidence = kube.id("nodes")
    for host in site.group("gpu_nodes"):
        node = kube.nodes.get(host.name)
        for label, value in contract.node_labels.items():
            measured = None if node is None else node.labels.get(label, "no such label")
            findings.equal(f"label {label}", measured=measured, required=value, subject=host.name,
                           reason="the cluster has no such node" if node is None else "")


def _judge_policy(findings: Findings, kube: KubeFacts, name: str) -> None:
    subject = f"clusterpolicy/{name}"
    known = kube.definitions.get(POLICIES)
    if known is None or not known.established:
        findings.fail("kind ClusterPolicy", "the cluster does not know this kind: the operator is not installed",
                      subject=subject, measured="not established", required="established",
                      evidence=kube.id("definitions"))
        return
    findings.evidence = kube.id("clusterpolicies")
    found = kube.cluster_policies.get(name)
    findings.equal("state", measured="absent" if found is None else found.state, required="ready", subject=subject)


@check("gpu-allocatable", phase=3, layer="kubernetes", area="k8s", needs=("facts", "kube-state"), daily=True,
       clause=OPERATOR,
       criterion="Kubernetes offers the contracted GPUs of every GPU node, as many as NVML shows there, and no others",
       remedy="kubectl describe node NAME; logs of the device plugin's pod on it; gpu-inventory when NVML shows fewer")
def test_gpu_allocatable(site: Site, kube: KubeFacts, cluster: Cluster, findings: Findings) -> None:
    findings.evidence = kube.id("nodes")
    required, offered = site.contract.gpu.count, 0
    for name, node in kube.nodes.items():
        offered += node.allocatable_gpus or 0
        if name not in {host.name for host in site.group("gpu_nodes")}:
            findings.equal("GPUs offered", measured=node.allocatable_gpus or 0, required=0, subject=name)
    for host in site.group("gpu_nodes"):
        found = kube.nodes.get(host.name)
        if found is None:
            findings.blocked("GPUs offered", "the cluster has no such node", subject=host.name, required=required)
            continue
        named = {"subject": host.name, "required": required}
        findings.equal("GPUs in capacity", measured=found.capacity_gpus or 0, **named)
        findings.equal("GPUs allocatable", measured=found.allocatable_gpus or 0, **named)
        try:
            findings.equal("GPUs allocatable, as NVML shows", measured=found.allocatable_gpus or 0,
                           required=len(cluster[host.name].gpus), subject=host.name)
        except Unmeasured as problem:
            findings.blocked("GPUs that NVML shows", str(problem), subject=host.name)
    findings.equal("GPUs allocatable in all", measured=offered, required=required * len(site.group("gpu_nodes")))


@check("metrics", phase=3, layer="monitoring", area="k8s", needs=("kube-state",), daily=True,
       clause="Operational Handover / Runbook Procedures",
       criterion="`kubectl top nodes` answers for every node, with fresh values",
       remedy="kubectl top nodes; kubectl get apiservice v1beta1.metrics.k8s.io; logs of metrics-server; its way to "
              "port 10250 of the node named")
def test_metrics(site: Site, kube: KubeFacts, findings: Findings) -> None:
    findings.evidence = kube.id("node_metrics")
    refused = kube.refused("node_metrics")
    if refused:
        findings.fail("metrics API", refused, subject="metrics API", measured="no answer", required="an answer")
        return
    metrics, at = kube.node_metrics, kube.at("node_metrics")
    findings.same_set("nodes with metrics", measured=metrics, required=[host.name for host in site.hosts])
    for host in site.hosts:
        one = metrics.get(host.name)
        if one is None:
            findings.fail("metrics", "none of this node", subject=host.name, measured="absent", required="present")
            continue
        age = (at - one.at).total_seconds()
        findings.at_most("age", measured=round(abs(age), 1), required=site.contract.kubernetes.max_metrics_age_s,
                         unit="s", subject=host.name)
        for name, text in (("processor time in use", one.cpu), ("memory in use", one.memory)):
            findings.holds(name, quantity(text) > 0, measured=text, required=0, relation=">", subject=host.name)
