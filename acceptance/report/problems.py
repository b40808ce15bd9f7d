"""What is wrong in a run, put together so that one cause is told once: the attention list and the defect register."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from acceptance.findings import Finding, Verdict, show
from acceptance.model import Item
from acceptance.report.wording import clip, number, reason, wrong, wrong_together

FEW = 3  # subjects with serial numbers in the register, records of evidence of one thing


@dataclass
class Line:
    """The same thing found wrong on some subjects, with the evidence of each."""

    text: str
    verdict: Verdict
    subjects: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    cause: bool = False

    def add(self, finding: Finding) -> None:
        """Count one more finding that says the same."""
        if finding.subject not in self.subjects:
            self.subjects.append(finding.subject)
        self.evidence += [id for id in finding.evidence if id not in self.evidence]


@dataclass
class Problem:
    """What failed in one check, or one cause for which some checks could not be judged."""

    verdict: Verdict
    found: list[tuple[Item, Finding]] = field(default_factory=list)

    @cached_property
    def items(self) -> list[Item]:
        """The items concerned, in the order of the run."""
        return list({(item.id, item.subject): item for item, _ in self.found}.values())

    @cached_property
    def checks(self) -> list[str]:
        """Ids of the checks concerned, in the order of the run."""
        return list(dict.fromkeys(item.id for item in self.items))

    @cached_property
    def lines(self) -> list[Line]:
        """What was found, each thing once. One cause of many needs no word on what each of them would have measured."""
        lines: dict[str, Line] = {}
        for _, finding in self.found:
            text = wrong(finding) if len(self.checks) == 1 else clip(show(cause(finding)), 400)
            lines.setdefault(text, Line(text, finding.verdict, cause=finding.cause)).add(finding)
        return sorted(lines.values(), key=lambda line: not line.cause)

    @cached_property
    def defects(self) -> list[Line]:
        """What was found, each quantity once: readings that differ are one defect, told with their range."""
        if len(self.checks) > 1:
            return self.lines
        groups: dict[tuple[str, str], list[Finding]] = {}
        for _, finding in self.found:
            key = "" if number(finding.measured) else wrong(finding)
            groups.setdefault((finding.quantity, key), []).append(finding)
        lines = []
        for group in groups.values():
            line = Line(wrong_together(group), group[0].verdict, cause=group[0].cause)
            for finding in group:
                line.add(finding)
            lines.append(line)
        return sorted(lines, key=lambda line: not line.cause)

    @property
    def brief(self) -> list[Line]:
        """What the first page tells: every cause, and of the rest so many that there are a few."""
        return self.defects[:max(FEW, sum(line.cause for line in self.defects))]

    @property
    def title(self) -> str:
        """The criterion that does not hold, or how many could not be judged."""
        if len(self.checks) == 1:
            return str(self.items[0].check["criterion"])
        return f"{len(self.checks)} criteria could not be judged, for one cause"

    @property
    def remedy(self) -> str:
        """What to do: the check's own advice, which is for a failure; before it, to remove what is in the way."""
        if len(self.checks) == 1:
            remedy = str(self.items[0].check["remedy"])
            if self.verdict is Verdict.BLOCKED:
                return f"remove what is in the way of judging; if it fails once it can be measured: {remedy}"
            return remedy
        return "remove this cause, then judge again; what each check needs is told by acceptance explain CHECK"


def problems(items: Sequence[Item]) -> list[Problem]:
    """Everything that is FAIL or BLOCKED: failures by check, what blocked by cause; what concerns most items first."""
    failed: dict[str, Problem] = {}
    causes: dict[str, Problem] = {}
    for item in items:
        if item.verdict not in (Verdict.FAIL, Verdict.BLOCKED):
            continue
        for finding in item.wrong or [_unexplained(item)]:
            if finding.verdict is Verdict.BLOCKED:
                causes.setdefault(cause(finding), Problem(Verdict.BLOCKED)).found.append((item, finding))
            else:
                failed.setdefault(item.id, Problem(Verdict.FAIL)).found.append((item, finding))
    blocked = [problem for problem in causes.values() if len(problem.checks) > 1]
    single: dict[str, Problem] = {}
    for problem in causes.values():
        if len(problem.checks) == 1:
            single.setdefault(problem.checks[0], Problem(Verdict.BLOCKED)).found += problem.found
    return sorted([*failed.values(), *blocked, *single.values()], key=lambda problem: (
        -len(problem.items), problem.verdict is not Verdict.FAIL, problem.items[0].check["phase"]))


def _unexplained(item: Item) -> Finding:
    return Finding(item.subject, "judgement", None, None, "", "", item.verdict, item.error or "no reason was recorded")


def cause(finding: Finding) -> str:
    """The reason down to what a command met with, the same whatever was asked: "unreachable: …", "timed out: …"."""
    text = reason(finding) or finding.quantity
    starts = [at for at in (text.find(f"{word}: ") for word in ("unreachable", "timed out")) if at >= 0]
    return text[min(starts):] if starts else text


@dataclass(frozen=True)
class Defect:
    """A row of the defect register: what is wrong and where."""

    number: str
    item: Item
    line: Line

    @property
    def few(self) -> bool:
        """Whether its subjects are few enough to give the serial number of each."""
        return len(self.line.subjects) <= FEW


def defects(found: Iterable[Problem]) -> list[Defect]:
    """Every failure of a run, none left out: an unlisted known defect is lost at signature.

    A row for each quantity of a check and each cause, however many subjects it concerns.
    """
    failed = [problem for problem in found if problem.verdict is Verdict.FAIL]
    rows = [(problem.items[0], line) for problem in failed for line in problem.defects]
    return [Defect(f"D{number}", item, line) for number, (item, line) in enumerate(rows, start=1)]


def exhibits(found: Iterable[Problem]) -> list[str]:
    """Ids of evidence worth showing: of each thing found, the first few records."""
    return [id for problem in found for line in problem.lines for id in line.evidence[:FEW]]
