"""The HTML report: one self-contained file, for the approver first and the engineer after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape

from acceptance.evidence import in_ranges
from acceptance.findings import Verdict, show
from acceptance.model import ACCEPTED, CONDITIONS, REFUSED, Gate, Item, RunReport
from acceptance.report import tables, wording
from acceptance.report.notes import NOTES, PHASES
from acceptance.report.performance import performance
from acceptance.report.problems import defects, exhibits, problems
from acceptance.report.tables import Grid, bandwidth_grids, criteria, gpu_rows, heat_map
from acceptance.version import other, spoken

__all__ = ["gpu_rows", "render_html"]

BRIEF = 10  # problems on the first page; all of them are told in the engineer's part
SIGNS = {ACCEPTED: "✓", CONDITIONS: "~", REFUSED: "✗"}


def render_html(report: RunReport) -> str:
    """The whole report as one HTML document that needs no network."""
    header, evidence = report.header, report.evidence
    order = {host["name"]: at for at, host in enumerate(header["hosts"])}
    hosts, gpus = tables.host_rows(header["hosts"], tables.nodes(evidence)), gpu_rows(evidence)
    gpus.sort(key=lambda gpu: (order.get(gpu["host"], len(order)), gpu["index"]))
    found, rows = problems(report.items), criteria(report.items)
    return _template().render(
        report=report, header=header, style=_style(), notes=NOTES, phases=PHASES, signs=SIGNS, brief=BRIEF,
        lab=header["site"]["environment"] == "lab", problems=found, waived=_with(report.items, Verdict.WAIVED),
        not_run=criteria(_with(report.items, Verdict.NOT_RUN)), layers=tables.layers(rows),
        reserved=[row for row in rows if row.verdict is not Verdict.PASS], why=why, order=order,
        statement=statement(report), measured=measured(report), unknown=unknown(report), defects=defects(found),
        serials=tables.serial_numbers(hosts, gpus),
        grids=[heat_map(report.items, list(order), wording.symbol), *_grids(report)], hosts=hosts, gpus=gpus,
        performance=performance(header, evidence),
        again=partial(_again, header), ran=wording.ran(header["selection"]),
        suite=spoken(header.get("suite") or {"version": header.get("version")}), other=_other(header),
        digests=_digests(report.folder), evidence=evidence,
        cited=tables.cited(evidence, exhibits(found)))


@cache
def _template() -> Template:
    environment = Environment(loader=PackageLoader("acceptance", "report"), undefined=StrictUndefined,
                              autoescape=select_autoescape(["html", "j2"]), trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": show, "value": wording.value, "symbol": wording.symbol, "css": wording.css,
                            "names": wording.names, "in_ranges": in_ranges, "clip": wording.clip}
    return environment.get_template("report.html.j2")


@cache
def _style() -> str:
    return resources.files("acceptance.report").joinpath("report.css").read_text(encoding="utf-8")


def unknown(report: RunReport) -> bool:
    """Whether evidence was judged of which nothing says where it was recorded."""
    found = report.header.get("recorded")
    return isinstance(found, dict) and not found.get("known")


def _with(items: Sequence[Item], verdict: Verdict) -> list[Item]:
    return [item for item in items if item.verdict is verdict]


def why(gate: Gate) -> str:
    """One sentence for the decision of a gate."""
    if gate.contradicted:
        return "these verdicts are what the files say; they are not believed"
    musts = criteria([item for item in gate.items if item.check["level"] == "must"])
    held = sum(row.verdict is Verdict.PASS for row in musts)
    text = f"{held} of {len(musts)} required criteria hold everywhere"
    open_items = len(gate.missing)
    return text + (f"; {open_items} judgements that this gate needs were not selected" if open_items else "")


def statement(report: RunReport) -> str:
    """What a signature under this report says, and what it does not."""
    accepted = [str(gate.phase) for gate in report.gates if gate.accepted]
    other = [f"phase {gate.phase} is {gate.decision}" for gate in report.gates if not gate.accepted]
    if report.header["site"]["environment"] == "lab":
        return ("This run was made in the lab, on stand-ins: nothing that was delivered is accepted by signing it. "
                "The place for signatures shows where they stand in a report on the cluster itself.")
    text = "" if not unknown(report) else (
        "Where this evidence was recorded is not known: whoever signs must know from elsewhere that it is of this "
        "cluster. ")
    if accepted:
        text += (f"The parties accept phase {' and phase '.join(accepted)} as measured in this run, except for what is "
                 "listed above under “Not accepted by this signature”. ")
    if other or not accepted:
        text += (f"Nothing more is accepted: {', '.join(other) or 'no gate was judged'}. A signature confirms what was "
                 "measured, not that it is in order.")
    return text.strip()


def measured(report: RunReport) -> str:
    """Of a run that was judged again: where and when it was measured, and when it was judged; else nothing."""
    header, found = report.header, report.header.get("recorded")
    if not isinstance(found, dict):
        return f"judged again from {header['evidence_source']}" if header.get("evidence_source") else ""
    first, last = (str(found.get(key) or "not known")[:16].replace("T", " ") for key in ("first", "last"))
    where = "at a site that is not known"
    if found.get("known"):
        where = f"in run {found.get('run_id')} at site {found.get('site')}"
    return (f"Measured {first} to {last} UTC {where}; judged {header['started'][:16].replace('T', ' ')} UTC from "
            f"{header['evidence_source']}")


def _other(header: Mapping[str, Any]) -> str:
    found = header.get("recorded")
    return other(found, header.get("suite") or {}) if isinstance(found, dict) else ""


def _grids(report: RunReport) -> list[Grid]:
    network = report.header["contract"].get("network", {})
    try:
        return bandwidth_grids(report.items, network["fabric"], network["rdma"])
    except (KeyError, TypeError, ValueError):
        return []  # a contract without a fabric has no ceiling; the findings are listed all the same


def _again(header: Mapping[str, Any], items: Sequence[Item]) -> str:
    return wording.again([item.node_id for item in items], str(header["selection"].get("markers") or ""),
                         wording.site_option(header["environment"].get("argv", [])))


def _digests(folder: Path) -> list[tuple[str, str]]:
    """SHA-256 of what the report was made from, so that a signature is bound to it."""
    found = []
    for name in ("run.json", "findings.jsonl", "evidence.jsonl"):
        path = folder / name
        if path.exists():
            found.append((name, hashlib.sha256(path.read_bytes()).hexdigest()))
    return found
