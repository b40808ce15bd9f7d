"""Lines of a kernel log that mean broken hardware or a stuck task."""

from __future__ import annotations

import re
from dataclasses import dataclass

_XID = re.compile(r"NVRM: Xid \(PCI:(?P<pci>[0-9a-fA-F:.]+)\): (?P<number>\d+)\b")
_ADDRESS = re.compile(r"([0-9a-fA-F]{1,8}):([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})(?:\.[0-9a-fA-F])?")
_KINDS = (
    ("machine check", re.compile(r"\[Hardware Error\]|Machine check events? logged|Machine check exception", re.I)),
    ("PCIe AER error", re.compile(r"\bAER:.*\berror\b|PCIe Bus Error", re.I)),
    ("hung task",
     re.compile(r"\btask \S+ blocked for more than \d+ s|soft lockup|hard LOCKUP|self-detected stall", re.I)),
)


@dataclass(frozen=True)
class Trouble:
    """One line that means trouble. `kind` is "Xid 79", "machine check", "PCIe AER error" or "hung task".

    `xid` is set for Xids only, `pci` ("0000:17:00", as the driver prints it) where the line names a device.
    """

    kind: str
    text: str
    xid: int | None = None
    pci: str | None = None


def find_trouble(text: str) -> Trouble | None:
    """What a kernel message means, or None when it is none of the known kinds. Any Xid is reported, fatal or not."""
    xid = _XID.search(text)
    if xid:
        return Trouble(f"Xid {xid['number']}", text, int(xid["number"]), xid["pci"])
    for kind, pattern in _KINDS:
        if pattern.search(text):
            return Trouble(kind, text)
    return None


def same_pci_device(one: str, other: str) -> bool:
    """Whether two addresses name one device, such as an Xid's "0000:17:00" and NVML's "00000000:17:00.0".

    What is no address names no device.
    """
    first, second = _parts(one), _parts(other)
    return first is not None and first == second


def _parts(address: str) -> list[int] | None:
    found = _ADDRESS.fullmatch(address)
    return [int(part, 16) for part in found.groups()] if found else None
