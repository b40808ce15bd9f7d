"""Who may do what (RBAC) and who may reach whom (network policies): matrices, written compactly, expanded here.

What no rule allows is denied. Every cell of a matrix is evaluated, those that must say no as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from acceptance.site.base import Model

OWN = "own"
Names = Annotated[list[str], Field(min_length=1)]
Resource = Annotated[str, Field(pattern=r"^[a-z*]+(/[a-z*]+)?(\.[a-z0-9.*-]+)?$")]


class Subject(Model):
    """A user as the API server knows him: name, groups, and the namespaces that are his own."""

    user: str
    groups: list[str]
    own: list[str] = Field(default_factory=list)

    @property
    def all_groups(self) -> list[str]:
        """His groups, with the one that everybody has who has logged in."""
        return self.groups if self.user == "system:anonymous" else [*self.groups, "system:authenticated"]


class Grant(Model):
    """Cells that must say yes. A namespace "own" means each subject's own; "" is the cluster."""

    subjects: Names
    namespaces: Names
    verbs: Names
    resources: Annotated[list[Resource], Field(min_length=1)]


class Escalation(Model):
    """A right with which one gets others; nobody of the matrix may have it."""

    verb: str
    resource: Resource
    namespace: str = ""
    why: str


@dataclass(frozen=True)
class Cell:
    """May `subject` do `verb` on `resource` in `namespace` ("" for the cluster)? The contract says `allowed`."""

    subject: str
    verb: str
    resource: str
    namespace: str
    allowed: bool

    @property
    def name(self) -> str:
        """The cell in words; also its key in the evidence."""
        return f"{self.subject}: {self.verb} {self.resource} in {self.namespace or 'the cluster'}"


class Rbac(Model):
    """The matrix subjects × verbs × resources × namespaces, the cells of it that are allowed, and what nobody may.

    `powerful` lists, as shell patterns of "binding subject-kind subject", who may hold rights that reach beyond their
    namespace's work; any other holder is a finding.
    """

    subjects: Annotated[dict[str, Subject], Field(min_length=1)]
    verbs: Names
    resources: Annotated[list[Resource], Field(min_length=1)]
    namespaces: Names
    cluster_resources: Annotated[list[Resource], Field(min_length=1)]
    allow: Annotated[list[Grant], Field(min_length=1)]
    escalations: Annotated[list[Escalation], Field(min_length=1)]
    powerful: Names

    @model_validator(mode="after")
    def _grants_are_cells(self) -> Rbac:
        for grant in self.allow:
            for place, given, known in (
                ("subjects", grant.subjects, set(self.subjects)), ("verbs", grant.verbs, set(self.verbs)),
                ("namespaces", grant.namespaces, {*self.namespaces, OWN, ""}),
                ("resources", grant.resources, {*self.resources, *self.cluster_resources}),
            ):
                strange = ", ".join(sorted(set(given) - known))
                if strange:
                    raise ValueError(f"allow: {strange} is not among the matrix's {place}")
        return self

    def _places(self) -> Iterator[tuple[str, str]]:
        for namespace in self.namespaces:
            yield from ((namespace, resource) for resource in self.resources)
        yield from (("", resource) for resource in self.cluster_resources)

    def cells(self) -> list[Cell]:
        """Every cell of the matrix, each escalation for each subject among them."""
        granted = {
            (who, verb, resource, namespace)
            for grant in self.allow for who in grant.subjects for name in grant.namespaces
            for namespace in (self.subjects[who].own if name == OWN else [name])
            for verb in grant.verbs for resource in grant.resources
        }
        keys = [(who, verb, resource, namespace) for who in self.subjects for namespace, resource in self._places()
                for verb in self.verbs]
        keys += [(who, one.verb, one.resource, one.namespace) for who in self.subjects for one in self.escalations]
        return [Cell(*key, allowed=key in granted) for key in dict.fromkeys(keys)]


class Flow(Model):
    """Flows that must work. A destination "own" is the source's own namespace."""

    sources: Names
    destinations: Names
    ports: Annotated[list[int], Field(min_length=1)]


@dataclass(frozen=True)
class FlowCell:
    """May a pod of `source` connect to a pod of `destination` on `port`?"""

    source: str
    destination: str
    port: int
    allowed: bool


class Flows(Model):
    """The matrix source namespaces × destination namespaces × TCP ports, and the flows of it that are allowed."""

    sources: Names
    destinations: Names
    ports: Annotated[list[Annotated[int, Field(ge=1024, le=65535)]], Field(min_length=1)]
    allow: Annotated[list[Flow], Field(min_length=1)]
    denied_ends: Annotated[list[Literal["refused", "timed out"]], Field(min_length=1)]

    @model_validator(mode="after")
    def _allowed_are_cells(self) -> Flows:
        for flow in self.allow:
            for place, given, known in (
                ("sources", set(flow.sources), set(self.sources)),
                ("destinations", set(flow.destinations), {*self.destinations, OWN}),
            ):
                if given - known:
                    raise ValueError(f"allow: {', '.join(sorted(given - known))} is not among the matrix's {place}")
            if set(flow.ports) - set(self.ports):
                raise ValueError(f"allow: ports {sorted(set(flow.ports) - set(self.ports))} are not among the matrix's")
        for name in self.destinations:
            if not any(cell.allowed for cell in self.cells() if cell.destination == name):
                raise ValueError(f"{name}: no flow to it is allowed, so that nothing could prove it is up")
        return self

    def cells(self) -> list[FlowCell]:
        """Every cell of the matrix."""
        granted = {
            (source, source if name == OWN else name, port)
            for flow in self.allow for source in flow.sources for name in flow.destinations for port in flow.ports
        }
        return [FlowCell(source, destination, port, (source, destination, port) in granted)
                for source in self.sources for destination in self.destinations for port in self.ports]
