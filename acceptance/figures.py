"""How numbers are written for people: four digits that count, no exponents, and more where rounding would deceive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

DIGITS, EXACT = 4, 12  # significant: of a figure, and of one that must be told from another
TINY, HUGE = 1e-6, 1e12  # beyond these an exponent is easier to read


def figure(value: float, digits: int = DIGITS) -> str:
    """A number with so many significant digits; from 1000 on, whole; trailing zeros are left out."""
    if value == 0 or not math.isfinite(value) or not TINY <= abs(value) < HUGE:
        return f"{value:.{digits}g}"
    return _decimals(value, _places(value, digits))


def beside(value: float, bounds: Iterable[float], text: str | None = None) -> str:
    """A number that is shown beside its bounds: with more digits where it would look like one that it is not."""
    shown = figure(value) if text is None else text
    alike = any(shown == figure(bound) and value != bound for bound in bounds)
    return f"{value:.{EXACT}g}" if alike else shown


def span(values: Sequence[float], bounds: Sequence[float] = ()) -> str:
    """Numbers as the range that they span, both ends with the same precision."""
    ends = sorted({min(values), max(values)})
    largest = max(map(abs, ends))
    if all(isinstance(end, int) for end in ends):
        return " to ".join(map(str, ends))
    if len(ends) == 1 or not TINY <= largest < HUGE:
        return " to ".join(beside(end, bounds) for end in ends)
    places = _places(largest, DIGITS - 1)
    texts = [_decimals(end, places) for end in ends]
    if len(set(texts)) == 1:
        texts = [figure(end, EXACT) for end in ends]
    return " to ".join(beside(end, bounds, text) for end, text in zip(ends, texts, strict=True))


def _places(value: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _decimals(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
