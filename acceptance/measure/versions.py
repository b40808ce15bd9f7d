"""Version numbers compared as versions, not as text: 535.54 is older than 535.104."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from acceptance.findings import Findings


def version_at_least(
    findings: Findings, quantity: str, *, measured: str | None, required: str,
    subject: str | None = None, reason: str = "",
) -> None:
    """PASS when `measured` is the required version or newer; what is no version is BLOCKED."""
    try:
        good = measured is not None and Version(measured) >= Version(required)
    except InvalidVersion:
        measured, good, reason = None, False, f"{measured!r} is not a version number"
    findings.holds(quantity, good, measured=measured, required=required, relation="≥", subject=subject, reason=reason)
