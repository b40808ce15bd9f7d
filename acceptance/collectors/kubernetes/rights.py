"""What the suite itself may do: enough for what it collects, and nothing with which it could do harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.checks import collector
from acceptance.collectors.kubernetes.rbac import impersonated_groups
from acceptance.collectors.kubernetes.reviews import Right, review_all
from acceptance.collectors.kubernetes.state import KINDS
from acceptance.site.contract import Contract
from acceptance.transport.kube_turn import NAME

if TYPE_CHECKING:
    from acceptance.collect import Session

OWN = "suite"
PROBED = (("create", "pods"), ("delete", "pods"), ("list", "pods"), ("get", "pods/log"))
NAMESPACED = (("create", "services"), ("delete", "services"), ("list", "services"),
              ("create", "persistentvolumeclaims"), ("delete", "persistentvolumeclaims"),
              ("list", "persistentvolumeclaims"))
PYTORCH_JOBS = "pytorchjobs.kubeflow.org"
LEASES, LEASED = "leases.coordination.k8s.io", ("create", "get", "update", "delete")  # the run's turn
HARMFUL = (
    ("*", "*.*", ""), ("impersonate", "users", ""), ("impersonate", "groups", ""), ("escalate", "clusterroles", ""),
    ("bind", "clusterroles", ""), ("create", "clusterrolebindings", ""), ("create", "rolebindings", "kube-system"),
    ("get", "secrets", ""), ("list", "secrets", ""), ("delete", "nodes", ""), ("patch", "nodes", ""),
    ("update", "nodes", ""), ("create", "pods/eviction", ""), ("create", "pods/exec", ""), ("get", "nodes/proxy", ""),
    ("create", "namespaces", ""), ("delete", "namespaces", ""), ("patch", "namespaces", ""),
    ("create", "pods", ""), ("delete", "pods", ""), ("create", "pods", "kube-system"),
    ("delete", "pods", "kube-system"),
    ("delete", "persistentvolumes", ""), ("delete", "persistentvolumeclaims", ""), ("patch", "daemonsets", ""),
    ("patch", "deployments", ""), ("delete", "customresourcedefinitions", ""),
    ("delete", "networkpolicies", ""), ("delete", "resourcequotas", ""), ("create", "serviceaccounts/token", ""),
)
GROUPS = {"clusterroles": "rbac.authorization.k8s.io", "clusterrolebindings": "rbac.authorization.k8s.io",
          "rolebindings": "rbac.authorization.k8s.io", "daemonsets": "apps", "deployments": "apps",
          "customresourcedefinitions": "apiextensions.k8s.io", "networkpolicies": "networking.k8s.io"}


def needed(site: Contract) -> list[Right]:
    """Every right that some collector uses."""
    contract, workloads = site.kubernetes, site.performance.pods
    found = [Right("list", _of_path(kind.path)) for kind in KINDS.values()]
    found += [Right("create", "subjectaccessreviews.authorization.k8s.io")]
    for namespace in [contract.probes.namespace, *contract.tenants.teams]:
        found += [Right(verb, resource, namespace) for verb, resource in PROBED]
    found += [Right("get", "resourcequotas", namespace) for namespace in contract.tenants.teams]
    found += [Right(verb, resource, contract.probes.namespace) for verb, resource in NAMESPACED]
    found += [Right(verb, LEASES, contract.probes.namespace, "" if verb == "create" else NAME) for verb in LEASED]
    run = ("services", "configmaps", "jobs.batch") + (PYTORCH_JOBS,) * (workloads.kind == "PyTorchJob")
    found += [Right(verb, resource, workloads.namespace) for verb, resource in (*PROBED, ("list", "events"))]
    found += [Right(verb, resource, workloads.namespace) for resource in run for verb in ("create", "delete", "list")]
    found += [Right("impersonate", "users", name=one.user) for one in contract.rbac.subjects.values()]
    groups = {group for one in contract.rbac.subjects.values() for group in impersonated_groups(one)}
    return found + [Right("impersonate", "groups", name=group) for group in sorted(groups)]


def forbidden() -> list[Right]:
    """Rights with which the suite could do harm; the whole cluster is meant where no namespace is named."""
    return [Right(verb, f"{resource}.{GROUPS[resource]}" if resource in GROUPS else resource, namespace)
            for verb, resource, namespace in HARMFUL]


def _of_path(path: str) -> str:
    words = path.strip("/").split("/")
    return words[-1] if words[0] == "api" else f"{words[-1]}.{words[1]}"


@collector("kube-rights", purpose="asking what the suite itself may do", deadline_s=60, kube=True)
def collect(session: Session) -> None:
    """One record: the suite's needed rights, and those that it must not have, each with the API server's word."""
    groups = {"needed": needed(session.contract), "forbidden": forbidden()}
    session.record(OWN, document={
        name: review_all(session.kube, {right.text: (right, None, ()) for right in rights})
        for name, rights in groups.items()})
