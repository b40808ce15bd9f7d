"""The HTML report: one self-contained file, for the approver first and the engineer after."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from acceptance.evidence import Evidence
from acceptance.findings import Finding, Verdict, show
from acceptance.model import Item, RunReport
from acceptance.report.notes import NOTES

SYMBOLS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.BLOCKED: "■", Verdict.WAIVED: "~", Verdict.NOT_RUN: "–"}


def render_html(report: RunReport) -> str:
    """The whole report as one HTML document that needs no network."""
    environment = Environment(loader=PackageLoader("acceptance", "report"), undefined=StrictUndefined,
                              autoescape=select_autoescape(["html", "j2"]), trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": show, "promised": _promised, "symbol": lambda verdict: SYMBOLS[Verdict(verdict)],
                            "css": lambda verdict: str(verdict).lower().replace(" ", "-")}
    style = resources.files("acceptance.report").joinpath("report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(
        report=report, header=report.header, style=style, notes=NOTES, criteria=criteria(report.items),
        attention=[item for item in report.items if item.verdict in (Verdict.FAIL, Verdict.BLOCKED)],
        not_run=[item for item in report.items if item.verdict is Verdict.NOT_RUN],
        hosts=[host["name"] for host in report.header["hosts"]], heat=heat_map(report.items),
        matrix=bandwidth_matrix(report.items), gpus=gpu_rows(report.evidence), evidence=report.evidence,
    )


def criteria(items: Sequence[Item]) -> list[dict[str, Any]]:
    """One row a check: the worst verdict, how many subjects passed, and what was measured."""
    rows: dict[str, list[Item]] = {}
    for item in items:
        rows.setdefault(item.id, []).append(item)
    order = [Verdict.FAIL, Verdict.BLOCKED, Verdict.NOT_RUN, Verdict.WAIVED, Verdict.PASS]
    return [
        {"check": group[0].check, "items": group, "passed": sum(i.verdict is Verdict.PASS for i in group),
         "verdict": min((i.verdict for i in group), key=order.index), "measured": _summary(group)}
        for group in rows.values()]


def _summary(items: Sequence[Item]) -> list[str]:
    quantities: dict[str, list[Finding]] = {}
    for item in items:
        for finding in item.findings:
            quantities.setdefault(finding.quantity, []).append(finding)
    lines = []
    for quantity, findings in list(quantities.items())[:6]:
        values = [f.measured for f in findings if f.measured is not None]
        unit = findings[0].unit
        if not values:
            text = "not measured"
        elif all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            low, high = min(values), max(values)
            text = f"{show(low)}{' … ' + show(high) if low != high else ''} {unit}".strip()
        else:
            distinct = list(dict.fromkeys(show(v) for v in values))
            text = distinct[0] if len(distinct) == 1 else f"{len(distinct)} different values"
        lines.append(f"{quantity}: {text[:90]}")
    return lines


def _promised(finding: Finding) -> str:
    if not finding.relation:
        return "–"
    return f"{finding.relation} {show(finding.required)} {finding.unit}".strip()


def heat_map(items: Sequence[Item]) -> dict[str, dict[str, str]]:
    """Check → host → verdict, for checks that judge hosts one by one."""
    rows: dict[str, dict[str, str]] = {}
    for item in items:
        if item.check["hosts"]:
            rows.setdefault(item.id, {})[item.subject] = item.verdict.value
    return rows


def bandwidth_matrix(items: Sequence[Item]) -> dict[str, Any]:
    """Measured bandwidth by source and target of the pair-bandwidth check; empty when it was not run."""
    cells: dict[tuple[str, str], Finding] = {}
    for item in items:
        for finding in item.findings:
            if item.id == "pair-bandwidth" and "→" in finding.subject and finding.unit == "Gb/s":
                source, _, target = finding.subject.partition("→")
                cells.setdefault((source.strip(), target.strip()), finding)
    names = sorted({name for pair in cells for name in pair})
    return {"names": names, "cells": cells}


def gpu_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Every GPU that the facts list, as NVML told of it."""
    rows = []
    for record in evidence.records("facts"):
        section = ((record.document or {}).get("sections") or {}).get("nvml") if isinstance(
            record.document, dict) else None
        if isinstance(section, dict) and section.get("ok"):
            rows += [{"host": record.subject, **gpu} for gpu in section["data"].get("gpus", [])]
    return rows
