"""Kubernetes quantities compared as numbers: "1" is "1000m", "1Gi" is "1024Mi"."""

from __future__ import annotations

import re
from fractions import Fraction

from acceptance.errors import ParseError

_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?)(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)")
_FACTORS = {"": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)} | {
    letter: Fraction(1000 ** (n + 1)) for n, letter in enumerate("kMGTPE")} | {
    f"{letter}i": Fraction(1024 ** (n + 1)) for n, letter in enumerate("KMGTPE")}


def quantity(text: str) -> Fraction:
    """Its exact value. Raises ParseError."""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ParseError(f"not a quantity: {text[:40]!r}")
    if found[2]:
        return Fraction(found[1]) * Fraction(10) ** int(found[2])
    return Fraction(found[1]) * _FACTORS[found[3] or ""]
