"""Several workloads one after another in the same processes: torch is loaded once, where that is what takes longest.

    torchrun --nproc_per_node 4 several.py allreduce.py --max-bytes 1G -- ddp.py --tokens 16384 -- gemm.py

Each writes a document of its own. One that fails ends the processes, and those after it are not run.
"""

from __future__ import annotations

import os
import runpy
import sys
from itertools import groupby

from torch.distributed.rendezvous import rendezvous


def main(words: list[str]) -> int:
    turns = [list(turn) for between, turn in groupby(words, lambda word: word == "--") if not between]
    if not turns:
        sys.stderr.write("several: name a workload and its arguments, and the next after --\n")
        return 2
    kept = next(rendezvous("env://"))  # whoever has to keep the store for all turns does it here
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = str(True)  # so the workloads only connect to it
    code = 0
    for number, (script, *arguments) in enumerate(turns):
        os.environ["ACCEPTANCE_TURN"] = str(number)
        code = runpy.run_path(script, run_name="workload")["main"](arguments) or code
    del kept
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
