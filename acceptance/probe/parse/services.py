"""systemd units and chrony."""

from __future__ import annotations

import re
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import blocks, decimal, integer, lines, short, string

PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "UnitFileState")


def units(text: str, asked: list[str]) -> dict[str, dict[str, str]]:
    """`systemctl show --property=... UNIT...`: one block a unit, in the order asked."""
    found = list(blocks(text, "systemctl show"))
    if len(found) != len(asked):
        raise ParseError(f"systemctl show: asked for {len(asked)} units, found {len(found)}")
    answers = {}
    for name, block in ((asked[i], found[i]) for i in range(len(asked))):
        fields = dict(line.split("=", 1) for line in block if "=" in line)
        if set(fields) != set(PROPERTIES) or len(block) != len(PROPERTIES):
            raise ParseError(f"systemctl show: {name}: expected other properties, found {short(' '.join(block))}")
        states = (fields["ActiveState"], fields["SubState"], fields["LoadState"], fields["UnitFileState"] or "none")
        if not all(re.fullmatch("[a-z-]+", state) for state in states):
            raise ParseError(f"systemctl show: {name}: found {short(' '.join(block))}")
        answers[name] = {"active": fields["ActiveState"], "sub": fields["SubState"],
                         "enabled": fields["UnitFileState"], "load": fields["LoadState"]}
    return answers


def failed_units(text: str) -> list[str]:
    """`systemctl list-units --failed --plain`, with its closing line that counts them."""
    body = [line.strip() for line in lines(text, "systemctl list-units") if line.strip()]
    counts = [m.group(1) for m in (re.match(r"([0-9]{1,6}) loaded units listed\.", line) for line in body) if m]
    if len(counts) != 1:
        raise ParseError("systemctl list-units: no closing count of units")
    names = [line.split()[0] for line in body if re.match(r"\S+\.[a-z]+\s+\S+\s+failed\s", line)]
    if len(names) != int(counts[0]):
        raise ParseError(f"systemctl list-units: counts {counts[0]} failed units, names {len(names)}")
    return names


def chrony_tracking(text: str) -> dict[str, Any]:
    """`chronyc -c tracking`: 14 fields. chrony's offset is positive where the clock is slow; here where it is ahead."""
    parts = ",".join(lines(text, "chronyc tracking")).split(",")
    if len(parts) != 14 or not re.fullmatch("[0-9A-F]{8}", parts[0]):
        raise ParseError(f"chronyc tracking: expected 14 fields, found {short(text)}")
    if parts[13] not in ("Normal", "Insert second", "Delete second", "Not synchronised"):
        raise ParseError(f"chronyc tracking: leap status: found {short(parts[13])}")
    # 7F7F0101 is chronyd's reference to its own clock (`local`): nobody's time but its own
    apart = parts[0] in ("00000000", "7F7F0101") or parts[13] == "Not synchronised"
    if not apart and not parts[1]:
        raise ParseError(f"chronyc tracking: a reference without a name: {short(text)}")
    return {"synchronised": not apart, "stratum": integer(parts[2], "chronyc tracking: stratum"),
            "offset_s": 0.0 - _scientific(parts[4], "chronyc tracking: offset"), "reference": parts[1]}


def _scientific(text: str, what: str) -> float:
    match = re.fullmatch(r"([-+]?[0-9.]+)(?:e([-+]?[0-9]{1,2}))?", text)
    if not match:
        raise ParseError(f"{what}: expected a number, found {short(text)}")
    return float(decimal(match.group(1), what) * 10.0 ** int(match.group(2) or 0))


def chrony_sources(text: str) -> list[dict[str, Any]]:
    """`chronyc -c sources`: 10 fields a source. No source, no line."""
    sources = []
    for line in lines(text, "chronyc sources") if text else []:
        parts = line.split(",")
        if len(parts) != 10 or parts[0] not in ("^", "=", "#") or parts[1] not in tuple("*+-?x~"):
            raise ParseError(f"chronyc sources: found {short(line)}")
        if not re.fullmatch("[0-7]{1,3}", parts[5]):
            raise ParseError(f"chronyc sources: reach: expected an octal number, found {short(parts[5])}")
        name = string(parts[2], "chronyc sources: name")
        sources.append({"name": name, "state": parts[1], "reach": int(parts[5], 8)})
    return sources
