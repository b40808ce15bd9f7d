"""The report's tables, as rows: criteria, hosts by check, bandwidth between nodes, hosts, GPUs, evidence."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence, Record
from acceptance.facts import NodeFacts
from acceptance.findings import Finding, Verdict, show
from acceptance.measure.ceilings import roce_payload_gbps, tcp_goodput_gbps
from acceptance.model import Item
from acceptance.report.wording import clip, measured_range, number, promised, value

WORST_FIRST = (Verdict.FAIL, Verdict.BLOCKED, Verdict.NOT_RUN, Verdict.WAIVED, Verdict.PASS)
QUANTITIES = 6  # shown of one criterion; those that did not pass come first
DISTINCT = 3  # different values that are still told one by one
COLUMNS = 16  # hosts side by side: what fits on paper


@dataclass(frozen=True)
class Quantity:
    """One thing promised, and what was measured of it over all subjects."""

    name: str
    promised: str
    measured: str
    verdict: Verdict


@dataclass(frozen=True)
class Criterion:
    """One check over all its subjects: its worst verdict, and what was promised and measured."""

    check: dict[str, Any]
    items: tuple[Item, ...]
    verdict: Verdict
    quantities: tuple[Quantity, ...]
    more: int

    @property
    def passed(self) -> int:
        """How many subjects passed."""
        return sum(item.verdict is Verdict.PASS for item in self.items)

    @property
    def where(self) -> list[str]:
        """The subjects that did not pass: of a cluster-wide check, what it found wrong."""
        return [subject for item in self.items if item.verdict is not Verdict.PASS
                for subject in ([item.subject] if item.check["hosts"] or not item.wrong else
                                [finding.subject for finding in item.wrong])]


def criteria(items: Sequence[Item]) -> list[Criterion]:
    """One row a check, in the order of the run."""
    rows: dict[str, list[Item]] = {}
    for item in items:
        rows.setdefault(item.id, []).append(item)
    found = []
    for group in rows.values():
        quantities = _quantities(group)
        found.append(Criterion(group[0].check, tuple(group), _worst(item.verdict for item in group),
                               tuple(quantities[:QUANTITIES]), max(0, len(quantities) - QUANTITIES)))
    return found


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    return min(verdicts, key=WORST_FIRST.index)


def _quantities(items: Sequence[Item]) -> list[Quantity]:
    groups: dict[str, list[Finding]] = {}
    for item in items:
        for finding in item.findings:
            if finding.verdict is Verdict.PASS or finding.relation or finding.measured is not None:
                groups.setdefault(finding.quantity, []).append(finding)
    rows: list[Quantity] = []
    for name, group in groups.items():
        if len(set(map(promised, group))) > 1 and len(group) <= DISTINCT:  # of different things: one line each
            rows += [_quantity(f"{name}, {finding.subject}", [finding]) for finding in group]
        else:
            rows.append(_quantity(name, group))
    return sorted(rows, key=lambda row: WORST_FIRST.index(row.verdict))


def _quantity(name: str, findings: Sequence[Finding]) -> Quantity:
    wanted = list(dict.fromkeys(map(promised, findings)))
    passed = sum(finding.verdict is Verdict.PASS for finding in findings)
    if len(wanted) > 1:  # measured values beside requirements that differ would say nothing
        want, have = f"{len(wanted)} different values", f"{passed} of {len(findings)} as promised"
    else:
        want, have = clip(show(wanted[0]), 90), _measured(findings)
    return Quantity(clip(show(name), 80), want, have, _worst(finding.verdict for finding in findings))


def _measured(findings: Sequence[Finding]) -> str:
    values = [finding.measured for finding in findings if finding.measured is not None]
    if not values:
        return "not measured"
    if all(map(number, values)):
        text = measured_range(findings)
    else:
        counts = Counter(clip(value(one), 90) for one in values)
        text = f"{len(counts)} different values" if len(counts) > DISTINCT else "; ".join(
            f"{one} ({count} of {len(values)})" if len(counts) > 1 else one for one, count in counts.items())
        text = f"{text} {show(findings[0].unit)}".strip()
    silent = len(findings) - len(values)
    return text + (f"; {silent} not measured" if silent else "")


def layers(rows: Iterable[Criterion]) -> dict[tuple[int, str], list[Criterion]]:
    """Criteria by phase and layer."""
    found: dict[tuple[int, str], list[Criterion]] = {}
    for row in sorted(rows, key=lambda row: int(row.check["phase"])):
        found.setdefault((int(row.check["phase"]), str(row.check["layer"])), []).append(row)
    return found


@dataclass(frozen=True)
class Grid:
    """A table of cells by row and column, in parts that fit on paper. A cell is a text and the verdict behind it."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], tuple[str, Verdict]]
    note: str = ""

    @property
    def parts(self) -> list[tuple[str, ...]]:
        """The columns, so many at a time."""
        return [self.columns[at:at + COLUMNS] for at in range(0, len(self.columns), COLUMNS)]


