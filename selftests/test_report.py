"""Reports show hostile text harmlessly in every format, and need no network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.checks import Check
from acceptance.evidence import Evidence, Recorder
from acceptance.findings import Verdict, show
from acceptance.model import RunReport, load_run
from acceptance.report import write_reports
from acceptance.report.html import gpu_rows, render_html
from acceptance.report.results import render_ctrf, render_junit
from acceptance.terminal import failure_text, verdict_lines
from selftests.mini import Mini
from selftests.run_folders import CHECK, finding, item, record_facts, run_folder

HOSTILE = (
    "<script>alert(1)</script>", "</title></style><img src=x onerror=alert(1)>", "]]>", "<!--", "-->",
    "&amp;&#60;b&#62;", "\"' onmouseover='x' \"", "{{ 7 * 7 }}{% raw %}",
    "\x00\x07\x08", "\x1b[31mred\x1b[0m\x1b]0;title\x07", "\x9b31m",
    "\u202egnp.exe", "\u2066\u2069\u200b", "\r\noverwritten\nsecond line", "\ud800", "\ufffe\uffff", "';rm -rf /;'",
)
EVERYTHING = "".join(HOSTILE)


# reading the formats as their readers do


class Page(HTMLParser):
    """What a browser would make of a page: its elements, attributes and text."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr", "col", "base", "source"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.other: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)  # "<meta/>" is a start tag to a browser

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)


HARMLESS = {"html", "head", "meta", "title", "style", "body", "main", "div", "p", "h1", "h2", "h3", "strong", "span",
            "ul", "ol", "li", "code", "table", "thead", "tbody", "tr", "th", "td", "br",
            "nav", "a", "svg", "g", "line", "polyline", "rect", "circle", "text"}
CALM = {"class", "title", "id", "href", "lang", "charset", "name", "content", "data-label",
        "viewbox", "role", "x1", "x2", "y1", "y2", "x", "y", "cx", "cy", "r", "width", "height", "points",
        "text-anchor"}


def page(report: RunReport) -> Page:
    """The HTML report, after a check that it is well nested and holds nothing that acts or reaches out."""
    text = render_html(report)
    read = Page(text)
    assert read.open == []
    assert read.other == []
    assert set(read.tags) <= HARMLESS, set(read.tags) - HARMLESS
    assert {name for name, _ in read.attributes} <= CALM
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for name, value in read.attributes if name == "href"} <= {f"#{id}" for id in ids}  # within the page
    assert calm(text.replace("\n", ""))
    text.encode("utf-8")
    return read


def calm(text: str) -> bool:
    """No control, bidi or other invisible character."""
    return all(c.isprintable() for c in text)


def junit(report: RunReport) -> ET.Element:
    """The JUnit report as a reader sees it, after a check of what it must have."""
    root = ET.fromstring(render_junit(report))
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        cases = list(suite)
        assert {case.tag for case in cases} <= {"testcase"}
        count = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")}
        assert {"tests": str(len(cases)), "failures": str(count["failure"]), "errors": str(count["error"]),
                "skipped": str(count["skipped"])}.items() <= suite.attrib.items()
        assert all(case.get("name") and case.get("classname") for case in cases)
    for element in root.iter():
        for text in [*element.attrib.values(), *(element.text or "").split("\n")]:
            assert calm(text), ascii(text)
    return root


def log_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of pytest-html's log, after a check that what its script puts into the page is text alone."""
    read = Page((run / "log.html").read_text(encoding="utf-8"))
    blob = next(value for name, value in read.attributes if name == "data-jsonblob")
    rows = [row for tests in json.loads(blob or "")["tests"].values() for row in tests]
    for row in rows:
        for cell in row["resultsTableRow"]:
            assert set(Page(cell).tags) <= {"td"}
        assert Page(row["log"]).tags == []
        assert calm(row["log"].replace("\n", ""))
    return rows


