"""Phase 3: the suite's own rights. Too few leave checks without evidence, too many could do harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.checks import check
from acceptance.collectors.kubernetes.rights import OWN, forbidden, needed

if TYPE_CHECKING:
    from acceptance.facts.kubernetes import KubeFacts
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract


@check("suite-rights", phase=3, layer="kubernetes", area="k8s", needs=("kube-rights",), daily=True,
       clause="Application Configuration / Kubernetes Cluster Deployment",
       criterion="This suite may read what it judges and make its own probes, and may do nothing that could harm the "
                 "cluster",
       remedy="install scripts/helm/charts/validator and use its ServiceAccount's kubeconfig, not an administrator's")
def test_suite_rights(contract: Contract, kube: KubeFacts, findings: Findings) -> None:
    document = kube.record(OWN, "kube-rights").document
    findings.evidence = kube.id(OWN, "kube-rights")
    for group, rights in (("needed", needed(contract)), ("forbidden", forbidden())):
        answers = document.get(group)
        for right in rights:
            answer = answers.get(right.text) if isinstance(answers, dict) else None
            allowed = answer.get("allowed") if isinstance(answer, dict) else None
            if not isinstance(allowed, bool):
                error = answer.get("error") if isinstance(answer, dict) else None
                findings.blocked(f"may {right.text}", str(error or "was not asked"), subject="suite")
            elif group == "needed" and not allowed:
                findings.blocked(f"may {right.text}", "the suite has not this right, and cannot judge without it",
                                 subject="suite", required=True)
            else:
                findings.equal(f"may {right.text}", measured=allowed, required=group == "needed", subject="suite")
