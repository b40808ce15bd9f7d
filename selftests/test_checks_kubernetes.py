"""Checks of Kubernetes: green on a healthy cluster, red at the right subject for each defect, blocked without proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acceptance.findings import Verdict
from acceptance.selection import load_catalogue
from selftests.synthetic import ROOT, SITE, Broken, reds, subjects
from selftests.synthetic_kubernetes import (
    FACTS,
    K8S,
    Change,
    Recorded,
    daemonset,
    etcd_sample,
    healthy,
    judge,
    pod,
    rule,
    with_pod,
)
from selftests.synthetic_network import network_sections

NODE, CONTROL, TEAM = "gpu-node-03", "k8s-cp-01", "cv-team"
PROXY = f"kube-proxy-{NODE}"
READ_ONLY = sorted(check.id for check in load_catalogue(ROOT).values()
                   if any(need.startswith("kube-") or need == "etcd" for need in check.needs) and not check.intrusive)


def items(documents: Recorded, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = documents["kube-state"][kind]["items"]
    return found


def names(one: dict[str, Any]) -> tuple[str, str]:
    return one["name"], f"{one.get('namespace')}/{one['name']}"


def of(kind: str, name: str, **values: Any) -> Change:
    """Changes an object of kube-state."""
    def change(documents: Recorded) -> None:
        found = [one for one in items(documents, kind) if name in names(one)]
        assert found, name
        for one in found:
            one.update(values)
    return change


def without(kind: str, name: str) -> Change:
    """Takes an object away."""
    def change(documents: Recorded) -> None:
        kept = [one for one in items(documents, kind) if name not in names(one)]
        assert len(kept) < len(items(documents, kind)), name
        documents["kube-state"][kind]["items"] = kept
    return change


def added(kind: str, **one: Any) -> Change:
    """Adds an object."""
    return lambda documents: items(documents, kind).append(one)


def at(*path: Any, value: Any) -> Change:
    """Sets one place of the recorded documents."""
    def change(documents: Recorded) -> None:
        inner: Any = documents
        for key in path[:-1]:
            inner = inner[key]
        assert path[-1] in inner or value is not None
        inner[path[-1]] = value
    return change


def condition(kind: str, status: str) -> Change:
    return lambda d: next(n for n in items(d, "nodes") if n["name"] == NODE)["conditions"].update({kind: status})


def label(kind: str, name: str, key: str, value: str | None) -> Change:
    def change(documents: Recorded) -> None:
        labels = next(one for one in items(documents, kind) if one["name"] == name)["labels"]
        labels.pop(key) if value is None else labels.update({key: value})
    return change


def bound(subject: str, role: str = "cluster-admin", name: str = "extra", namespace: str = "") -> Change:
    kind = "rolebindings" if namespace else "clusterrolebindings"
    return added(kind, name=name, namespace=namespace, role_kind="ClusterRole", role=role, subjects=[subject])


def cell(name: str, allowed: bool) -> Change:
    who = name.split(":")[0]
    return at("kube-rbac", who, "cells", name, "allowed", value=allowed)


def tried(what: str, **values: Any) -> Change:
    return lambda d: d["kube-dry-run"][TEAM]["tries"][what].update(values)


ADMITTED = {"status": 201, "message": ""}
OPERATOR = K8S.gpu_operator.namespace
PLUGIN = f"{OPERATOR}/nvidia-device-plugin-daemonset"
POLICY = f"clusterpolicy/{K8S.gpu_operator.policy}"
ETCD = ("etcd", CONTROL)
DEFECTS: list[tuple[str, Change, str]] = [
    # the rows of the catalogue
    ("api-health", at("kube-health", f"{CONTROL} /readyz", "text", value="[+]ping ok\n[-]etcd failed: late\n"),
     CONTROL),
    ("api-health", lambda d: d["kube-health"][f"{CONTROL} /livez"].update(status=None, text="", error_text="refused"),
     CONTROL),
    ("etcd", at(*ETCD, "alarms", "alarms", value=[{"memberID": "11", "alarm": "NOSPACE"}]), CONTROL),
    ("etcd", at(*ETCD, "samples", 1, value=etcd_sample(1100, fsync_s=0.03)), CONTROL),
    ("nodes", condition("Ready", "Unknown"), NODE),
    ("nodes", of("nodes", NODE, unschedulable=True), NODE),
    ("nodes", of("nodes", NODE, taints=["dedicated=x:NoSchedule"]), NODE),
    ("nodes", without("nodes", NODE), NODE),
    ("versions", of("nodes", NODE, kubelet="v1.33.1"), NODE),
    ("certificates", at("kube-certificates", CONTROL, "ports", "6443", "not_after", value="2026-01-06T00:00:00+00:00"),
     f"{CONTROL}:6443"),
    ("cni", of("daemonsets", K8S.cni.daemonset.name, ready=8), K8S.cni.daemonset.subject),
    ("pods", of("pods", PROXY, waiting=["CrashLoopBackOff"], ready=False), f"kube-system/{PROXY}"),
    ("pods", added("pods", **pod("default", "x", NODE) | {"waiting": ["ImagePullBackOff"], "phase": "Pending"}),
     "default/x"),
    ("gpu-operator", of("pods", f"gpu-feature-discovery-{NODE}", ready=False, waiting=["CrashLoopBackOff"]),
     f"{OPERATOR}/gpu-feature-discovery-{NODE}"),
    ("gpu-operator", label("nodes", NODE, "nvidia.com/gpu.count", "3"), NODE),
    ("gpu-allocatable", of("nodes", NODE, allocatable_gpus=3), NODE),
    ("gpu-allocatable", of("nodes", NODE, allocatable_gpus=0, capacity_gpus=0), NODE),
    ("metrics", lambda d: d["kube-state"].update(node_metrics={
        "error": "GET /apis/metrics: status 503: service unavailable", "attempts": [{"status": 503, "error": "x"}]}),
     "metrics API"),
    ("rbac", bound("User intern"), "extra User intern"),
    ("rbac", cell("nlp-scientist: create pods in nlp-team", False), "nlp-scientist: create pods in nlp-team"),
    ("rbac", cell("nlp-scientist: create pods in cv-team", True), "nlp-scientist: create pods in cv-team"),
    ("rbac", lambda d: (added("clusterroles", name="wide", namespace="", rules=[rule(["*"], ["pods"])])(d),
                        bound("User intern", "wide")(d)), "extra User intern"),
    ("rbac", bound("Group system:unauthenticated", "view"), "extra Group system:unauthenticated"),
    ("pod-security", lambda d: tried("privileged", **ADMITTED)(d), TEAM),
    ("tenants", label("namespaces", TEAM, "pod-security.kubernetes.io/enforce", None), TEAM),
    ("tenants", label("namespaces", TEAM, "pod-security.kubernetes.io/enforce", "privileged"), TEAM),
    ("quotas", without("resourcequotas", f"{TEAM}/{K8S.tenants.quota}"), TEAM),
    ("quotas", of("resourcequotas", f"{TEAM}/{K8S.tenants.quota}", hard={"requests.nvidia.com/gpu": "32"}), TEAM),
    ("quotas", tried("quota-exceeded", **ADMITTED), TEAM),
    ("tenants", label("namespaces", TEAM, "team", None), TEAM),
    ("tenants", without("networkpolicies", f"{TEAM}/default-deny"), TEAM),
    ("tenants", added("networkpolicies", name="allow-all", namespace=TEAM, selector={}, types=["Ingress"], ingress=[{}],
                      egress=[]), TEAM),
    # and more
    ("api-health", at("kube-health", f"{CONTROL} /readyz", "text", value=""), CONTROL),
    ("api-health", lambda d: d["kube-health"][f"{CONTROL} /readyz"].update(status=500, text="[-]shutdown failed\n"),
     CONTROL),
    ("etcd", at(*ETCD, "samples", 1, value=etcd_sample(1100, commit_s=0.1)), CONTROL),
    ("etcd", at(*ETCD, "samples", 1, value=etcd_sample(1100, size="2.0e+09")), CONTROL),
    ("etcd", at(*ETCD, "members", "members", value=[{"ID": "11", "name": CONTROL}, {"ID": "12", "name": "stranger"}]),
     CONTROL),
    ("etcd", at(*ETCD, "members", "members", 0, "isLearner", value=True), CONTROL),
    ("etcd", at(*ETCD, "status", "leader", value="0"), CONTROL),
    ("nodes", condition("DiskPressure", "True"), NODE),
    ("nodes", of("nodes", NODE, addresses=["10.100.0.99"]), NODE),
    ("nodes", lambda d: items(d, "nodes").append(dict(items(d, "nodes")[0], name="stranger")), "stranger"),
    ("versions", lambda d: (at("kube-state", "version", "version", value="v1.27.9")(d),
                            [one.update(kubelet="v1.27.9") for one in items(d, "nodes")]), "API server"),
    ("versions", of("nodes", NODE, kubelet="v1.35.0"), NODE),
    ("certificates", at("kube-certificates", NODE, "ports", "10250", "names", value=["other"]), f"{NODE}:10250"),
    ("certificates", at("kube-certificates", CONTROL, "ports", "6443", "names", value=["kubernetes"]),
     f"{CONTROL}:6443"),
    ("certificates", at("kube-certificates", NODE, "files", K8S.certificates.files["all"][0], value={}), NODE),
    ("certificates", at("kube-certificates", CONTROL, "files", "/etc/kubernetes/*.conf", "/etc/kubernetes/one.conf", 0,
                        "not_after", value="2025-12-01T00:00:00+00:00"), f"{CONTROL}:/etc/kubernetes/one.conf"),
    ("cni", without("daemonsets", K8S.cni.daemonset.name), K8S.cni.daemonset.subject),
    ("pods", of("pods", PROXY, restarts=9), f"kube-system/{PROXY}"),
    ("pods", of("pods", PROXY, phase="Failed", reason="Evicted", ready=False),
     f"kube-system/{PROXY}"),
    ("pods", of("pods", PROXY, ready=False), f"kube-system/{PROXY}"),
    ("pods", of("daemonsets", "kube-proxy", desired=8, ready=8, updated=8), "kube-system/kube-proxy"),
    ("gpu-operator", of("clusterpolicies", K8S.gpu_operator.policy, state="notReady"), POLICY),
    ("gpu-operator", of("definitions", "clusterpolicies.nvidia.com", established=False), POLICY),
    ("gpu-operator", without("clusterpolicies", K8S.gpu_operator.policy), POLICY),
    ("gpu-operator", of("daemonsets", PLUGIN, desired=0, ready=0, updated=0), PLUGIN),
    ("gpu-operator", of("daemonsets", PLUGIN, observed=False), PLUGIN),
    ("gpu-operator", added("daemonsets", **daemonset(OPERATOR, "other", 8) | {"ready": 7}), f"{OPERATOR}/other"),
    ("gpu-operator", label("nodes", NODE, "nvidia.com/gpu.product", None), NODE),
    ("gpu-allocatable", of("nodes", CONTROL, allocatable_gpus=4), CONTROL),
    ("metrics", without("node_metrics", NODE), NODE),
    ("metrics", of("node_metrics", NODE, at="2025-12-31T23:00:00Z"), NODE),
    ("metrics", of("node_metrics", NODE, cpu="0"), NODE),
    ("suite-rights", at("kube-rights", "suite", "forbidden", "* *.* in the cluster", "allowed", value=True), "suite"),
    ("suite-rights", at("kube-rights", "suite", "needed", "list pods in the cluster", "allowed", value=False), "suite"),
    ("rbac", cell("anonymous: get secrets in kube-system", True), "anonymous: get secrets in kube-system"),
    ("rbac", cell("cv-scientist: * *.* in the cluster", True), "cv-scientist: * *.* in the cluster"),
    ("rbac", at("kube-rbac", "calls", "calls", "nlp-scientist: list pods in cv-team", "allowed", value=True),
     "nlp-scientist: list pods in cv-team"),
    ("rbac", bound("Group interns", "gone", namespace=TEAM), f"{TEAM}/extra Group interns"),
    ("pod-security", tried("compliant", status=403, message="status 403: violates PodSecurity"), TEAM),
    ("quotas", tried("no-limits", resources={}), TEAM),
    ("quotas", tried("quota-left", status=403, message="forbidden: exceeded quota: team"), TEAM),
    ("tenants", without("namespaces", TEAM), TEAM),
    ("tenants", of("networkpolicies", f"{TEAM}/default-deny", ingress=[{}]), TEAM),
    ("tenants", of("rolebindings", f"{TEAM}/{K8S.tenants.role}", subjects=["Group cv-team", "User intern"]), TEAM),
    ("tenants", without("limitranges", f"{TEAM}/{K8S.tenants.limit_range}"), TEAM),
]


def test_there_are_checks() -> None:
    assert {check for check, *_ in DEFECTS} == set(READ_ONLY)


@pytest.mark.parametrize("check", READ_ONLY)
def test_a_healthy_cluster_is_green(check: str) -> None:
    findings = judge(check)
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]
    assert all(finding.evidence for finding in findings.found if finding.subject != "contract")


@pytest.mark.parametrize(("check", "change", "subject"), DEFECTS)
def test_each_defect_is_red_at_its_subject(check: str, change: Change, subject: str) -> None:
    found = reds(judge(check, change))
    summaries = {"cluster", "bindings", "calls", subject.split(":")[0]}
    assert subject in subjects(found), [f.sentence() for f in found]
    assert subjects(found) - {subject} <= summaries, [f.sentence() for f in found]


CROSS = {"rbac": {"rbac"}, "tenants": {"tenants", "quotas"}, "quotas": {"quotas", "tenants"}}


@pytest.mark.parametrize(("check", "change", "subject"), DEFECTS)
def test_no_defect_turns_an_unrelated_check_red(check: str, change: Change, subject: str) -> None:
    related = {check, *CROSS.get(check, ())}
    if check in ("pods", "gpu-operator", "nodes", "gpu-allocatable"):  # a pod, a node and its GPUs belong together
        related |= {"pods", "gpu-operator", "gpu-allocatable"}
    for other in READ_ONLY:
        if other not in related:
            assert judge(other, change).verdict() is Verdict.PASS, (other, subject)


def spoilt(kind: str, how: str) -> Change:
    """A list that is gone, failed, is no list, or holds something else."""
    def change(documents: Recorded) -> None:
        found = documents["kube-state"]
        if how == "gone":
            del found[kind]
        elif how == "failed":
            found[kind] = {"error": "status 403: forbidden"}
        elif how == "no list":
            found[kind].update(items=None, version=None)
        else:
            found[kind].update(items=[{"name": "x"}], version=7)
    return change


USES: dict[str, set[str]] = {
    "nodes": {"nodes", "versions", "gpu-operator", "gpu-allocatable"}, "pods": {"pods", "gpu-operator"},
    "daemonsets": {"pods", "cni", "gpu-operator"}, "node_metrics": {"metrics"}, "version": {"versions"},
    "definitions": {"gpu-operator"}, "clusterpolicies": {"gpu-operator"},
    "namespaces": {"tenants"}, "resourcequotas": {"tenants", "quotas"}, "limitranges": {"tenants"},
    "networkpolicies": {"tenants"}, "roles": {"tenants", "rbac"}, "clusterroles": {"tenants", "rbac"},
    "rolebindings": {"tenants", "rbac"}, "clusterrolebindings": {"tenants", "rbac"},
}


@pytest.mark.parametrize("kind", sorted(healthy()["kube-state"]))
@pytest.mark.parametrize("how", ["gone", "failed", "no list", "malformed"])
def test_a_list_that_was_not_read_blocks_what_needs_it_and_nothing_else(how: str, kind: str) -> None:
    for check in READ_ONLY:
        verdict = judge(check, spoilt(kind, how)).verdict()
        assert verdict is (Verdict.BLOCKED if check in USES.get(kind, set()) else Verdict.PASS), check


@pytest.mark.parametrize("kind", ["nodes", "pods", "daemonsets", "node_metrics", "namespaces", "clusterroles"])
def test_an_empty_list_is_no_health(kind: str) -> None:
    for check in USES[kind]:
        assert judge(check, at("kube-state", kind, "items", value=[])).verdict() is not Verdict.PASS, check


@pytest.mark.parametrize("collector", sorted(healthy()))
def test_a_collector_that_recorded_nothing_blocks(collector: str) -> None:
    checks = load_catalogue(ROOT)
    for check in READ_ONLY:
        if collector in checks[check].needs:
            assert judge(check, lambda d: d.pop(collector)).verdict() is Verdict.BLOCKED


def test_gpus_are_compared_with_nvml() -> None:
    def lost(sections: dict[str, Any]) -> None:
        sections["nvml"]["gpus"].pop()

    few = Broken(breaks={NODE: [lost]}).cluster()
    assert subjects(reds(judge("gpu-allocatable", cluster=few))) == {NODE}
    down = Broken(down=(NODE,)).cluster()
    findings = judge("gpu-allocatable", cluster=down)
    assert (findings.verdict(), subjects(reds(findings))) == (Verdict.BLOCKED, {NODE})


def pod_mtu(mtu: int) -> Callable[[dict[str, Any]], None]:
    return lambda sections: sections["net"]["interfaces"]["cali0123456789a"].update(mtu=mtu)


def test_the_pods_mtu_must_leave_room_for_the_encapsulation() -> None:
    host = SITE.host(NODE)
    breaks = {h.name: [network_sections(h), with_pod, *([pod_mtu(9000)] if h is host else [])] for h in SITE.hosts}
    found = reds(judge("cni", cluster=Broken(breaks=dict(breaks)).cluster()))
    assert subjects(found) == {NODE}
    assert any("with encapsulation: measured 9050" in one.sentence() for one in found)
    none = Broken(breaks={h.name: [network_sections(h)] for h in SITE.hosts}).cluster()
    assert judge("cni", cluster=none).verdict() is Verdict.BLOCKED


def test_one_node_without_a_pods_interface_is_blocked() -> None:
    breaks = {h.name: [network_sections(h), *([] if h.name == NODE else [with_pod])] for h in SITE.hosts}
    found = judge("cni", cluster=Broken(breaks=breaks).cluster())
    assert (found.verdict(), subjects(reds(found))) == (Verdict.BLOCKED, {NODE})


def test_a_slow_moment_of_few_writes_is_not_judged_alone() -> None:
    few = at(*ETCD, "samples", 0, value=etcd_sample(1095))
    assert judge("etcd", few).verdict() is Verdict.PASS
    assert len(judge("etcd", few).found) == len(judge("etcd").found) - 2


def test_the_facts_are_healthy() -> None:
    assert FACTS[NODE].net.interfaces