def heat_map(items: Sequence[Item], hosts: Sequence[str], sign: Callable[[str], str]) -> Grid:
    """Check by host, for checks that judge hosts one by one."""
    cells = {(item.id, item.subject): (sign(item.verdict), item.verdict) for item in items if item.check["hosts"]}
    return Grid("Checks by host", tuple(dict.fromkeys(check for check, _ in cells)), tuple(hosts), cells)


def bandwidth_grids(items: Sequence[Item], fabric: Mapping[str, Any], rdma: Mapping[str, Any]) -> list[Grid]:
    """Measured bandwidth from row to column, TCP and RDMA, each with the ceiling of the contracted port."""
    line = fabric["speed_mbps"] / 1000
    tagged = fabric["vlan_mode"] == "tagged"
    kinds = (("pair-bandwidth", "TCP", fabric["pair_min_gbps"], fabric["mtu"],
              tcp_goodput_gbps(line, fabric["mtu"], tagged=tagged)),
             ("rdma-bandwidth", "RDMA", fabric["rdma_pair_min_gbps"], rdma["active_mtu"],
              roce_payload_gbps(line, rdma["active_mtu"])))
    grids = []
    for check, kind, least, mtu, ceiling in kinds:
        cells = _flows(item for item in items if item.id == check)
        names = tuple(sorted({name for pair in cells for name in pair}))
        if names:
            note = (f"Gb/s, from row to column. Required: at least {show(least)}. Physical ceiling of a {show(line)} "
                    f"Gb/s port at MTU {mtu}: {ceiling:.1f}; more would be a mistake in the measurement.")
            grids.append(Grid(f"{kind} bandwidth between nodes", names, names, cells, note))
    return grids


def _flows(items: Iterable[Item]) -> dict[tuple[str, str], tuple[str, Verdict]]:
    cells: dict[tuple[str, str], tuple[str, Verdict]] = {}
    for item in items:
        for finding in item.findings:
            source, arrow, target = finding.subject.partition("→")
            if arrow and finding.unit == "Gb/s":
                text = f"{finding.measured:.3g}" if isinstance(finding.measured, (int, float)) else ""
                cells.setdefault((source.strip(), target.strip()), (text, finding.verdict))
    return cells


def nodes(evidence: Evidence) -> dict[str, NodeFacts]:
    """The facts of each host as last recorded; hosts that gave none are not among them."""
    return {record.subject: NodeFacts(record.subject, document=record.document, evidence_id=record.id)
            for record in evidence.records("facts") if isinstance(record.document, dict)}


def host_rows(hosts: Sequence[Mapping[str, Any]], known: Mapping[str, NodeFacts]) -> list[dict[str, Any]]:
    """Every host of the inventory, with what it told of itself, as far as it did."""
    return [{"name": host["name"], "address": host["address"]} | _host(known.get(host["name"])) for host in hosts]


def _host(node: NodeFacts | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("product", "serial", "os", "kernel", "driver", "cuda", "evidence"))
    if node is None:
        return row
    row["evidence"] = node.evidence_id
    with contextlib.suppress(Unmeasured):
        row |= {"product": node.identity.product, "serial": node.identity.serial}
    with contextlib.suppress(Unmeasured):
        row |= {"os": f"{node.os.id} {node.os.version_id}", "kernel": node.os.kernel}
    with contextlib.suppress(Unmeasured):
        row |= {"driver": node.nvml.driver, "cuda": node.nvml.cuda}
    return row


def gpu_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Every GPU that the facts list, as NVML told of it."""
    rows: list[dict[str, Any]] = []
    for node in nodes(evidence).values():
        with contextlib.suppress(Unmeasured):
            rows += [gpu.model_dump() | {"host": node.name, "subject": node.subject(gpu)} for gpu in node.gpus]
    return rows


def serial_numbers(hosts: Iterable[Mapping[str, Any]], gpus: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Serial numbers by subject, hosts and GPUs alike."""
    found = {row["name"]: row["serial"] for row in hosts} | {row["subject"]: row["serial"] for row in gpus}
    return {subject: str(serial) for subject, serial in found.items() if serial}


def cited(evidence: Evidence, ids: Iterable[str]) -> list[dict[str, str]]:
    """The records that failures refer to, a line each; the whole record is in evidence.jsonl."""
    wanted = set(ids)
    return [{"id": record.id, "at": record.at[11:19], "collector": record.collector, "subject": record.subject,
             "what": _told(record)} for record in evidence.all if record.id in wanted]


def _told(record: Record) -> str:
    command = clip(show(" ".join(record.command)), 100) + ": " if record.command else ""
    if record.outcome is None:
        return f"{command}a document"
    return command + (f"exit status 0 in {record.outcome.seconds:.1f} s" if record.outcome.ok
                      else clip(show(record.outcome.reason()), 160))
