"""`python -m lab fault list | inject NAME [--on HOST] | clear [NAME] [--on HOST]`."""

from __future__ import annotations

import argparse
import difflib
from typing import NoReturn

from lab.errors import LabError
from lab.faults import FAULTS, active
from lab.faults.base import Fault
from lab.hosts import Lab


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LabError(f"{self.prog.removeprefix('python -m lab ')}: {message}; expected python -m lab fault list | "
                       "inject NAME [--on HOST] | clear [NAME] [--on HOST]")


def main(arguments: list[str]) -> int:
    """Carry out one fault command; returns the exit code. Raises LabError with one line for a user's mistake."""
    parser = _Parser(prog="python -m lab fault", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every fault, what it breaks, and the checks that must turn red")
    inject = commands.add_parser("inject", help="break something")
    inject.add_argument("name")
    inject.add_argument("--on", metavar="HOST", help="where; the fault's own target if left out")
    clear = commands.add_parser("clear", help="mend it again; all that is broken if no name is given")
    clear.add_argument("name", nargs="?")
    clear.add_argument("--on", metavar="HOST", help="where; everywhere if left out")
    options = parser.parse_args(arguments)
    if options.command == "list":
        for fault in FAULTS.values():
            checks = ", ".join(dict.fromkeys(e.check for e in fault.expects if e.required))
            print(f"{fault.name:28} {fault.breaks}  [{checks}]")
        return 0
    lab = Lab.open()
    if options.on not in (None, *lab.nodes, "operator", "services"):
        raise LabError(f"--on {options.on}: no such host; expected one of {', '.join(lab.nodes)}")
    return _inject(lab, options) if options.command == "inject" else _clear(lab, options)


def _inject(lab: Lab, options: argparse.Namespace) -> int:
    fault = _find(options.name)
    target = options.on or fault.target
    active.inject(lab, fault, target)
    print(f"{fault.name} injected on {target}")
    return 0


def _clear(lab: Lab, options: argparse.Namespace) -> int:
    name = options.name and _find(options.name).name
    chosen = [(fault, target) for fault, target in active.active()
              if name in (None, fault) and options.on in (None, target)]
    if name and not chosen:  # not noted as injected; clearing it is harmless all the same
        chosen = [(name, options.on or FAULTS[name].target)]
    for fault, target in chosen:
        active.clear(lab, _find(fault), target)
        print(f"{fault} cleared on {target}")
    if not chosen:
        print("no fault is injected" + (f" on {options.on}" if options.on else ""))
    return 0


def _find(name: str) -> Fault:
    if name in FAULTS:
        return FAULTS[name]
    near = difflib.get_close_matches(name, FAULTS, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; see `python -m lab fault list`"
    raise LabError(f"no fault is called {name}{hint}")
