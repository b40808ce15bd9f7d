"""Where the files of a run folder contradict one another: then none of them is believed, and no gate is accepted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from acceptance.evidence import Evidence
from acceptance.findings import Verdict, show, verdict_of

if TYPE_CHECKING:
    from acceptance.model import Item

FEW = 3  # named of each kind


def contradictions(lines: Sequence[Mapping[str, Any]], items: Sequence[Item],
                   evidence: Evidence | None) -> Iterator[str]:
    """One line for each kind. `lines` are those of findings.jsonl, `items` what was read of them and of run.json.

    `evidence` is None where there is no evidence.jsonl.
    """
    planned = {(item.id, item.subject) for item in items}
    verdicts: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        verdicts.setdefault((line["check"], line["subject"]), set()).add(line["verdict"])
    yield from _told("findings.jsonl judges what run.json did not plan", [
        f"{check} on {subject}" for check, subject in verdicts if (check, subject) not in planned])
    yield from _told("findings.jsonl has two verdicts of one item", [
        f"{check} on {subject}" for (check, subject), found in verdicts.items() if len(found) > 1])
    yield from _told("findings.jsonl has a verdict that does not follow from its findings", [
        f"{item.id} on {item.subject} is {item.verdict} while its findings make it {_due(item)}"
        for item in items if item.verdict not in (Verdict.NOT_RUN, Verdict.WAIVED, _due(item))])
    cited = {id for item in items for finding in item.findings for id in finding.evidence}
    if evidence is None:
        if cited:
            yield f"evidence.jsonl is missing, while findings refer to {len(cited)} of its records"
        elif lines:  # a run writes the file before it judges anything
            yield "evidence.jsonl is missing, while findings.jsonl has verdicts"
    else:
        yield from _told("evidence.jsonl lacks records that findings refer to",
                         sorted(cited - {record.id for record in evidence.all}))


def _due(item: Item) -> Verdict:
    """The verdict that the findings of an item make; an item whose check broke never passes."""
    due = verdict_of(finding.verdict for finding in item.findings)
    return Verdict.FAIL if item.error and due is Verdict.PASS else due


def _told(what: str, found: Collection[str]) -> Iterator[str]:
    named = list(found)
    if named:
        more = f" and {len(named) - FEW} more" if len(named) > FEW else ""
        yield f"{what}: {'; '.join(show(one) for one in named[:FEW])}{more}"
