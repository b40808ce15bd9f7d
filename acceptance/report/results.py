"""Results for other programs: JUnit XML (xunit2) and CTRF JSON."""

from __future__ import annotations

import json
import re
from datetime import datetime
from xml.etree import ElementTree as ET

from acceptance import __version__
from acceptance.findings import Verdict
from acceptance.model import Item, RunReport

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CTRF = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.BLOCKED: "failed", Verdict.WAIVED: "other",
         Verdict.NOT_RUN: "skipped"}


def clean(text: str) -> str:
    """Text that XML can hold: other characters become visible escapes."""
    return _NOT_XML.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _message(item: Item) -> str:
    return "\n".join(finding.sentence() for finding in item.wrong) or item.error or item.verdict.value


def render_junit(report: RunReport) -> bytes:
    """One testsuite a phase, one testcase an item; BLOCKED is an error, NOT RUN is skipped."""
    root = ET.Element("testsuites")
    for gate in report.gates:
        count = {verdict: sum(i.verdict is verdict for i in gate.items) for verdict in Verdict}
        suite = ET.SubElement(root, "testsuite", {
            "name": f"phase {gate.phase}", "tests": str(len(gate.items)), "failures": str(count[Verdict.FAIL]),
            "errors": str(count[Verdict.BLOCKED]), "skipped": str(count[Verdict.NOT_RUN]), "time": "0",
            "timestamp": report.header["started"][:19], "hostname": clean(report.header["environment"]["operator"])})
        for item in gate.items:
            case = ET.SubElement(suite, "testcase", {
                "classname": clean(f"phase{gate.phase}.{item.check['layer']}.{item.id}"),
                "name": clean(item.subject), "time": "0"})
            tag = {Verdict.FAIL: "failure", Verdict.BLOCKED: "error", Verdict.NOT_RUN: "skipped"}.get(item.verdict)
            if tag:
                message = clean(_message(item))
                ET.SubElement(case, tag, {"message": message.split("\n")[0]}).text = message
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def render_ctrf(report: RunReport) -> str:
    """The Common Test Report Format."""
    statuses = [_CTRF[item.verdict] for item in report.items]
    start = int(datetime.fromisoformat(report.header["started"]).timestamp() * 1000)
    end = report.header["finished"]
    summary = {name: statuses.count(name) for name in ("passed", "failed", "skipped", "pending", "other")}
    tests = [
        {"name": f"{item.id} on {item.subject}", "status": _CTRF[item.verdict], "duration": 0,
         "suite": [f"phase {item.check['phase']}", item.check["layer"]], "rawStatus": item.verdict.value,
         **({"message": _message(item)} if item.verdict is not Verdict.PASS else {})}
        for item in report.items]
    return json.dumps({
        "reportFormat": "CTRF", "specVersion": "0.0.0",
        "results": {
            "tool": {"name": "gpu-cluster-acceptance", "version": __version__},
            "summary": summary | {"tests": len(tests), "start": start,
                                  "stop": int(datetime.fromisoformat(end).timestamp() * 1000) if end else start},
            "tests": tests,
        }}, indent=1)
