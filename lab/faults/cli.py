"""`python -m lab fault list | inject NAME [--on HOST] | clear [NAME] [--on HOST]`."""

from __future__ import annotations

import argparse
import difflib

from lab.errors import LabError
from lab.faults import FAULTS
from lab.faults.base import Fault
from lab.hosts import Lab


def main(arguments: list[str]) -> int:
    """Carry out one fault command; returns the exit code. Raises LabError with one line for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m lab fault", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every fault, what it breaks, and the checks that must turn red")
    inject = commands.add_parser("inject", help="break something")
    inject.add_argument("name")
    inject.add_argument("--on", metavar="HOST", help="where; the fault's own target if left out")
    clear = commands.add_parser("clear", help="mend it again")
    clear.add_argument("name")
    clear.add_argument("--on", metavar="HOST")
    options = parser.parse_args(arguments)
    if options.command == "list":
        for fault in FAULTS.values():
            checks = ", ".join(dict.fromkeys(e.check for e in fault.expects if e.required))
            print(f"{fault.name:28} {fault.breaks}  [{checks}]")
        return 0
    fault = _find(options.name)
    lab = Lab.open()
    target = options.on or fault.target
    if target not in (*lab.nodes, "operator", "services"):
        raise LabError(f"--on {target}: no such host; expected one of {', '.join(lab.nodes)}")
    (fault.inject if options.command == "inject" else fault.clear)(lab, target)
    print(f"{fault.name} {options.command}ed on {target}" if options.command == "inject" else
          f"{fault.name} cleared on {target}")
    return 0


def _find(name: str) -> Fault:
    if name in FAULTS:
        return FAULTS[name]
    near = difflib.get_close_matches(name, FAULTS, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; see `python -m lab fault list`"
    raise LabError(f"no fault is called {name}{hint}")
