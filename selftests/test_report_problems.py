"""What a report puts first and what it puts together: causes, one defect a row."""

from __future__ import annotations

from pathlib import Path

from acceptance.checks import Check
from acceptance.findings import Finding, Findings
from acceptance.judge import Judgement
from acceptance.model import Item, load_run
from acceptance.report.html import render_html
from acceptance.report.problems import Problem, defects, problems
from acceptance.terminal import SHOWN, failure_text
from selftests.run_folders import CHECK, run_folder
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
        assert f"  evidence  e0000 to e{FLOWS - 1:04}" in lines


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


# the register


def registered(findings: Findings) -> list[tuple[str, list[str]]]:
    """The text and the subjects of each row."""
    found: list[Problem] = problems([judged(findings)])
    return [(row.line.text, row.line.subjects) for row in defects(found)]


def test_readings_that_differ_are_one_defect_with_their_range_and_all_subjects() -> None:
    cause, slow = registered(slow_flows())
    assert cause == ("cause of slow flows: the port of p0", ["p0"])
    assert slow[0] == "bandwidth: measured 0.2 to 0.255 Gb/s, required ≥ 0.9 Gb/s"
    assert slow[1] == [f"n{number}→n{number + 1}" for number in range(FLOWS)]


def test_what_is_not_the_same_defect_keeps_a_row_of_its_own() -> None:
    findings = Findings("cluster")
    for subject, port in (("a", "22"), ("b", "22"), ("c", "80")):
        findings.same_set("open ports", measured=[port], required=["443"], subject=subject)
    findings.at_most("temperature", measured=70.0, required=60.0, unit="°C", subject="a")
    findings.at_most("power", measured=70.0, required=60.0, unit="W", subject="a")
    for subject in ("a", "b"):
        findings.fail("harness", f"broke on {subject}", subject=subject)
    assert [subjects for _, subjects in registered(findings)] == [["a", "b"], ["c"], ["a"], ["a"], ["a"], ["b"]]


def test_requirements_and_reasons_that_differ_are_not_told_as_one() -> None:
    findings = Findings("cluster")
    findings.at_least("speed", measured=1, required=2, subject="a", reason="slow")
    findings.at_least("speed", measured=1, required=3, subject="b", reason="slower")
    assert registered(findings) == [("speed: measured 1, required ≥ 2 and 1 more (slow …)", ["a", "b"])]


def test_every_value_is_told_in_the_engineers_part_and_the_number_of_subjects_in_the_register(tmp_path: Path) -> None:
    text = render_html(load_run(run_folder(tmp_path, found=slow_flows().found)))
    register = text[text.index(">Defect register</h2>"):text.index(">Waivers</h2>")]
    assert register.count("<strong>D") == 2
    assert f">{FLOWS}: n0→n1, " in register
    for number in range(FLOWS):
        assert f"measured {0.2 + number / 1000:.4g} Gb/s" in text[text.index("Every failure</h3>"):]
