"""The cluster as its API told of it, typed; what was not read, or is malformed, raises Unmeasured with the reason."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence, Record
from acceptance.facts.sections import Section

STATE = "kube-state"
One = TypeVar("One", bound=Section)


class Named(Section):
    """An object of a namespace, or of the cluster ("")."""

    name: str
    namespace: str

    @property
    def subject(self) -> str:
        """How findings call it."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Node(Section):
    """One node. GPUs are None where the node offers no such resource at all."""

    name: str
    labels: dict[str, str]
    unschedulable: bool
    taints: list[str]
    conditions: dict[str, str]
    capacity_gpus: int | None
    allocatable_gpus: int | None
    kubelet: str
    runtime: str
    addresses: list[str]
    pod_ranges: list[str]


class Pod(Named):
    """One pod; `restarts` of the container that was restarted most often, `waiting` the reasons of those that wait."""

    node: str
    phase: str
    reason: str
    ready: bool
    owner: str
    restarts: int
    waiting: list[str]
    gpus: int
    terminating: bool
    managed_by: str


class DaemonSet(Named):
    """Pods of a DaemonSet; `observed` is whether these numbers are of its present form."""

    desired: int
    ready: int
    updated: int
    misscheduled: int
    observed: bool


class Deployment(Named):
    """Replicas of a Deployment; `observed` as for DaemonSet."""

    desired: int
    available: int
    updated: int
    observed: bool


class Namespace(Section):
    """One namespace."""

    name: str
    labels: dict[str, str]
    phase: str


class Quota(Named):
    """A ResourceQuota: quantities as text, by resource; `scoped` ones apply to some pods only."""

    hard: dict[str, str]
    used: dict[str, str]
    scoped: bool


class LimitRange(Named):
    """A LimitRange's limits as the API gives them."""

    limits: list[dict[str, Any]]


class Policy(Named):
    """A NetworkPolicy."""

    selector: dict[str, Any]
    types: list[str]
    ingress: list[dict[str, Any]]
    egress: list[dict[str, Any]]


class Rule(Section):
    """One rule of a role."""

    verbs: list[str]
    groups: list[str]
    resources: list[str]
    names: list[str]
    urls: list[str]


class Role(Named):
    """A Role or ClusterRole."""

    rules: list[Rule]


class Binding(Named):
    """A RoleBinding or ClusterRoleBinding; subjects as "User x", "Group y", "ServiceAccount namespace/name"."""

    role_kind: str
    role: str
    subjects: list[str]


class StorageClass(Section):
    """One StorageClass."""

    name: str
    provisioner: str
    default: bool


class Service(Named):
    """One Service; `address` is its cluster address, "None" for a headless one."""

    type: str
    address: str
    ports: list[int]


class EndpointSlice(Named):
    """Ready ends of a service."""

    service: str
    ready: list[str]


class Definition(Section):
    """One CustomResourceDefinition."""

    name: str
    established: bool


class ClusterPolicy(Section):
    """The GPU Operator's policy; `state` "ready" when all is well."""

    name: str
    state: str


class NodeMetrics(Section):
    """Use of a node, and when metrics-server measured it."""

    name: str
    at: AwareDatetime
    cpu: str
    memory: str


