"""What a run says on the terminal: what it is about to do, how far it is, what is wrong, and the decision."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acceptance.checks import COLLECTORS, Check
from acceptance.evidence import in_ranges
from acceptance.findings import Verdict, show

if TYPE_CHECKING:
    from acceptance.findings import Finding
    from acceptance.judge import Judgement
    from acceptance.model import RunReport
    from acceptance.site.contract import Contract
    from acceptance.site.load import Site

SHOWN = 12


class Progress:
    """Says how far collecting is: one line that changes on a terminal, plain lines elsewhere."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self._terminal = sys.stdout.isatty()
        self._started: dict[str, float] = {}
        self._contract: Contract | None = None
        self._shown = False

    def header(self, site: Site, items: Sequence[Any], collectors: Collection[str], folder: Path) -> None:
        """What the run is about to do."""
        self._contract = site.contract
        checks = {item.check.id for item in items}
        lab = ", LAB" if site.contract.site.environment == "lab" else ""
        self._line(f"site {site.contract.site.name} ({site.path}{lab}): {len(site.hosts)} hosts, {len(checks)} checks, "
                   f"{len(items)} items, {len(collectors)} collectors; run folder {folder}")
        for warning in site.warnings:
            self._line(f"warning: {warning}")

    def note(self, text: str) -> None:
        """Something that the user should know before it goes on."""
        self._line(text)

    def say(self, collector: str, done: int, total: int, text: str) -> None:
        """One step of a collector; `total` 0 says that it begins."""
        now = time.monotonic()
        started = self._started.setdefault(collector, now)
        if total == 0:
            one = COLLECTORS[collector]
            bound = one.bound_s(self._contract) if self._contract else one.deadline_s
            self._step(f"collect {collector}: {text} (at most {bound:.0f} s)")
            return
        left = f", {(now - started) / done * (total - done):.0f} s left" if 0 < done < total else ""
        count = f" {done}/{total}" if total > 1 else ""
        self._step(f"collect {collector}:{count} {text}{left}", last=done >= total)

    def _step(self, text: str, *, last: bool = False) -> None:
        if not self._terminal:
            self._line(text)
            return
        self._reporter.rewrite(show(text)[:118], erase=True)
        if last:
            self._reporter.write("\n")

    def _line(self, text: str) -> None:
        if self._reporter is not None:
            self._reporter.ensure_newline()
            self._reporter.write_line(show(text))


def failure_text(judgement: Judgement, check: Check, item: str, config: Any) -> str:
    """What is wrong, what it was judged on, what to do, and the command that runs it again."""
    from acceptance.live import rerun_command

    wrong = sorted((finding for finding in judgement.findings if finding.verdict is not Verdict.PASS),
                   key=lambda finding: not finding.cause)
    shown = max(SHOWN, sum(finding.cause for finding in wrong))
    lines = [f"{judgement.verdict.value} {check.id}: {check.criterion}"]
    lines += [f"  {finding.verdict.value:8}{show(finding.sentence())}" for finding in wrong[:shown]]
    if len(wrong) > shown:
        lines.append(f"  and {len(wrong) - shown} more in the report")
    ids = in_ranges(show(id) for finding in wrong for id in finding.evidence)
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    lines += [f"  evidence  {', '.join(ids[:SHOWN]) or 'none'}{more}", *_what_to_do(wrong, check),
              f"  again     {rerun_command(item, config)}"]
    return "\n".join(lines)


def _what_to_do(wrong: Sequence[Finding], check: Check) -> list[str]:
    """The remedy, which is for what was measured: where nothing could be, what is in the way comes first."""
    if any(finding.verdict is not Verdict.BLOCKED for finding in wrong) or not wrong:
        return [f"  remedy    {check.remedy}"]
    from acceptance.report.problems import cause

    causes = list(dict.fromkeys(show(cause(finding)) for finding in wrong))
    more = f" (and {len(causes) - 1} more)" if len(causes) > 1 else ""
    return [f"  first     remove what is in the way of judging: {causes[0]}{more}",
            f"  remedy    if it fails once it can be measured: {check.remedy}"]


def verdict_lines(report: RunReport) -> list[str]:
    """The decision of each gate, what keeps it from being accepted, and where the report is."""
    from acceptance.model import REFUSED

    lines = ["", *contradiction_lines(report)]
    for gate in report.gates:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in gate.counts.items() if count)
        lines.append(f"phase {gate.phase}: {gate.decision}: {counts}")
        if gate.missing:
            so = ("what was judged is enough to refuse it" if gate.decision == REFUSED
                  else "so the gate is neither accepted nor refused")
            lines.append(f"  {len(gate.missing)} items of this gate were not selected; {so}")
        clauses = report.header.get("unproven", {}).get(str(gate.phase), [])
        if clauses:
            lines.append(f"  no check judges yet: {'; '.join(clauses)}")
    return [*lines, f"report: {report.folder / 'report.html'}"]


def contradiction_lines(report: RunReport) -> list[str]:
    """Where the files of the run contradict one another; none where they agree."""
    if not report.contradictions:
        return []
    return ["THE FILES OF THIS RUN CONTRADICT ONE ANOTHER: no gate is decided from them, nothing is accepted",
            *(f"  {show(line)}" for line in report.contradictions),
            "  remedy: take the folder as the run wrote it, or judge its evidence again with pytest --evidence"]
