"""What a judgement of measurements found wrong, as plain values, and how a check tells of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from acceptance.findings import Findings


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong, with whom, and why. `subject` "" is the cluster as a whole.

    `unjudged` marks what could not be judged at all: BLOCKED, not FAIL; neither is a pass.
    """

    quantity: str
    reason: str
    subject: str = ""
    measured: Any = None
    required: Any = None
    unit: str = ""
    unjudged: bool = False

    def sentence(self) -> str:
        """One line for people."""
        about = f"{self.subject}: " if self.subject else ""
        return f"{about}{self.quantity}: {self.reason}"


def tell(findings: Findings, flaws: Iterable[Flaw], evidence: Iterable[str] = ()) -> None:
    """Each flaw as a finding that is no pass."""
    ids = tuple(evidence)
    for flaw in flaws:
        named: dict[str, Any] = {"subject": flaw.subject or None, "unit": flaw.unit, "evidence": ids,
                                 "required": flaw.required}
        if flaw.unjudged:
            findings.blocked(flaw.quantity, flaw.reason, **named)
        else:
            findings.fail(flaw.quantity, flaw.reason, measured=flaw.measured, **named)
