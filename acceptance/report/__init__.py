"""Reports of a run, all rendered from `acceptance.model`."""

from __future__ import annotations

from pathlib import Path

from acceptance.model import RunReport, load_run
from acceptance.report.html import render_html
from acceptance.report.results import render_ctrf, render_junit


def write_reports(run: Path) -> RunReport:
    """Write report.html, junit.xml and ctrf.json into the run folder; what they say, as read."""
    report = load_run(run)
    (run / "report.html").write_text(render_html(report), encoding="utf-8")
    (run / "junit.xml").write_bytes(render_junit(report))
    (run / "ctrf.json").write_text(render_ctrf(report), encoding="utf-8")
    return report
