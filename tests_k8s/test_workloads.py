"""Phase 3: pods, the pod network's daemons, and storage."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from acceptance.checks import check
from acceptance.collectors.kubernetes.objects import OWNER
from acceptance.errors import Unmeasured
from acceptance.measure.workloads import judge_workload

if TYPE_CHECKING:
    from acceptance.facts import Cluster
    from acceptance.facts.kubernetes import KubeFacts, Pod
    from acceptance.findings import Findings
    from acceptance.site.load import Site

CLAUSE = "Application Configuration / Kubernetes Cluster Deployment"


@check("cni", phase=3, layer="kubernetes", area="k8s", needs=("facts", "kube-state"), daily=True, clause=CLAUSE,
       criterion="The pod network's daemon is ready on every node, and packets of pods with their encapsulation fit "
                 "into the nodes' ports",
       remedy="kubectl get pods -o wide of the daemon; its logs on the node named; set the pod network's MTU to the "
              "port's less the encapsulation")
def test_cni(site: Site, kube: KubeFacts, cluster: Cluster, findings: Findings) -> None:
    contract, port = site.contract.kubernetes.cni, site.contract.network.fabric.mtu
    judge_workload(findings, kube, site, contract.daemonset)
    findings.at_most("contracted pod MTU", measured=contract.pod_mtu, required=port - contract.overhead_bytes,
                     unit="bytes", subject="contract")
    for host in site.group("gpu_nodes"):
        node = cluster[host.name]
        named: dict[str, Any] = {"subject": host.name, "evidence": [node.evidence_id] if node.evidence_id else ()}
        try:
            mtus = {name: one.mtu for name, one in node.net.interfaces.items()
                    if fnmatchcase(name, contract.host_interfaces)}
        except Unmeasured as problem:
            findings.blocked("MTU of pods' interfaces", str(problem), **named)
            continue
        if not mtus:
            findings.blocked("MTU of pods' interfaces", f"there is no interface {contract.host_interfaces}", **named)
        for name, mtu in mtus.items():
            findings.equal(f"MTU of {name}", measured=mtu, required=contract.pod_mtu, unit="bytes", **named)
            findings.at_most(f"MTU of {name}, with encapsulation", measured=mtu + contract.overhead_bytes,
                             required=port, unit="bytes", **named)


@check("pods", phase=3, layer="kubernetes", area="k8s", needs=("kube-state",), daily=True,
       clause="Operational Handover / Runbook Procedures",
       criterion="Every pod runs and is ready, or has succeeded; none restarts again and again; the system's "
                 "workloads are complete",
       remedy="kubectl describe pod and kubectl logs --previous of the pod named; its events say what it lacks")
def test_pods(site: Site, kube: KubeFacts, findings: Findings) -> None:
    limit = site.contract.kubernetes.max_restarts
    pods = [pod for pod in kube.pods if pod.managed_by != OWNER and not pod.terminating]
    findings.evidence = kube.id("pods")
    bad = 0
    for pod in pods:
        wrong = trouble(pod)
        bad += bool(wrong)
        if wrong:
            findings.fail(f"state on {pod.node or 'no node'}", wrong, subject=pod.subject,
                          measured=", ".join(pod.waiting) or pod.reason or pod.phase, required="Running and ready")
        if pod.restarts > limit:
            findings.at_most(f"restarts on {pod.node}", measured=pod.restarts, required=limit, subject=pod.subject)
    findings.at_least("pods", measured=len(pods), required=1)
    findings.equal("pods that are not well", measured=bad, required=0)
    for workload in site.contract.kubernetes.workloads:
        judge_workload(findings, kube, site, workload)


def trouble(pod: Pod) -> str:
    """What is wrong with a pod's state, or nothing."""
    if pod.phase == "Succeeded":
        return ""
    if pod.waiting:
        return f"a container waits: {', '.join(pod.waiting)}"
    if pod.phase != "Running":
        return f"its phase is {pod.phase or 'not known'}" + (f": {pod.reason}" if pod.reason else "")
    return "" if pod.ready else "it runs, but is not ready"


@check("storage", phase=3, layer="kubernetes", area="k8s", needs=("kube-state", "kube-probes"), intrusive=True,
       clause=CLAUSE,
       criterion="There is one default StorageClass, the contracted one; a claim on it binds, and a file survives the "
                 "pod that wrote it",
       remedy="kubectl get storageclass; kubectl describe pvc; logs of the provisioner")
def test_storage(site: Site, kube: KubeFacts, findings: Findings) -> None:
    findings.evidence = kube.id("storageclasses")
    findings.same_set("default StorageClass", measured=[one.name for one in kube.storage_classes if one.default],
                      required=[site.contract.kubernetes.storage.default_class], subject="StorageClass")
    try:
        document = kube.record("storage", "kube-probes").document
        findings.evidence = kube.id("storage", "kube-probes")
    except Unmeasured as problem:
        findings.blocked("claim", str(problem), subject="claim")
        return
    findings.equal("claim", measured=document.get("phase"), required="Bound", subject="claim",
                   reason=str(document.get("problem") or ""))
    if document.get("problem"):
        findings.fail("file", str(document["problem"]), subject="claim", measured="not read back", required="read back")
        return
    token = document.get("token")
    findings.equal("file read by a second pod", measured=document.get("read"), required=token or "what was written",
                   subject="claim")
