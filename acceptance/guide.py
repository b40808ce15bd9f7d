"""The clauses of the client's guide, and which checks prove them."""

from __future__ import annotations

from collections.abc import Mapping

from acceptance.checks import Check

# clause → phase whose gate proves it
CLAUSES: dict[str, int] = {
    "Prerequisites / Required Tools Checklist": 1,
    "Prerequisites / Prerequisite Validation": 1,
    "Prerequisites / Validation Checklist": 1,
    "Environment Setup / Ansible Inventory": 1,
    "Environment Setup / SSH Configuration": 1,
    "Infrastructure Deployment / Deployment Overview": 2,
    "Infrastructure Deployment / Network Configuration": 2,
    "Infrastructure Deployment / Network Validation": 2,
    "Infrastructure Deployment / SSH Hardening": 2,
    "Infrastructure Deployment / Firewall Configuration": 2,
    "Infrastructure Deployment / GPU Driver Installation": 2,
    "Infrastructure Deployment / GPU Validation": 2,
    "Infrastructure Deployment / Prometheus Installation": 3,
    "Infrastructure Deployment / DCGM Exporter": 3,
    "Application Configuration / Kubernetes Cluster Deployment": 3,
    "Application Configuration / GPU Operator Installation": 3,
    "Operational Handover / Monitoring Dashboards": 3,
    "Application Configuration / Kubeflow Installation": 4,
    "Application Configuration / MLflow Deployment": 4,
    "Application Configuration / Triton Inference Server": 4,
    "Integration Testing / GPU Scheduling Test": 5,
    "Integration Testing / Distributed Training Test": 5,
    "Security Validation / RBAC Validation": 5,
    "Security Validation / Network Policy Test": 5,
    "Migration & Cutover / User Migration": 5,
    "Migration & Cutover / Cutover Checklist": 5,
    "Operational Handover / Runbook Procedures": 5,
    "Training Program": 5,
}
PHASES_WITH_CHECKS = (1, 2)  # later phases are listed as "not yet"


def coverage(checks: Mapping[str, Check]) -> dict[str, list[str]]:
    """Checks by clause, in the guide's order, then clauses that only checks name."""
    found: dict[str, list[str]] = {clause: [] for clause in CLAUSES}
    for check in checks.values():
        found.setdefault(check.clause, []).append(check.id)
    return found


def unproven(checks: Mapping[str, Check], phase: int) -> list[str]:
    """Clauses of a phase that no check proves: nothing is said about them by any verdict."""
    found = coverage(checks)
    return [clause for clause, its_phase in CLAUSES.items() if its_phase == phase and not found[clause]]


def gaps(checks: Mapping[str, Check]) -> list[str]:
    """What is wrong with the coverage: clauses without a check, and checks of clauses that the guide has not."""
    found = coverage(checks)
    missing = [f"no check proves: {clause}" for clause, phase in CLAUSES.items()
               if phase in PHASES_WITH_CHECKS and not found[clause]]
    unknown = [f"the guide has no clause {clause!r}, which {', '.join(ids)} name" for clause, ids in found.items()
               if clause not in CLAUSES]
    return missing + unknown
