"""Phase 5: the teams' namespaces: what is in them, what they admit, and how many GPUs they may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acceptance.checks import check
from acceptance.collectors.kubernetes.projections import GPU
from acceptance.errors import ParseError, Unmeasured
from acceptance.measure.quantities import quantity

if TYPE_CHECKING:
    from acceptance.facts.kubernetes import KubeFacts, Policy
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract
    from acceptance.site.kubernetes import Defaults, Tenants

CLAUSE = "Migration & Cutover / User Migration"
ENFORCE = "pod-security.kubernetes.io/enforce"
DEFAULT_DENY = "default-deny"
REFUSED = ("privileged", "hostPath", "hostPID", "hostNetwork")
COLLECTOR = "kube-dry-run"


@check("tenants", phase=5, layer="security", area="security", needs=("kube-state",), daily=True, clause=CLAUSE,
       criterion="Every team's namespace is there with its labels, quota, limits, policies, role and binding",
       remedy="scripts/helm/deploy installs the chart tenants again; kubectl get all the named kinds -n TEAM")
def test_tenants(contract: Contract, kube: KubeFacts, findings: Findings) -> None:
    tenants = contract.kubernetes.tenants
    for name, team in tenants.teams.items():
        findings.evidence = kube.id("namespaces")
        space = kube.namespaces.get(name)
        if space is None:
            findings.fail("namespace", "the cluster has none of this name", measured="absent", required="present",
                          subject=name)
            continue
        findings.equal("phase", measured=space.phase, required="Active", subject=name)
        for label, value in {**team.labels, ENFORCE: tenants.pod_security}.items():
            findings.equal(f"label {label}", measured=space.labels.get(label, "no such label"), required=value,
                           subject=name)
        _judge_contents(findings, kube, tenants, name)
        bound = [subject for one in kube.bindings if one.namespace == name and one.role == tenants.role
                 and one.role_kind == "Role" for subject in one.subjects]
        findings.same_set(f"who is bound to role {tenants.role}", measured=bound, required=[f"Group {team.group}"],
                          subject=name, evidence=kube.id("rolebindings"))


def _judge_contents(findings: Findings, kube: KubeFacts, tenants: Tenants, name: str) -> None:
    def present(kind: str, wanted: str, there: list[str]) -> None:
        findings.equal(f"{kind} {wanted}", measured=wanted in there, required=True, subject=name)

    present("quota", tenants.quota, [one.name for one in kube.quotas if one.namespace == name])
    present("limit range", tenants.limit_range, [one.name for one in kube.limit_ranges if one.namespace == name])
    present("role", tenants.role, [role for space, role in kube.roles if space == name])
    policies = [one for one in kube.policies if one.namespace == name]
    findings.same_set("network policies", measured=[one.name for one in policies], required=tenants.policies,
                      subject=name, evidence=kube.id("networkpolicies"))
    for one in policies:
        if one.name == DEFAULT_DENY:
            findings.equal("default-deny denies everything", measured=denies_all(one), required=True, subject=name,
                           evidence=kube.id("networkpolicies"))


def denies_all(policy: Policy) -> bool:
    """Whether a policy takes in every pod and lets nothing in or out."""
    return not policy.selector and set(policy.types) == {"Ingress", "Egress"} and not policy.ingress \
        and not policy.egress


def tries(kube: KubeFacts, namespace: str) -> dict[str, dict[str, Any]]:
    """What was tried in a namespace, by name. Raises Unmeasured."""
    found = kube.record(namespace, COLLECTOR).document.get("tries")
    if not isinstance(found, dict):
        raise Unmeasured(f"{namespace}: nothing was tried")
    return {name: one for name, one in found.items() if isinstance(one, dict)}


def outcome(made: dict[str, dict[str, Any]], name: str, words: str) -> tuple[str | None, str]:
    """"admitted", "refused" (by what says `words`), or None where it was neither, and the reason."""
    one = made.get(name)
    if one is None:
        return None, "was not tried"
    status, message = one.get("status"), str(one.get("message") or "")
    if status == 201:
        return "admitted", "the API server would create it"
    if status == 403 and words in message:
        return "refused", message
    return None, f"neither admitted nor refused for this: {message or status}"


@check("pod-security", phase=5, layer="security", area="security", needs=("kube-dry-run",), daily=True,
       clause=CLAUSE,
       criterion="Pods that are privileged, mount the host's files or share its processes or network are refused in "
                 "every team's namespace; an ordinary pod is admitted",
       remedy="kubectl get namespace NAME --show-labels; set pod-security.kubernetes.io/enforce again (chart tenants)")
def test_pod_security(contract: Contract, kube: KubeFacts, findings: Findings) -> None:
    for name in contract.kubernetes.tenants.teams:
        try:
            made = tries(kube, name)
            findings.evidence = kube.id(name, COLLECTOR)
        except Unmeasured as problem:
            findings.blocked("pods", str(problem), subject=name)
            continue
        for what, required in (("compliant", "admitted"), *((kind, "refused") for kind in REFUSED)):
            measured, reason = outcome(made, what, "violates PodSecurity")
            findings.equal(f"pod, {what}", measured=measured, required=required, subject=name, reason=reason)


@check("quotas", phase=5, layer="security", area="security", needs=("kube-state", "kube-dry-run"), daily=True,
       clause=CLAUSE,
       criterion="Every team gets its contracted GPUs and not one more, and containers that ask for nothing get limits",
       remedy="kubectl describe resourcequota,limitrange -n TEAM; scripts/helm/deploy installs the chart tenants again")
def test_quotas(contract: Contract, kube: KubeFacts, findings: Findings) -> None:
    tenants = contract.kubernetes.tenants
    for name, team in tenants.teams.items():
        findings.evidence = kube.id("resourcequotas")
        quota = next((one for one in kube.quotas if (one.namespace, one.name) == (name, tenants.quota)), None)
        if quota is None or quota.scoped:
            findings.fail("quota", "there is none for all pods of the namespace", measured="absent",
                          required=f"{team.gpus} GPUs", subject=name)
        else:
            findings.equal("GPUs in the quota", measured=quota.hard.get(f"requests.{GPU}", "no limit"),
                           required=str(team.gpus), subject=name)
        try:
            made = tries(kube, name)
        except Unmeasured as problem:
            findings.blocked("tries", str(problem), subject=name)
            continue
        findings.evidence = kube.id(name, COLLECTOR)
        _judge_tries(findings, kube, name, team.gpus, made)
        _judge_defaults(findings, name, made, tenants.container_defaults)


def _judge_tries(findings: Findings, kube: KubeFacts, name: str, gpus: int, made: dict[str, dict[str, Any]]) -> None:
    used = kube.record(name, COLLECTOR).document.get("used_gpus")
    if not isinstance(used, int) or isinstance(used, bool):
        findings.blocked("tries", f"GPUs in use are not known: {used}", subject=name)
        return
    wanted = [("quota-exceeded", "refused", gpus - used + 1)]
    if used < gpus:
        wanted.insert(0, ("quota-left", "admitted", gpus - used))
    for what, required, count in wanted:
        measured, reason = outcome(made, what, "exceeded quota")
        findings.equal(f"pod with {count} GPUs, {used} in use", measured=measured, required=required, subject=name,
                       reason=reason)


def _judge_defaults(findings: Findings, name: str, made: dict[str, dict[str, Any]], defaults: Defaults) -> None:
    measured, reason = outcome(made, "no-limits", "forbidden")
    resources = made.get("no-limits", {}).get("resources")
    if measured != "admitted" or not isinstance(resources, dict):
        findings.blocked("defaults of a container", reason, subject=name)
        return
    for kind, resource, required in (
        ("requests", "cpu", defaults.cpu_request), ("limits", "cpu", defaults.cpu_limit),
        ("requests", "memory", defaults.memory_request), ("limits", "memory", defaults.memory_limit),
    ):
        values = resources.get(kind)
        text = values.get(resource, "none") if isinstance(values, dict) else "none"
        try:
            same = quantity(str(text)) == quantity(required)
        except ParseError:
            same = False
        findings.holds(f"{resource} {kind} given", same, measured=text, required=required, relation="=", subject=name)
