"""Which records a finding was judged from, where the check itself named none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from acceptance.evidence import Evidence, Record
from acceptance.findings import Finding, Verdict


def with_sources(found: Iterable[Finding], needs: Iterable[str], host: str | None, evidence: Evidence) -> list[Finding]:
    """The findings, each with what the check's collectors recorded about its subject; those that name some as they are.

    What could not be measured on a subject of which nothing was recorded names the record that says the reason.
    A finding of which neither is known keeps none: it was judged from the contract or the inventory.
    """
    findings, needed = list(found), tuple(needs)
    if not needed or all(finding.evidence for finding in findings):
        return findings
    facts = {record.subject: record for record in evidence.records("facts")}  # the last answer of a host counts
    records = [record for need in needed for record in (
        facts.values() if need == "facts" else evidence.records(need))]
    recorded: dict[str, list[str]] = {}
    for record in records:
        recorded.setdefault(record.subject, []).append(record.id)
    failed = [(text, record.id) for record in records if (text := _trouble(record))]

    def ids(finding: Finding) -> tuple[str, ...]:
        named = [id for name in _names(finding.subject) for id in recorded.get(name, [])]
        if not named and host:
            named = recorded.get(host, [])
        if not named and finding.verdict is Verdict.BLOCKED:
            named = [id for text, id in failed if text in finding.reason]
        return tuple(dict.fromkeys(named))

    return [finding if finding.evidence else replace(finding, evidence=ids(finding)) for finding in findings]


def _names(subject: str) -> Iterator[str]:
    """What records about a subject are called: a flow both ways, a part of a host as the host."""
    yield subject
    one, both, other = subject.partition("↔")
    if both:
        yield f"{one}→{other}"
        yield f"{other}→{one}"
    host, part, _ = subject.partition("/")
    if part and host:
        yield host


def _trouble(record: Record) -> str:
    """Why a record holds no answer; empty where it holds one."""
    if record.outcome is not None and not record.outcome.ok:
        return record.outcome.reason()
    error = record.document.get("error") if isinstance(record.document, dict) else None
    return str(error or "")