class KubeFacts:
    """Typed views over what the collectors of the API recorded; each is read when it is first asked for."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def record(self, subject: str, collector: str = STATE) -> Record:
        """The record, whose document is a mapping without an error. Raises Unmeasured."""
        found = self._evidence.one(collector, subject)
        if not isinstance(found.document, dict):
            raise Unmeasured(f"{subject}: the record of {collector} is not what the collector writes")
        if "error" in found.document:
            raise Unmeasured(f"{subject}: {found.document['error']}")
        return found

    def refused(self, subject: str) -> str | None:
        """What the API said where it answered a list with an error of its own; None where it did not answer so."""
        found = self._evidence.one(STATE, subject)
        attempts = found.document.get("attempts") if isinstance(found.document, dict) else None
        if not isinstance(attempts, list) or not attempts or "error" not in found.document:
            return None
        last = attempts[-1]
        status = last.get("status") if isinstance(last, dict) else None
        return str(found.document["error"]) if status in (404, 500, 503) else None

    def id(self, subject: str, collector: str = STATE) -> tuple[str, ...]:
        """The evidence's id for a finding."""
        return (self._evidence.one(collector, subject).id,)

    def at(self, subject: str) -> datetime:
        """When a list was read, by the operator's clock. Raises Unmeasured."""
        found: datetime = self.parse(subject, self.record(subject).document.get("at"), AwareDatetime)
        return found

    def parse(self, subject: str, data: Any, model: Any) -> Any:
        """Data as a model. Raises Unmeasured with the place of what is malformed."""
        try:
            return TypeAdapter(model).validate_json(json.dumps(data), strict=True)
        except (ValidationError, ValueError) as error:
            where, why = subject, str(error)
            if isinstance(error, ValidationError):
                first = error.errors(include_url=False)[0]
                where, why = ".".join([subject, *(str(part) for part in first["loc"])]), first["msg"]
            raise Unmeasured(f"{where}: malformed: {why}") from None

    def items(self, subject: str, model: type[One]) -> list[One]:
        """All items of a list that must hold some. Raises Unmeasured, also when it holds none."""
        found = self.maybe_items(subject, model)
        if not found:
            raise Unmeasured(f"{subject}: the cluster lists none at all")
        return found

    def maybe_items(self, subject: str, model: type[One]) -> list[One]:
        """All items of a list that may be empty. Raises Unmeasured."""
        document = self.record(subject).document
        found: list[One] = self.parse(subject, document.get("items"), list[model])  # type: ignore[valid-type]
        keys = [getattr(one, "subject", getattr(one, "name", None)) for one in found]
        if len(set(keys)) != len(keys):
            raise Unmeasured(f"{subject}: the list names an object twice: it was not read at one moment")
        return found

    @cached_property
    def version(self) -> str:
        return str(self.parse("version", self.record("version").document.get("version"), str))

    @cached_property
    def nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.items("nodes", Node)}

    @cached_property
    def pods(self) -> list[Pod]:
        return self.items("pods", Pod)

    @cached_property
    def daemonsets(self) -> dict[str, DaemonSet]:
        return {one.subject: one for one in self.items("daemonsets", DaemonSet)}

    @cached_property
    def deployments(self) -> dict[str, Deployment]:
        return {one.subject: one for one in self.items("deployments", Deployment)}

    @cached_property
    def namespaces(self) -> dict[str, Namespace]:
        return {one.name: one for one in self.items("namespaces", Namespace)}

    @cached_property
    def quotas(self) -> list[Quota]:
        return self.maybe_items("resourcequotas", Quota)

    @cached_property
    def limit_ranges(self) -> list[LimitRange]:
        return self.maybe_items("limitranges", LimitRange)

    @cached_property
    def policies(self) -> list[Policy]:
        return self.maybe_items("networkpolicies", Policy)

    @cached_property
    def roles(self) -> dict[tuple[str, str], Role]:
        """Roles by namespace and name; ClusterRoles have the namespace ""."""
        both = [*self.maybe_items("roles", Role), *self.items("clusterroles", Role)]
        return {(one.namespace, one.name): one for one in both}

    @cached_property
    def bindings(self) -> list[Binding]:
        return [*self.maybe_items("rolebindings", Binding), *self.items("clusterrolebindings", Binding)]

    @cached_property
    def storage_classes(self) -> list[StorageClass]:
        return self.maybe_items("storageclasses", StorageClass)

    @cached_property
    def services(self) -> dict[str, Service]:
        return {one.subject: one for one in self.items("services", Service)}

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        return {one.name: one for one in self.maybe_items("definitions", Definition)}

    @cached_property
    def cluster_policies(self) -> dict[str, ClusterPolicy]:
        return {one.name: one for one in self.maybe_items("clusterpolicies", ClusterPolicy)}

    @cached_property
    def node_metrics(self) -> dict[str, NodeMetrics]:
        return {one.name: one for one in self.maybe_items("node_metrics", NodeMetrics)}
