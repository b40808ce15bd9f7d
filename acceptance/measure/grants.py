"""Who holds rights with which one gets further than one's own work: wildcards, other people's identities, secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

ANY = "*"
EVERYBODY = ("Group system:authenticated", "Group system:unauthenticated", "Group system:serviceaccounts",
             "User system:anonymous")
MASTERS = "Group system:masters"
RBAC = "rbac.authorization.k8s.io"
# verb, API group, resource, what it amounts to; those of one namespace's work count only when held everywhere
ALWAYS = (
    ("escalate", RBAC, "roles", "gives rights that one has not"), ("bind", RBAC, "roles", "gives any role"),
    ("escalate", RBAC, "clusterroles", "gives rights that one has not"),
    ("bind", RBAC, "clusterroles", "gives any role"), ("impersonate", "", "users", "acts as others"),
    ("impersonate", "", "groups", "acts as others"), ("impersonate", "", "serviceaccounts", "acts as others"),
)
EVERYWHERE = (
    ("get", "", "secrets", "reads all secrets"), ("list", "", "secrets", "reads all secrets"),
    ("create", "", "pods", "runs pods anywhere"), ("create", "", "pods/exec", "runs commands in any pod"),
    ("get", "", "nodes/proxy", "runs commands in any pod"), ("create", "", "serviceaccounts/token", "becomes others"),
    ("patch", "", "nodes", "changes nodes"), ("update", "", "nodes", "changes nodes"),
    ("patch", "", "namespaces", "changes namespaces"), ("update", "", "namespaces", "changes namespaces"),
    ("create", RBAC, "clusterrolebindings", "gives rights"), ("create", RBAC, "rolebindings", "gives rights"),
    ("approve", "certificates.k8s.io", "signers", "has certificates signed"),
    ("update", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "changes what others create"),
)


class RuleLike(Protocol):
    """A rule of a role."""

    @property
    def verbs(self) -> list[str]: ...
    @property
    def groups(self) -> list[str]: ...
    @property
    def resources(self) -> list[str]: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def urls(self) -> list[str]: ...


@dataclass(frozen=True)
class Holder:
    """A binding's subject, and what its role amounts to."""

    binding: str
    subject: str
    role: str
    dangers: tuple[str, ...]

    @property
    def text(self) -> str:
        """As the contract's patterns name it: binding, kind and subject."""
        return f"{self.binding} {self.subject}"

    def listed(self, patterns: Sequence[str]) -> bool:
        """Whether the contract lists it."""
        return any(fnmatchcase(self.text, pattern) for pattern in patterns)


def covers(rule: RuleLike, verb: str, group: str, resource: str) -> bool:
    """Whether a rule gives this right on every object of the resource."""
    parts = {resource, ANY, f"{ANY}/{resource.partition('/')[2]}"} if "/" in resource else {resource, ANY}
    return (not rule.names and bool({verb, ANY} & set(rule.verbs)) and bool({group, ANY} & set(rule.groups))
            and bool(parts & set(rule.resources)))


def dangers(rules: Sequence[RuleLike], everywhere: bool) -> list[str]:
    """What the rules of one role amount to, held in the whole cluster or in one namespace."""
    found = []
    if any(ANY in rule.verbs and (ANY in rule.resources or ANY in rule.urls) for rule in rules):
        found.append("does everything")
    elif any(ANY in (*rule.verbs, *rule.resources, *rule.urls) for rule in rules):
        found.append("has a wildcard")
    table = (*ALWAYS, *EVERYWHERE) if everywhere else ALWAYS
    found += [f"{meaning} ({verb} {resource})" for verb, group, resource, meaning in table
              if any(covers(rule, verb, group, resource) for rule in rules)]
    return found


class BindingLike(Protocol):
    """A RoleBinding or ClusterRoleBinding."""

    @property
    def namespace(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def role_kind(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def subjects(self) -> list[str]: ...


def holders(bindings: Sequence[BindingLike], rules: Mapping[tuple[str, str], Sequence[RuleLike]]) -> Iterator[Holder]:
    """Every subject of a binding that holds something dangerous, or that is everybody, or system:masters.

    `rules` are those of each role by namespace ("" for a ClusterRole) and name. A role that is not there gives nothing
    now, but whoever may create it decides what: that is told too.
    """
    for binding in bindings:
        key = ("" if binding.role_kind == "ClusterRole" else binding.namespace, binding.role)
        known = rules.get(key)
        found = ["its role is not there"] if known is None else dangers(known, everywhere=not binding.namespace)
        for subject in binding.subjects:
            more = ["bound to everybody"] if subject in EVERYBODY else []
            more += ["bound to system:masters"] if subject == MASTERS else []
            if found or more:
                yield Holder(binding.subject, subject, binding.role, (*more, *found))
