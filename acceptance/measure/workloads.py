"""Whether a DaemonSet or Deployment is all there, judged the same way wherever one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.site.kubernetes import Workload

if TYPE_CHECKING:
    from acceptance.facts.kubernetes import DaemonSet, Deployment, KubeFacts
    from acceptance.findings import Findings
    from acceptance.site.load import Site


def judge_workload(findings: Findings, kube: KubeFacts, site: Site, workload: Workload) -> None:
    """Every contracted pod of it is ready, and of its present form. Raises Unmeasured."""
    kind = "daemonsets" if workload.kind == "DaemonSet" else "deployments"
    found: DaemonSet | Deployment | None = getattr(kube, kind).get(workload.subject)
    required = workload.replicas if workload.hosts is None else len(site.group(workload.hosts))
    named = {"subject": workload.subject, "evidence": kube.id(kind)}
    if found is None:
        findings.fail(f"{workload.kind} is there", "the cluster has none of this name", measured="absent",
                      required="present", **named)
        return
    ready = getattr(found, "ready" if workload.kind == "DaemonSet" else "available")
    findings.equal("its status is of its present form", measured=found.observed, required=True, **named)
    findings.equal("pods wanted", measured=found.desired, required=required, **named)
    findings.equal("pods ready", measured=ready, required=required, **named)
    findings.equal("pods of its present form", measured=found.updated, required=required, **named)


def judge_daemonset(findings: Findings, kube: KubeFacts, site: Site, namespace: str, name: str, hosts: str) -> None:
    """As `judge_workload`, for a DaemonSet named in passing."""
    judge_workload(findings, kube, site, Workload(kind="DaemonSet", namespace=namespace, name=name, hosts=hosts))