def ctrf(report: RunReport) -> dict[str, Any]:
    """The CTRF report, after a check of the fields that the format requires."""
    data: dict[str, Any] = json.loads(render_ctrf(report))
    assert data["reportFormat"] == "CTRF"
    assert isinstance(data["specVersion"], str)
    results = data["results"]
    assert results["tool"]["name"]
    summary = results["summary"]
    assert set(summary) >= {"tests", "passed", "failed", "pending", "skipped", "other", "start", "stop"}
    assert all(type(value) is int for value in summary.values())
    statuses = [test["status"] for test in results["tests"]]
    assert summary["tests"] == len(statuses)
    for status in ("passed", "failed", "skipped", "pending", "other"):
        assert summary[status] == statuses.count(status)
    assert len(statuses) == sum(summary[status] for status in ("passed", "failed", "skipped", "pending", "other"))
    for test in results["tests"]:
        assert isinstance(test["name"], str)
        assert type(test["duration"]) is int
        assert all(calm(line) for text in (test["name"], test.get("message", "")) for line in text.split("\n"))
    return data


class NoConfig:
    """The part of pytest's configuration that a failure's text asks for."""

    class option:
        site = None


def terminal(report: RunReport) -> str:
    """Everything that a run prints of its findings and decision."""
    from acceptance.judge import Judgement

    check = Check(**(CHECK | {"needs": ("facts",)}))
    texts = [failure_text(Judgement(i.id, i.node_id, i.subject, i.verdict, i.findings, i.error), check,
                          show(i.node_id), NoConfig()) for i in report.items]
    return "\n".join([*texts, *(show(line) for line in verdict_lines(report))])


@pytest.mark.parametrize("text", [*HOSTILE, EVERYTHING])
def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path, text: str) -> None:
    host = text
    path = run_folder(tmp_path, host, [finding(text), finding(text, Verdict.BLOCKED)], planned=2, error=text)
    record_facts(path, host, text)
    report = load_run(path)
    shown = page(report)
    whole = "".join(shown.text)
    assert whole.count(show(text)) >= 10  # site, client, problem, table, stand-ins, host, GPUs …
    root = junit(report)
    assert root[0][0].get("name") == show(text)
    assert show(text) in (root[0][0].findtext("failure") or "")
    assert show(text) in ctrf(report)["results"]["tests"][0]["message"]
    printed = terminal(report)
    assert all(calm(line) for line in printed.split("\n"))
    assert show(text) in printed
    write_reports(path)
    assert {p.name for p in path.iterdir()} >= {"report.html", "junit.xml", "ctrf.json"}


@given(text=st.text(max_size=60), host=st.text(min_size=1, max_size=20), verdict=st.sampled_from(Verdict))
def test_any_text_is_harmless_in_every_format(tmp_path_factory: pytest.TempPathFactory, text: str, host: str,
                                              verdict: Verdict) -> None:
    path = run_folder(tmp_path_factory.getbasetemp() / "any", host, [finding(text, verdict)], error=text)
    record_facts(path, host, text)
    report = load_run(path)
    page(report)
    junit(report)
    ctrf(report)
    assert all(calm(line) for line in terminal(report).split("\n"))


def test_the_report_needs_no_network(tmp_path: Path) -> None:
    read = page(load_run(run_folder(tmp_path)))
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(read.tags)
    assert not any(name in ("src", "srcset", "action") for name, _ in read.attributes)
    text = render_html(load_run(tmp_path))
    for word in ("http://", "https://", "url(", "@import", "//cdn"):
        assert word not in text


def test_junit_tells_failed_blocked_and_not_run_apart(tmp_path: Path) -> None:
    cases = {verdict: item(verdict, subject=verdict.value) for verdict in Verdict}
    report = load_run(run_folder(tmp_path))
    gate = type(report.gates[0])(2, tuple(cases.values()), ())
    root = junit(RunReport(report.folder, report.header, gate.items, (gate,)))
    tags = {case.get("name"): [child.tag for child in case] for case in root[0]}
    assert tags == {"PASS": [], "FAIL": ["failure"], "BLOCKED": ["error"], "WAIVED": [], "NOT RUN": ["skipped"]}
    data = ctrf(RunReport(report.folder, report.header, gate.items, (gate,)))
    assert {t["rawStatus"]: t["status"] for t in data["results"]["tests"]} == {
        "PASS": "passed", "FAIL": "failed", "BLOCKED": "failed", "WAIVED": "other", "NOT RUN": "skipped"}


