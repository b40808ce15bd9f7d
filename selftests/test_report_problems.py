"""What a report puts first and what it puts together: causes, one defect a row."""

from __future__ import annotations

from acceptance.checks import Check
from acceptance.findings import Finding, Findings
from acceptance.judge import Judgement
from acceptance.model import Item
from acceptance.report.problems import problems
from acceptance.terminal import SHOWN, failure_text
from selftests.run_folders import CHECK
from selftests.test_report import NoConfig

FLOWS = 56


def judged(findings: Findings) -> Item:
    """The item of a check that found this."""
    return Item(CHECK, "cluster", "t.py::t", findings.verdict(), tuple(findings.found))


def slow_flows(causes: int = 1) -> Findings:
    """Every flow slow, each in its own way, and the causes found afterwards."""
    findings = Findings("cluster")
    for number in range(FLOWS):
        findings.at_least("bandwidth", measured=0.2 + number / 1000, required=0.9, unit="Gb/s",
                          subject=f"n{number}→n{number + 1}", evidence=[f"e{number:04}"])
    for number in range(causes):
        findings.cause("cause of slow flows", f"the port of p{number}", subject=f"p{number}")
    return findings


def told(found: tuple[Finding, ...]) -> str:
    """What the terminal says of them."""
    item = judged(slow_flows())
    return failure_text(Judgement(item.id, item.node_id, item.subject, item.verdict, found, ""), Check(**CHECK), "t",
                        NoConfig())


def test_the_cause_is_the_first_line_of_a_failure_wherever_it_stands() -> None:
    found = slow_flows().found
    for order in (found, [*found[1:], found[0]]):
        lines = told(tuple(order)).split("\n")
        assert "the port of p0" in lines[1]
        assert f"and {FLOWS + 1 - SHOWN} more in the report" in lines[1 + SHOWN]
        assert f"and {FLOWS - SHOWN} more" in next(line for line in lines if "evidence" in line)


def test_every_cause_is_told_on_the_terminal_and_on_the_first_page() -> None:
    many = SHOWN + 5
    text = told(tuple(slow_flows(many).found))
    [problem] = problems([judged(slow_flows(many))])
    for number in range(many):
        assert f"the port of p{number}" in text
        assert any(f"the port of p{number}" in line.text for line in problem.brief)


def test_the_first_page_tells_the_cause_first() -> None:
    [problem] = problems([judged(slow_flows())])
    assert problem.brief[0].text == "cause of slow flows: the port of p0"
    assert not problem.brief[1].cause
