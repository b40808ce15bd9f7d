"""Kernel log, modules, PCI configuration space."""

from __future__ import annotations

import re
import struct
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import from_json, integer, lines, mapping, short

RELATED = re.compile(r"NVRM|Xid|\bmce\b|Hardware Error|Machine check|\bAER\b|PCIe Bus Error|hung|blocked for more than"
                     r"|lock-?up|\bstall", re.IGNORECASE)
WARNING = 4
MAX_RELATED = 5000
MAX_OTHER = 300
_RECORD = re.compile(r"([0-9]{1,9}),([0-9]{1,20}),([0-9]{1,20}),([^;]*);(.*)")
_ACS = 0x000D
_ACS_CONTROL_BITS = 0x007F  # all seven; source validation alone already sends peer traffic through the root


def kmsg(text: str) -> dict[str, Any]:
    """Records of /dev/kmsg: "6,0,0,-;Linux version ...", continuation lines begin with a blank.

    Format: Linux, Documentation/ABI/testing/dev-kmsg. `first` and `gaps` tell whether records are missing.
    """
    entries: list[dict[str, Any]] = []
    expected, gaps = None, False
    first = None
    for line in lines(text, "/dev/kmsg"):
        if line.startswith(" "):
            continue
        match = _RECORD.fullmatch(line)
        if not match:
            raise ParseError(f"/dev/kmsg: expected a record, found {short(line)}")
        priority, sequence, usec = (int(number) for number in match.groups()[:3])
        first = sequence if first is None else first
        gaps = gaps or (expected is not None and sequence != expected)
        expected = sequence + 1
        entries.append({"level": priority & 7, "seconds": usec / 1e6, "text": match.group(5)})
    return {"first": first, "gaps": gaps, "entries": entries}


def journal(text: str) -> dict[str, Any]:
    """`journalctl -k -b 0 -o json`, one object a line: since_boot where the kernel's first message is the first."""
    entries: list[dict[str, Any]] = []
    for line in lines(text, "journalctl"):
        fields = mapping(from_json(line, "journalctl"), "journalctl")
        usec = fields.get("_SOURCE_MONOTONIC_TIMESTAMP", fields.get("__MONOTONIC_TIMESTAMP"))
        level, message = fields.get("PRIORITY"), fields.get("MESSAGE")
        if isinstance(message, list):  # bytes that are no text
            message = "".join(chr(part) if isinstance(part, int) and 31 < part < 127 else "?" for part in message)
        if not isinstance(message, str) or not isinstance(level, str) or not isinstance(usec, str):
            raise ParseError(f"journalctl: expected MESSAGE, PRIORITY and a time, found {short(line)}")
        entries.append({"level": integer(level, "journalctl: PRIORITY") & 7, "text": message,
                        "seconds": integer(usec, "journalctl: time") / 1e6})
    whole = entries[0]["text"].startswith("Linux version ")
    missed = any(re.match(r"Missed \d+ kernel messages", entry["text"]) for entry in entries)
    return {"since_boot": whole and not missed, "entries": entries}


def worth_keeping(entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Entries that tell of hardware, all of them up to a bound, and the first warnings; whether the bound was hit."""
    kept = []
    related = other = 0
    for entry in entries:
        if RELATED.search(entry["text"]):
            related += 1
            if related <= MAX_RELATED:
                kept.append(entry)
        elif entry["level"] <= WARNING:
            other += 1
            if other <= MAX_OTHER:
                kept.append(entry)
    return kept, related > MAX_RELATED


def acs_enabled(config: bytes, size: int, address: str) -> bool:
    """Whether a bridge's configuration space has an Access Control Services capability with any control bit set.

    `size` is the size of the file; a shorter reading means that the reader had not the right to see it all.
    PCI Express Base Specification 5.0, sections 7.6.3 (extended capability header) and 7.7.8 (ACS).
    """
    if len(config) < size or len(config) < 256:
        raise ParseError(f"PCI {address}: configuration space: read {len(config)} bytes of {max(size, 256)}")
    if config[:4] == b"\xff\xff\xff\xff":
        raise ParseError(f"PCI {address}: the device does not answer")
    offset, seen = 0x100 if len(config) >= 0x104 else 0, set()
    while offset:
        if offset in seen or offset < 0x100 or offset + 8 > len(config):
            raise ParseError(f"PCI {address}: extended capabilities: bad pointer {offset:#x}")
        seen.add(offset)
        header, _, control = struct.unpack_from("<IHH", config, offset)
        if header & 0xFFFF == _ACS:
            return bool(control & _ACS_CONTROL_BITS)
        offset = header >> 20 & ~3
    return False


def iommu_mode(cmdline: str, group_types: list[str]) -> str:
    """"pt" where DMA passes the IOMMU untranslated, "translated", or "off" where there is no IOMMU group.

    Groups are the truth where there are any; without, "iommu=pt" on the command line is taken at its word.
    """
    if group_types:
        return "pt" if set(group_types) == {"identity"} else "translated"
    words = cmdline.split()
    if {"iommu=pt", "iommu.passthrough=1"} & set(words):
        return "pt"
    return "off"


def memlock(text: str) -> dict[str, Any]:
    """"Max locked memory" of /proc/PID/limits: soft and hard, "unlimited" or bytes."""
    for line in lines(text, "/proc/PID/limits"):
        match = re.fullmatch(r"Max locked memory\s+(unlimited|[0-9]+)\s+(unlimited|[0-9]+)\s+bytes\s*", line)
        if match:
            soft, hard = (x if x == "unlimited" else int(x) for x in match.groups())
            return {"memlock_soft": soft, "memlock_hard": hard}
    raise ParseError("/proc/PID/limits: no line on locked memory")
