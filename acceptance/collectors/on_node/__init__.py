"""Programs that run on a node: sent to `python3 -I -` over ssh, standard library only, Python 3.8 or later.

Nothing is installed there. Each takes one JSON argument and prints one JSON document.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from acceptance.errors import ParseError

if TYPE_CHECKING:
    from acceptance.transport.shell import Outcome


def program(name: str) -> bytes:
    """Source of one program of this package."""
    return files(__name__).joinpath(f"{name}.py").read_bytes()


def with_argument(name: str, argument: Any) -> bytes:
    """A program that finds its argument where the command line would have put it.

    It then runs as `python3 -I -` with no further word: the sudoers file of the checks permits just that.
    """
    words = ["-", json.dumps(argument)]
    return f"import sys\nsys.argv = {words!r}\nexec(compile({program(name).decode()!r}, {name!r}, 'exec'))\n".encode()


def command(argument: Any) -> list[str]:
    """The command that runs a program from standard input with its argument."""
    return ["python3", "-I", "-", json.dumps(argument, separators=(",", ":"))]


def answer(outcome: Outcome) -> Any:
    """The document that a program printed. Raises ParseError with the reason when there is none."""
    if not outcome.ok:
        raise ParseError(outcome.reason())
    try:
        return json.loads(outcome.stdout)
    except ValueError:
        raise ParseError(f"the program on the node printed no JSON: {outcome.stdout[:80]!r}") from None
