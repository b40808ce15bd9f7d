"""Named defects that the lab can inject and remove: `python -m lab fault list | inject NAME | clear NAME`."""

from __future__ import annotations

from lab.errors import LabError
from lab.faults import compute, gpu, kubernetes, networking, performance, prerequisites, security, tenancy
from lab.faults.base import Expect, Fault

FAULTS: dict[str, Fault] = {}
for _module in (prerequisites, networking, security, compute, gpu, kubernetes, tenancy, performance):
    for _fault in _module.FAULTS:
        if _fault.name in FAULTS:
            raise LabError(f"two faults are called {_fault.name}")
        FAULTS[_fault.name] = _fault

__all__ = ["FAULTS", "Expect", "Fault"]
