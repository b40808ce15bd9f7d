"""Pure parsers of what tools and kernel files print on a node: text in, plain data out, ParseError otherwise.

They run on the node, under Python 3.8 or later with nothing but the standard library, and are tested here. Nothing
that is missing gets a default: text that is not whole, or not what the tool prints, raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from acceptance.errors import ParseError

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,20}(\.[0-9]{1,20})?")


def lines(text: str, source: str) -> list[str]:
    """Lines of a text that ended with a line end; a text that does not was cut off."""
    if not text.endswith("\n"):
        raise ParseError(f"{source}: {'no output' if not text else 'the text is cut off'}")
    return text[:-1].split("\n")


def integer(text: str, what: str) -> int:
    """A decimal integer, blanks around it aside."""
    if not _INTEGER.fullmatch(text.strip()):
        raise ParseError(f"{what}: expected an integer, found {short(text)}")
    return int(text.strip())


def decimal(text: str, what: str) -> float:
    """A decimal number, blanks around it aside."""
    if not _DECIMAL.fullmatch(text.strip()):
        raise ParseError(f"{what}: expected a number, found {short(text)}")
    return float(text.strip())


def word(text: str, what: str, pattern: str = r"\S+") -> str:
    """A text that matches as a whole, blanks around it aside."""
    stripped = text.strip()
    if not re.fullmatch(pattern, stripped):
        raise ParseError(f"{what}: found {short(text)}")
    return stripped


def short(text: str) -> str:
    """The beginning of a text, for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def from_json(text: str, source: str) -> Any:
    """JSON without NaN. Raises ParseError for anything else."""

    def refuse(constant: str) -> None:
        raise ParseError(f"{source}: {constant} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{source}: not JSON: {error}") from None


def mapping(value: Any, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ParseError(f"{what}: expected an object, found {short(json.dumps(value))}")
    return value


def listing(value: Any, what: str) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        raise ParseError(f"{what}: expected a list, found {short(json.dumps(value))}")
    return value


def string(value: Any, what: str) -> str:
    """A JSON string that is not empty."""
    if not isinstance(value, str) or not value:
        raise ParseError(f"{what}: expected a text, found {short(json.dumps(value))}")
    return value


def blocks(text: str, source: str) -> Iterator[list[str]]:
    """Runs of lines that empty lines separate."""
    block: list[str] = []
    for line in [*lines(text, source), ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
