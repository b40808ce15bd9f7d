"""What a check found: one subject's measured value beside the required one, and the verdict that follows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from acceptance.figures import beside, figure

_WITHIN = re.compile(r"within (\S+) of")


class Verdict(StrEnum):
    """Outcome of one check on one subject. Only PASS is a pass."""

    PASS = "PASS"
    FAIL = "FAIL"
    BLOCKED = "BLOCKED"
    WAIVED = "WAIVED"
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True)
class Finding:
    """One measured value beside the required one.

    `verdict` is PASS, FAIL, or BLOCKED when the value could not be measured; `reason` says why it is not PASS.
    `evidence` holds ids of records in the run's evidence. `cause` marks what explains other findings of the check.
    """

    subject: str
    quantity: str
    measured: Any
    required: Any
    relation: str
    unit: str
    verdict: Verdict
    reason: str = ""
    evidence: tuple[str, ...] = ()
    cause: bool = False

    def sentence(self) -> str:
        """One line for people: subject, quantity, measured, required, reason."""
        need = f"required {self.wanted}" if self.relation else ""
        have = "not measured" if self.measured is None else f"measured {self.reading} {self.unit}".strip()
        if self.cause:
            return f"{self.subject}: {self.quantity}: {self.reason}"
        text = f"{self.subject}: {self.quantity}: " + ", ".join(part for part in (have, need) if part)
        return f"{text} ({self.reason})" if self.reason else text

    @property
    def wanted(self) -> str:
        """The required value with its relation and unit: "≥ 90 Gb/s", "0 ± 1 s"."""
        tolerance = self._tolerance
        need = f"{self.relation} {show(self.required)}" if tolerance is None else (
            f"{show(self.required)} ± {figure(tolerance)}")
        return f"{need} {self.unit}".strip()

    @property
    def reading(self) -> str:
        """The measured value without its unit; with more digits where it would look like a bound that it is not."""
        value = self.measured
        return beside(value, self.bounds) if isinstance(value, float) else show(value)

    @property
    def bounds(self) -> list[float]:
        """The numbers that the measured one is compared with."""
        if not _number(self.required):
            return []
        tolerance = self._tolerance or 0.0
        return [self.required - tolerance, self.required + tolerance]

    @property
    def _tolerance(self) -> float | None:
        found = _WITHIN.fullmatch(self.relation)
        try:
            return float(found[1]) if found else None
        except ValueError:
            return None

    def as_json(self) -> dict[str, Any]:
        """Plain data for findings.jsonl and the reports."""
        return asdict(self) | {"verdict": self.verdict.value, "evidence": list(self.evidence)}


def verdict_of(found: Iterable[Verdict]) -> Verdict:
    """The verdict of an item with such findings: FAIL if anything failed or nothing was judged; BLOCKED if anything
    could not be; else PASS."""
    verdicts = set(found)
    if Verdict.FAIL in verdicts or not verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.BLOCKED


def show(value: Any) -> str:
    """A value as a person would write it, control characters made visible."""
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(show(part) for part in value) or "none"
    text = str(value)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class Findings:
    """Collects the findings of one check; a value of None is never a pass but BLOCKED.

    `subject` is what is meant where a call names none: the node of the item, or "cluster".
    """

    def __init__(self, subject: str, evidence: Iterable[str] = ()) -> None:
        self.subject = subject
        self.evidence = tuple(evidence)
        self.found: list[Finding] = []

    def equal(self, quantity: str, *, measured: Any, required: Any, **named: Any) -> None:
        """PASS when equal in value and kind (True is not 1, "1" is not 1)."""
        same = measured == required and isinstance(measured, bool) == isinstance(required, bool)
        self._judge(quantity, measured, required, "=", same, **named)

    def at_least(self, quantity: str, *, measured: Any, required: float, **named: Any) -> None:
        """PASS when a finite number not below the required one."""
        self._judge(quantity, measured, required, "≥", _number(measured) and measured >= required, **named)

    def at_most(self, quantity: str, *, measured: Any, required: float, **named: Any) -> None:
        """PASS when a finite number not above the required one."""
        self._judge(quantity, measured, required, "≤", _number(measured) and measured <= required, **named)

    def within(self, quantity: str, *, measured: Any, required: float, tolerance: float, **named: Any) -> None:
        """PASS when not further from the required number than `tolerance`, in the same unit."""
        near = _number(measured) and abs(measured - required) <= tolerance
        self._judge(quantity, measured, required, f"within {tolerance:.6g} of", near, **named)

    def one_of(self, quantity: str, *, measured: Any, required: Iterable[Any], **named: Any) -> None:
        """PASS when among the required values; nothing is among no values."""
        allowed = list(required)
        self._judge(quantity, measured, allowed, "one of", measured in allowed, **named)

    def same_set(self, quantity: str, *, measured: Iterable[Any] | None, required: Iterable[Any], **named: Any) -> None:
        """PASS when both hold the same things, order and repetition aside; says what is missing and what is extra."""
        need = sorted(set(required), key=str)
        have = None if measured is None else sorted(set(measured), key=str)
        reason = ""
        if have is not None and have != need:
            missing, extra = [x for x in need if x not in have], [x for x in have if x not in need]
            reason = "; ".join(f"{w}: {show(x)}" for w, x in (("missing", missing), ("extra", extra)) if x)
        named.setdefault("reason", reason)
        self._judge(quantity, have, need, "exactly", have == need, **named)

    def empty(self, quantity: str, *, measured: Iterable[Any] | None, **named: Any) -> None:
        """PASS when the list was read and holds nothing."""
        have = None if measured is None else list(measured)
        self._judge(quantity, have, [], "=", have == [], **named)

    def holds(self, quantity: str, good: bool, *, measured: Any, required: Any, relation: str, **named: Any) -> None:
        """A comparison of two values that the check made itself, such as of versions; None is BLOCKED as everywhere."""
        self._judge(quantity, measured, required, relation, good, **named)

    def fail(self, quantity: str, reason: str, *, measured: Any = None, required: Any = None, **named: Any) -> None:
        """A failure that is no comparison of two values, or whose comparison the check made itself."""
        relation = named.pop("relation", "=")
        self._add(quantity, measured, required, relation if required is not None else "", Verdict.FAIL, reason, **named)

    def cause(self, quantity: str, reason: str, *, subject: str, evidence: Iterable[str] = ()) -> None:
        """A failure that explains others; causes stand before everything else that the check found."""
        at = sum(finding.cause for finding in self.found)
        self.found.insert(at, Finding(subject, quantity, None, None, "", "", Verdict.FAIL, reason,
                                      tuple(evidence) or self.evidence, cause=True))

    def blocked(self, quantity: str, reason: str, **named: Any) -> None:
        """Could not be judged, and why."""
        self._add(quantity, None, named.pop("required", None), "", Verdict.BLOCKED, reason, **named)

    def _judge(self, quantity: str, measured: Any, required: Any, relation: str, good: bool, *,
               reason: str = "", **named: Any) -> None:
        if measured is None:
            self._add(quantity, None, required, relation, Verdict.BLOCKED, reason or "no value could be read", **named)
        else:
            verdict = Verdict.PASS if good else Verdict.FAIL
            self._add(quantity, measured, required, relation, verdict, "" if good else reason, **named)

    def _add(self, quantity: str, measured: Any, required: Any, relation: str, verdict: Verdict, reason: str, *,
             subject: str | None = None, unit: str = "", evidence: Iterable[str] = ()) -> None:
        ids = tuple(evidence) or self.evidence
        self.found.append(
            Finding(subject or self.subject, quantity, measured, required, relation, unit, verdict, reason, ids)
        )

    def verdict(self) -> Verdict:
        """FAIL if anything failed or nothing was judged; BLOCKED if anything could not be; else PASS."""
        return verdict_of(finding.verdict for finding in self.found)
