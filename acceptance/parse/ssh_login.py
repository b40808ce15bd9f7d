"""What the answer to one login attempt says: let in, refused, or no answer that could be understood."""

from __future__ import annotations

import re
from dataclasses import dataclass

from acceptance.errors import ParseError

PASSWORD_METHODS = ("password", "keyboard-interactive")

_DENIED = re.compile(r"Permission denied \(([a-z0-9,@.-]+)\)\.?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class LoginAnswer:
    """The server's answer. `offered` are the methods by which it would let this user try again, empty when let in."""

    let_in: bool
    offered: tuple[str, ...]

    @property
    def password_methods(self) -> list[str]:
        """Offered methods that ask for a password."""
        return [method for method in self.offered if method in PASSWORD_METHODS]


def parse_login(exit_code: int, stderr: str) -> LoginAnswer:
    """Exit code and stderr of `ssh HOST true`. Raises ParseError unless the server let in or refused by name.

    A connection that breaks is no refusal: only "Permission denied (METHODS)", which OpenSSH prints in English in
    every locale, lists what the server offers.
    """
    if exit_code == 0:
        return LoginAnswer(True, ())
    denied = _DENIED.findall(stderr)
    if exit_code != 255 or not denied:
        last = stderr.strip().splitlines()[-1:] or ["nothing"]
        raise ParseError(f"the server neither let in nor refused: ssh exited {exit_code} and said {last[0][:120]!r}")
    return LoginAnswer(False, tuple(denied[-1].split(",")))
