"""The state of the whole cluster, by one paged list a kind, once a run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.kubernetes import projections as keep
from acceptance.errors import ApiFailed
from acceptance.transport.kube import PAGE, list_all

if TYPE_CHECKING:
    from acceptance.collect import Session

RBAC = "/apis/rbac.authorization.k8s.io/v1"
PAGE_DEADLINE_S = 20.0
AT_ONCE = 3


@dataclass(frozen=True)
class Kind:
    """One list: where it is, what is kept of its items, and how many come in a page."""

    path: str
    project: Callable[[dict[str, Any]], dict[str, Any]]
    page: int = PAGE


KINDS: dict[str, Kind] = {
    "pods": Kind("/api/v1/pods", keep.pod),
    "nodes": Kind("/api/v1/nodes", keep.node, 250),
    "endpointslices": Kind("/apis/discovery.k8s.io/v1/endpointslices", keep.endpoint_slice),
    "namespaces": Kind("/api/v1/namespaces", keep.namespace),
    "services": Kind("/api/v1/services", keep.service),
    "daemonsets": Kind("/apis/apps/v1/daemonsets", keep.daemonset),
    "deployments": Kind("/apis/apps/v1/deployments", keep.deployment),
    "resourcequotas": Kind("/api/v1/resourcequotas", keep.quota),
    "limitranges": Kind("/api/v1/limitranges", keep.limit_range),
    "networkpolicies": Kind("/apis/networking.k8s.io/v1/networkpolicies", keep.policy),
    "roles": Kind(f"{RBAC}/roles", keep.role),
    "clusterroles": Kind(f"{RBAC}/clusterroles", keep.role),
    "rolebindings": Kind(f"{RBAC}/rolebindings", keep.binding),
    "clusterrolebindings": Kind(f"{RBAC}/clusterrolebindings", keep.binding),
    "storageclasses": Kind("/apis/storage.k8s.io/v1/storageclasses", keep.storage_class),
    "definitions": Kind("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", keep.definition, 25),
    "clusterpolicies": Kind("/apis/nvidia.com/v1/clusterpolicies", keep.cluster_policy),
    "node_metrics": Kind("/apis/metrics.k8s.io/v1beta1/nodes", keep.node_metrics),
}


@collector("kube-state", purpose="reading the state of the cluster", deadline_s=120, kube=True)
def collect(session: Session) -> None:
    """One record a kind, with its projected items, and one of the version. A list that fails stops no other."""

    def one(name: str) -> None:
        try:
            session.record(name, document=read(session, name))
        except ApiFailed as problem:
            session.record(name, document={"error": str(problem), "at": _now(), **problem.evidence})
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            session.record(name, document={"error": f"an object of another form: {type(problem).__name__}: {problem}"})
        with_done.append(name)
        session.progress(len(with_done), len(KINDS) + 1, name)

    with_done: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, ["version", *KINDS]))


def read(session: Session, name: str) -> dict[str, Any]:
    """One kind's whole list, or the version. Raises ApiFailed."""
    if name == "version":
        answer = session.kube.request("GET", "/version", deadline_s=PAGE_DEADLINE_S)
        return {**answer.evidence(), "at": _now(), "version": str(answer.object()["gitVersion"])}
    kind = KINDS[name]
    listing = list_all(session.kube, kind.path, project=kind.project, page=kind.page, deadline_s=PAGE_DEADLINE_S)
    return {**listing.as_json(), "at": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
