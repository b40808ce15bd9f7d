"""What a run folder says: items, verdicts and the decision of each gate. The one model behind every report format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceptance.contradictions import contradictions
from acceptance.errors import WrongUse
from acceptance.evidence import Evidence, read_evidence
from acceptance.findings import Finding, Verdict

ACCEPTED, CONDITIONS, REFUSED, PARTIAL, CONTRADICTED = (
    "accepted", "accepted with conditions", "refused", "partial, not a gate", "no decision, files contradict")


@dataclass(frozen=True)
class Item:
    """One check on one subject, judged or not. `check` is the catalogue's entry."""

    check: dict[str, Any]
    subject: str
    node_id: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    error: str = ""

    @property
    def id(self) -> str:
        """The check's id."""
        return str(self.check["id"])

    @property
    def wrong(self) -> list[Finding]:
        """Findings that are not PASS."""
        return [finding for finding in self.findings if finding.verdict is not Verdict.PASS]


@dataclass(frozen=True)
class Gate:
    """A phase: its items, the items that were not even selected, and the decision.

    `contradicted` says that the files of the run contradict one another: nothing is decided from them.
    """

    phase: int
    items: tuple[Item, ...]
    missing: tuple[tuple[str, str], ...]
    contradicted: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Items by verdict, in the order of the verdicts."""
        found = Counter(item.verdict for item in self.items)
        return {verdict.value: found[verdict] for verdict in Verdict}

    @property
    def decision(self) -> str:
        """Accepted only when every must is PASS; see `decide`."""
        return CONTRADICTED if self.contradicted else decide(self.items, self.missing)

    @property
    def accepted(self) -> bool:
        """Accepted, with or without conditions."""
        return self.decision in (ACCEPTED, CONDITIONS)


def decide(items: Sequence[Item], missing: Iterable[tuple[str, str]] = ()) -> str:
    """The decision of a gate.

    Refused: a must failed, is BLOCKED or was NOT RUN, or there is nothing. Accepted with conditions: what is not PASS
    is a waived must or a target. Partial: items of the gate were left out of the selection; never accepted.
    """
    musts = [item for item in items if item.check["level"] == "must"]
    if any(item.verdict not in (Verdict.PASS, Verdict.WAIVED) for item in musts):
        return REFUSED
    if list(missing):
        return PARTIAL
    if not musts:
        return REFUSED
    return ACCEPTED if all(item.verdict is Verdict.PASS for item in items) else CONDITIONS


@dataclass(frozen=True)
class RunReport:
    """A whole run, as far as it came. `contradictions` are lines on where its files contradict one another."""

    folder: Path
    header: dict[str, Any]
    items: tuple[Item, ...]
    gates: tuple[Gate, ...]
    contradictions: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.header["finished"] is not None

    @property
    def passed(self) -> bool:
        """Every gate accepted, or, where only a part was selected, every selected item PASS."""
        return bool(self.gates) and all(
            gate.accepted or (gate.decision == PARTIAL and all(i.verdict is Verdict.PASS for i in gate.items))
            for gate in self.gates)

    @property
    def evidence(self) -> Evidence:
        """What was recorded; nothing when the run ended before anything was."""
        return _evidence(self.folder) or Evidence(())


def load_run(folder: Path) -> RunReport:
    """Read a run folder. Items that were planned and not judged are NOT RUN. Raises WrongUse with one line."""
    header = read_header(folder)
    try:
        lines = _lines(folder / "findings.jsonl")
        judged = {(line["check"], line["subject"]): line for line in lines}
        items = tuple(
            _item(header["checks"][plan["check"]], plan, judged.get((plan["check"], plan["subject"])))
            for plan in header["planned"])
        contradicted = tuple(contradictions(lines, items, _evidence(folder)))
        gates = tuple(
            Gate(int(phase), tuple(i for i in items if i.check["phase"] == int(phase)),
                 tuple((check, subject) for check, subject in gate["missing"]), bool(contradicted))
            for phase, gate in sorted(header["gates"].items()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WrongUse(f"{folder}: damaged: run.json or findings.jsonl is not what a run writes: "
                       f"{type(error).__name__}: {error}") from None
    return RunReport(folder, header, items, gates, contradicted)


def _evidence(folder: Path) -> Evidence | None:
    path = folder / "evidence.jsonl"
    return read_evidence(path) if path.exists() else None


def read_header(folder: Path) -> dict[str, Any]:
    """run.json of a run folder. Raises WrongUse."""
    path = folder / "run.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongUse(f"{folder}: not a run folder: {path.name}: {error.strerror}; expected reports/RUN") from None
    except ValueError:
        raise WrongUse(f"{path}: damaged: not JSON") from None
    needed = {"run_id", "site", "planned", "gates", "checks", "finished", "contract"}
    if not isinstance(data, dict) or needed - data.keys():
        raise WrongUse(f"{path}: damaged: expected the keys {', '.join(sorted(needed))}")
    return data


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    *lines, _torn = path.read_text(encoding="utf-8").split("\n")
    try:
        return [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        raise WrongUse(f"{path}: damaged: a line is not JSON") from None


def _item(check: dict[str, Any], plan: dict[str, Any], line: dict[str, Any] | None) -> Item:
    if line is None:
        return Item(check, plan["subject"], plan["item"], Verdict.NOT_RUN, ())
    findings = tuple(
        Finding(**(found | {"verdict": Verdict(found["verdict"]), "evidence": tuple(found["evidence"])}))
        for found in line["findings"])
    return Item(check, plan["subject"], plan["item"], Verdict(line["verdict"]), findings, line["error"])
