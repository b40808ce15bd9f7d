"""Phase 5: who may do what. Every cell of the contract's matrix, yes and no, and no way round it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acceptance.checks import check
from acceptance.collectors.kubernetes.rbac import CALLS, sample
from acceptance.errors import Unmeasured
from acceptance.measure.grants import holders

if TYPE_CHECKING:
    from acceptance.facts.kubernetes import KubeFacts
    from acceptance.findings import Findings
    from acceptance.site.access import Cell, Rbac
    from acceptance.site.contract import Contract


@check("rbac", phase=5, layer="security", area="security", needs=("kube-rbac", "kube-state"), daily=True,
       clause="Security Validation / RBAC Validation",
       criterion="Every user of the matrix may do exactly what the contract lists, in every namespace, and nobody "
                 "unlisted holds a right that leads further",
       remedy="kubectl auth can-i VERB RESOURCE -n NAMESPACE --as USER --as-group GROUP; kubectl get rolebindings,"
              "clusterrolebindings -A -o wide; remove the binding named, or list it in kubernetes.rbac.powerful")
def test_rbac(contract: Contract, kube: KubeFacts, findings: Findings) -> None:
    rbac = contract.kubernetes.rbac
    cells = rbac.cells()
    for subject in rbac.subjects:
        mine = [cell for cell in cells if cell.subject == subject]
        _judge_cells(findings, kube, subject, "cells", mine, "allowed")
    _judge_cells(findings, kube, CALLS, "calls", sample(rbac), "let it")
    try:
        _judge_holders(findings, kube, rbac)
    except Unmeasured as problem:
        findings.blocked("powerful bindings", str(problem), subject="bindings")


def _judge_cells(findings: Findings, kube: KubeFacts, record: str, key: str, cells: list[Cell], what: str) -> None:
    """One finding a cell that is wrong or unknown, and one for all that are right."""
    try:
        answers: Any = kube.record(record, "kube-rbac").document.get(key)
        findings.evidence = kube.id(record, "kube-rbac")
    except Unmeasured as problem:
        findings.blocked(f"{key} of {record}", str(problem), subject=record)
        return
    right = 0
    for cell in cells:
        answer = answers.get(cell.name) if isinstance(answers, dict) else None
        allowed = answer.get("allowed") if isinstance(answer, dict) else None
        if not isinstance(allowed, bool):
            error = answer.get("error") if isinstance(answer, dict) else None
            findings.blocked(what, str(error or "was not asked"), subject=cell.name, required=cell.allowed)
        elif allowed != cell.allowed:
            findings.equal(what, measured=allowed, required=cell.allowed, subject=cell.name)
        else:
            right += 1
    findings.equal(f"{key} as contracted", measured=right, required=len(cells), subject=record)


def _judge_holders(findings: Findings, kube: KubeFacts, rbac: Rbac) -> None:
    findings.evidence = (*kube.id("clusterrolebindings"), *kube.id("clusterroles"))
    rules = {key: role.rules for key, role in kube.roles.items()}
    found = list(holders(kube.bindings, rules))
    findings.at_least("bindings that were looked at", measured=len(kube.bindings), required=1, subject="bindings")
    for holder in found:
        if not holder.listed(rbac.powerful):
            findings.fail(f"role {holder.role}", "; ".join(holder.dangers), subject=holder.text,
                          measured="bound", required="listed in kubernetes.rbac.powerful")
    strangers = [holder.text for holder in found if not holder.listed(rbac.powerful)]
    findings.empty("unlisted holders of rights that lead further", measured=strangers, subject="bindings")