def test_a_failing_run_shows_its_failure_before_the_tables(tmp_path: Path) -> None:
    text = render_html(load_run(run_folder(tmp_path, found=[finding("GPU count is wrong")])))
    assert text.index("refused") < text.index("GPU count is wrong") < text.index("<table")


def test_the_table_of_contents_leads_to_every_part_that_is_there(tmp_path: Path) -> None:
    for found in ([finding("GPU count is wrong")], [finding("gpus", Verdict.PASS)]):
        text = render_html(load_run(run_folder(tmp_path, found=found)))
        contents = text[text.index("<nav"):text.index("</nav>")]
        parts = re.findall(r'<h[23][^>]* id="([^"]+)"', text)
        assert re.findall(r'href="#([^"]+)"', contents) == parts
        assert ("attention" in parts) == (found[0].verdict is Verdict.FAIL)
        assert not re.findall(r"<h2(?![^>]* id=)", text)
        assert text.index("class=\"gates\"") < text.index("<nav") < text.index("<h2")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner:
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8)
KEYS = ("sections", "nvml", "data", "gpus", None)


@given(junk=JSON, depth=st.integers(0, 4))
def test_a_nodes_answer_of_another_shape_does_not_break_the_report(tmp_path_factory: pytest.TempPathFactory, junk: Any,
                                                                    depth: int) -> None:
    document: Any = junk
    for name in reversed(KEYS[:depth]):
        document = {name: document, "ok": True, "probe": 1}
    path = run_folder(tmp_path_factory.getbasetemp() / "junk")
    (path / "evidence.jsonl").unlink(missing_ok=True)
    recorder = Recorder(path / "evidence.jsonl")
    recorder.record("facts", "gpu-node-01", document=document)
    recorder.close()
    page(load_run(path))
    assert gpu_rows(recorder.evidence()) == []
    assert gpu_rows(Evidence(())) == []


EVIL = "evil\x1b[2J<script>alert(1)</script>'; true #\u202e"


def test_a_hostile_name_in_the_inventory_is_refused_in_one_calm_line(tmp_path: Path) -> None:
    mini = Mini(tmp_path / "site")
    hosts = mini.path / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("gpu-node-02:", f"{json.dumps(EVIL)}:"))
    result = mini.judge("-m", "phase2", "-v")
    assert result.exit_code == 4
    assert "no valid host name" in result.err
    for stream in (result.out, result.err):
        assert all(calm(line) for line in stream.split("\n"))


def test_hostile_names_in_a_run_folder_stay_calm_in_every_report(tmp_path: Path) -> None:
    """A run whose folder was given a host with markup and terminal commands in its name."""
    path = Mini(tmp_path / "site", facts=lambda data: data.pop("memory")).judge("-m", "phase2").path
    for name in ("run.json", "findings.jsonl", "evidence.jsonl"):
        text = (path / name).read_text()
        assert "gpu-node-02" in text, name
        (path / name).write_text(text.replace("gpu-node-02", json.dumps(EVIL)[1:-1]))
    report = load_run(path)
    page(report)
    assert {case.get("name") for case in junit(report).iter("testcase")} == {"gpu-node-01", show(EVIL)}
    ctrf(report)
    assert all(calm(show(line)) for line in verdict_lines(report))


def test_a_hostile_answer_stays_calm_on_the_terminal_and_in_the_log(tmp_path: Path) -> None:
    result = Mini(tmp_path / "site", ["hostile"]).judge("-m", "phase2", "-v")
    assert result.exit_code == 1
    for stream in (result.out, result.err):
        assert all(calm(line) for line in stream.split("\n"))
    rows = log_rows(result.path)
    logged = ["".join(Page(str(part)).text) for row in rows for part in (row["log"], *row["resultsTableRow"])]
    assert any("<script>alert(1)</script>" in text for text in logged)
    page(load_run(result.path))


def test_what_is_run_again_is_quoted_for_the_shell() -> None:
    from acceptance.live import rerun_command

    assert rerun_command("t.py::t[a]", NoConfig()) == "pytest 't.py::t[a]'"
    assert rerun_command("t.py::t[a'; reboot; ']", NoConfig()) == """pytest 't.py::t[a'"'"'; reboot; '"'"']'"""
