"""The JSON that an iperf3 client prints (`-J`), versions 3.9 to 3.19, TCP, one direction."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from acceptance.errors import ParseError


@dataclass(frozen=True)
class Iperf:
    """One client's result: what the receiving end got, after the omitted start."""

    version: str
    reverse: bool
    received_gbps: float
    retransmits: int
    seconds: float


def parse_iperf3(text: str) -> Iperf:
    """One client's output. Raises ParseError with iperf3's own message where it failed.

    Some versions print a complaint before the document, so it is read from the first brace on.
    """
    try:
        document = json.loads(text[max(text.find("{"), 0):])
    except ValueError:
        raise ParseError(f"iperf3 printed no JSON: {text.strip()[:100]!r}") from None
    if not isinstance(document, dict):
        raise ParseError(f"iperf3 printed no JSON object: {text.strip()[:100]!r}")
    if document.get("error"):
        raise ParseError(f"iperf3: {document['error']}")
    try:
        start, end = document["start"], document["end"]
        test, received, sent = start["test_start"], end["sum_received"], end["sum_sent"]
        if test["protocol"] != "TCP" or test.get("bidir"):
            raise ParseError("iperf3 ran another test than TCP one way")
        seconds = _number(received["seconds"])
        # versions before 3.10 may print 0 s for the far end of a test; without a duration there is no rate
        if seconds <= 0:
            raise ParseError("iperf3 received for no time at all")
        return Iperf(
            str(start["version"]).removeprefix("iperf "), bool(test["reverse"]),
            _number(received["bits_per_second"]) / 1e9, int(_number(sent["retransmits"])), seconds,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ParseError(f"iperf3's JSON lacks what a finished test has: {error}") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ParseError(f"iperf3: expected a number, found {value!r}")
    return float(value)
