"""`python -m lab.vm [lab | rdma]`: the lab on Debian's own kernel, and RDMA between two machines with soft RoCE.

Software emulation of two processors: everything takes about ten times as long as on the machine itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from lab.errors import LabError
from lab.hosts import ROOT
from lab.vm import image
from lab.vm.machine import Machine, running

JOBS = Path(__file__).parent / "jobs"
REPORTS = ROOT / "reports" / "vm"
LAB_DEADLINE_S, RDMA_DEADLINE_S = 7200, 2400


def say(text: str) -> None:
    """One line of progress, with the time of day."""
    print(f"vm: {time.strftime('%H:%M:%S')} {text}", flush=True)


def run_lab() -> int:
    """The lab inside one machine; its exit code."""
    place, work = image.prepare(), _work("lab")
    say("the lab on Debian's kernel, about 40 minutes")
    machine = Machine(place, work, image.checkout(work, {"job": (JOBS / "lab.sh").read_text()}))
    with running([machine], LAB_DEADLINE_S, say):
        pass
    machine.files(work)
    return int((work / "vm" / "exit-code").read_text())


def _work(name: str) -> Path:
    work = REPORTS / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


PARTS = {"lab": run_lab}


def main(arguments: list[str]) -> int:
    """Run the named parts, or all of them; 0 when all succeeded."""
    parser = argparse.ArgumentParser(prog="python -m lab.vm", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="lab or rdma; both if left out")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise LabError("file systems of other users are made here, which needs root; run it with sudo")
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        raise LabError(f"expected {' or '.join(PARTS)}, found {unknown[0]!r}")
    worst = 0
    for name in options.parts or PARTS:
        code = PARTS[name]()
        say(f"{name}: {'as it should be' if code == 0 else 'NOT as it should be'}; see {REPORTS / name}")
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as error:
        print(f"vm: {error}", file=sys.stderr)
        sys.exit(4)
