"""`python -m lab up | down | status | shell HOST | run CMD… | fault …`: a cluster in miniature on this machine."""

from __future__ import annotations

import os
import sys

from acceptance.errors import AcceptanceError
from lab.errors import LabError
from lab.hosts import Lab

USAGE = "python -m lab up | down | status | shell HOST | run CMD... | fault list|inject|clear"
HELP = ("--help", "-h", "help")


def main(arguments: list[str]) -> int:
    """Carry out one command; the exit code."""
    command, rest = (arguments or [""])[0], arguments[1:]
    if command in HELP:
        print(f"usage: {USAGE}")
        return 0
    if command not in ("up", "down", "status", "shell", "run", "fault"):
        raise LabError(f"expected {USAGE}, found {command or 'nothing'!r}")
    if rest and command in ("up", "down", "status"):
        raise LabError(f"{command}: takes no arguments, found {rest[0]!r}; expected {USAGE}")
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and needs root; run it with sudo")
    if command == "fault":
        from lab.faults.cli import main as fault

        return fault(rest)
    if command in ("up", "down"):
        from lab import cluster

        return cluster.up() if command == "up" else cluster.down()
    if command == "status":
        from lab import cluster

        return cluster.status()
    return _enter(command, rest)


def _enter(command: str, rest: list[str]) -> int:
    if not rest:
        raise LabError(f"python -m lab {command}: expected {'a host' if command == 'shell' else 'a command'}")
    lab = Lab.open()
    if command == "shell":
        if rest[0] not in lab.nodes:
            raise LabError(f"no host is called {rest[0]}; expected one of {', '.join(lab.nodes)}")
        place, words = lab.host(rest[0]), rest[1:] or ["bash", "-l"]
        words = [*place.enter(), *words]
        os.execvpe(words[0], words, place.environment())
    operator = lab.ops
    words = [*operator.enter(), *rest]
    os.execvpe(words[0], words, operator.environment())


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (LabError, AcceptanceError) as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(4)
