"""Judging: recorded evidence in, findings and verdicts out; no network, no clock."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acceptance.checks import Check
from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence
from acceptance.facts import Cluster, NodeFacts
from acceptance.facts.kubernetes import KubeFacts
from acceptance.findings import Finding, Findings, Verdict
from acceptance.site.load import Site
from acceptance.sources import with_sources

CLUSTER = "cluster"


@dataclass(frozen=True)
class Judgement:
    """One item judged: a check on a subject. `error` is set when the check itself is broken."""

    check: str
    item: str
    subject: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """One line of findings.jsonl; the same evidence and contract give the same bytes."""
        return {"check": self.check, "item": self.item, "subject": self.subject, "verdict": self.verdict.value,
                "findings": [finding.as_json() for finding in self.findings], "error": self.error}


def build_cluster(site: Site, evidence: Evidence) -> Cluster:
    """Facts of every host of the site: of its last record by the facts collector, or the reason why there are none."""
    nodes = {}
    failed = next((str(r.document["error"]) for r in evidence.of("facts", CLUSTER)
                   if isinstance(r.document, dict) and "error" in r.document), None)
    for host in site.hosts:
        records = evidence.of("facts", host.name)
        document: dict[str, Any] | None = None
        reason: str | None = failed or "nothing was recorded for this host"
        id = ""
        if records:
            last, id = records[-1], records[-1].id
            answer = last.document if isinstance(last.document, dict) else {}
            if last.outcome is not None and not last.outcome.ok:
                reason = last.outcome.reason()
            elif not answer or "error" in answer:
                reason = str(answer.get("error") or "the answer could not be understood")
            else:
                document, reason = answer, None
        nodes[host.name] = NodeFacts.from_document(host.name, host.groups, host.address, document, reason, id)
    return Cluster(nodes)


def judge(check: Check, function: Callable[..., None], item: str, host: str | None, site: Site, evidence: Evidence,
          cluster: Cluster, kube: KubeFacts | None = None) -> Judgement:
    """Call one check for one subject. What it could not measure is BLOCKED; an error of its own is a failure."""
    subject = host or CLUSTER
    node = cluster.nodes[host] if host else None
    findings = Findings(subject, [node.evidence_id] if node and node.evidence_id and "facts" in check.needs else [])
    for need in check.needs:
        for record in evidence.of(need, CLUSTER):
            if isinstance(record.document, dict) and "error" in record.document and need != "facts":
                findings.blocked("evidence", record.document["error"], evidence=[record.id])
        if not evidence.records(need):
            findings.blocked("evidence", f"collector {need} recorded nothing")
    offered = {"node": node, "cluster": cluster, "contract": site.contract, "site": site, "findings": findings,
               "evidence": evidence, "kube": kube or KubeFacts(evidence)}
    error = ""
    try:
        function(**{name: offered[name] for name in inspect.signature(function).parameters})
    except Unmeasured as problem:
        findings.blocked("evidence", str(problem))
    except Exception as problem:
        place = traceback.extract_tb(problem.__traceback__)[-1]
        error = f"the check itself failed: {type(problem).__name__}: {problem} ({place.filename}:{place.lineno})"
        findings.fail("harness", error)
    if not findings.found:
        findings.fail("judgement", "the check judged nothing")
    found = with_sources(findings.found, check.needs, host, evidence)
    return Judgement(check.id, item, subject, findings.verdict(), tuple(found), error)
