"""The summary of iputils' ping, as run with LC_ALL=C."""

from __future__ import annotations

import re
from dataclasses import dataclass

from acceptance.errors import ParseError

_SUMMARY = re.compile(
    r"^(?P<sent>\d+) packets transmitted, (?P<received>\d+) received"
    r"(?:, \+(?P<duplicates>\d+) duplicates)?(?:, \+(?P<corrupted>\d+) corrupted)?(?:, \+(?P<errors>\d+) errors)?"
    r", (?P<loss>[\d.]+)% packet loss", re.MULTILINE,
)
_RTT = re.compile(r"^rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/([\d.]+) ms", re.MULTILINE)
_TROUBLE = re.compile(r"^(?:ping: .*|From .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Ping:
    """Packets sent, answered, and lost; round trip in ms where any was answered; the first error line, if any."""

    sent: int
    received: int
    duplicates: int
    errors: int
    average_ms: float | None
    trouble: str

    @property
    def lost(self) -> int:
        """Packets without an answer."""
        return self.sent - self.received


def parse_ping(stdout: str, stderr: str = "") -> Ping:
    """One run's summary. Raises ParseError when there is none, or when it contradicts itself."""
    found = list(_SUMMARY.finditer(stdout))
    if len(found) != 1:
        said = (stderr.strip() or stdout.strip()).splitlines()
        raise ParseError("ping printed no summary" + (f": {said[-1]}" if said else ", nothing at all"))
    sent, received = int(found[0]["sent"]), int(found[0]["received"])
    if sent < 1 or received > sent:
        raise ParseError(f"ping's summary contradicts itself: {found[0][0]}")
    rtt = _RTT.search(stdout)
    trouble = _TROUBLE.search(f"{stderr}\n{stdout}")
    return Ping(
        sent, received, int(found[0]["duplicates"] or 0), int(found[0]["errors"] or 0),
        float(rtt[2]) if rtt else None, trouble[0] if trouble else "",
    )
