"""Properties that must be the same on every machine of a cluster: who differs from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from acceptance.errors import Unmeasured
from acceptance.findings import Findings, show

Part = TypeVar("Part")


def values_of(parts: Iterable[Part], read: Callable[[Part], str | None]) -> list[str | None]:
    """What `read` says of each part, None where it could not be measured."""
    found: list[str | None] = []
    for part in parts:
        try:
            found.append(read(part))
        except Unmeasured:
            found.append(None)
    return found


def same_as_fleet(
    findings: Findings, quantity: str, *, measured: str | None, values: Sequence[str | None],
    subject: str | None = None, reason: str = "",
) -> None:
    """Judge one machine against all: `values` has one entry a machine, None for those that were not read.

    The fleet's value is what more than half of all machines have, read or not, so that two that answer cannot
    outvote six that are silent. Without such a value nobody is right: FAIL, or BLOCKED while some are unread.
    """
    if measured is None:
        findings.blocked(quantity, reason or "no value could be read", subject=subject)
        return
    counts = Counter(value for value in values if value is not None).most_common()
    summary = "; ".join(f"{show(value)} on {count}" for value, count in counts)
    unread = sum(value is None for value in values)
    if unread:
        summary += f"; {unread} not read"
    if counts and counts[0][1] * 2 > len(values):
        findings.equal(quantity, measured=measured, required=counts[0][0], subject=subject,
                       reason=f"differs from the others: {summary}")
    elif unread:
        findings.blocked(quantity, f"too few were read to know the common value: {summary}", subject=subject)
    else:
        findings.fail(quantity, f"no value is common to more than half: {summary}", measured=measured, subject=subject)
