"""Results for other programs: JUnit XML (xunit2) and CTRF JSON."""

from __future__ import annotations

import json
from datetime import datetime
from xml.etree import ElementTree as ET

from acceptance import __version__
from acceptance.findings import Verdict, show
from acceptance.model import Item, RunReport

_CTRF = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.BLOCKED: "failed", Verdict.WAIVED: "other",
         Verdict.NOT_RUN: "skipped"}
AGREE = "the files of the run agree"


def _message(item: Item) -> str:
    """What is wrong, a line a finding; nothing that XML cannot hold or that a terminal would obey."""
    return "\n".join(show(finding.sentence()) for finding in item.wrong) or show(item.error or item.verdict.value)


def render_junit(report: RunReport) -> bytes:
    """One testsuite a phase, one testcase an item; BLOCKED is an error, NOT RUN is skipped."""
    root = ET.Element("testsuites")
    for gate in report.gates:
        count = {verdict: sum(i.verdict is verdict for i in gate.items) for verdict in Verdict}
        suite = ET.SubElement(root, "testsuite", {
            "name": f"phase {gate.phase}", "tests": str(len(gate.items)), "failures": str(count[Verdict.FAIL]),
            "errors": str(count[Verdict.BLOCKED]), "skipped": str(count[Verdict.NOT_RUN]), "time": "0",
            "timestamp": report.header["started"][:19], "hostname": show(report.header["environment"]["operator"])})
        for item in gate.items:
            case = ET.SubElement(suite, "testcase", {
                "classname": show(f"phase{gate.phase}.{item.check['layer']}.{item.id}"),
                "name": show(item.subject), "time": "0"})
            tag = {Verdict.FAIL: "failure", Verdict.BLOCKED: "error", Verdict.NOT_RUN: "skipped"}.get(item.verdict)
            if tag:
                message = _message(item)
                ET.SubElement(case, tag, {"message": message.split("\n")[0]}).text = message
    if report.contradictions:
        _add_contradictions(root, report)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _add_contradictions(root: ET.Element, report: RunReport) -> None:
    suite = ET.SubElement(root, "testsuite", {
        "name": "run folder", "tests": "1", "failures": "0", "errors": "1", "skipped": "0", "time": "0",
        "timestamp": report.header["started"][:19], "hostname": show(report.header["environment"]["operator"])})
    case = ET.SubElement(suite, "testcase", {"classname": "run", "name": AGREE, "time": "0"})
    message = "\n".join(show(line) for line in report.contradictions)
    ET.SubElement(case, "error", {"message": message.split("\n")[0]}).text = message


def render_ctrf(report: RunReport) -> str:
    """The Common Test Report Format."""
    statuses = [_CTRF[item.verdict] for item in report.items]
    wrong = "\n".join(show(line) for line in report.contradictions)
    statuses += ["failed"] if wrong else []
    start = int(datetime.fromisoformat(report.header["started"]).timestamp() * 1000)
    end = report.header["finished"]
    summary = {name: statuses.count(name) for name in ("passed", "failed", "skipped", "pending", "other")}
    tests = [
        {"name": show(f"{item.id} on {item.subject}"), "status": _CTRF[item.verdict], "duration": 0,
         "suite": [f"phase {item.check['phase']}", item.check["layer"]], "rawStatus": item.verdict.value,
         **({"message": _message(item)} if item.verdict is not Verdict.PASS else {})}
        for item in report.items]
    if wrong:
        tests.append({"name": AGREE, "status": "failed", "duration": 0, "rawStatus": "FAIL", "message": wrong})
    return json.dumps({
        "reportFormat": "CTRF", "specVersion": "0.0.0",
        "results": {
            "tool": {"name": "gpu-cluster-acceptance", "version": __version__},
            "summary": summary | {"tests": len(tests), "start": start,
                                  "stop": int(datetime.fromisoformat(end).timestamp() * 1000) if end else start},
            "tests": tests,
        }}, indent=1)
