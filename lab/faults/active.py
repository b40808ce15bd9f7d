"""Which faults are injected now. It is kept on disk, so that whoever comes after a killed run can clear them."""

from __future__ import annotations

from pathlib import Path

from lab.faults.base import Fault
from lab.hosts import Lab, home


def inject(lab: Lab, fault: Fault, target: str) -> None:
    """Inject a fault and note it, first: one that fails half-way is cleared like any other."""
    note = _note(fault.name, target)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()
    fault.inject(lab, target)


def clear(lab: Lab, fault: Fault, target: str) -> None:
    """Clear a fault, noted or not."""
    fault.clear(lab, target)
    _note(fault.name, target).unlink(missing_ok=True)


def active() -> list[tuple[str, str]]:
    """Name and target of every injected fault, the last injected first."""
    notes = sorted(_note("", "").parent.glob("*@*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [(name, target) for name, _, target in (note.name.partition("@") for note in notes)]


def _note(name: str, target: str) -> Path:
    return home() / "faults" / "active" / f"{name}@{target}"
