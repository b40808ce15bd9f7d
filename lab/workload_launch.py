"""Starts a workload's ranks in a pod of the lab, as torchrun would, with what the lab lays beside this file.

    python3 /var/lib/lab-workload/launch.py --nnodes 8 --nproc_per_node 4 … gemm.py --size 256 …

Every rank begins in `workload_faults.py`: it lays `collectives.log` where NCCL's debug log is looked for, and injects
what `fault.json` says, a list of words for it such as ["wrong-product", "--local-rank", "1"]. Without such a file
nothing is wrong.

Standard library and torch alone: it runs in the pods, with the host's Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(os.path.realpath(__file__)).parent
NO_FAULT = ["none"]


def fault_of(folder: Path) -> list[str]:
    """The words of the fault on this host. Raises ValueError for a file that holds no list of words."""
    try:
        found = json.loads((folder / "fault.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return NO_FAULT
    if not (isinstance(found, list) and found and all(isinstance(word, str) for word in found)):
        raise ValueError(f"{folder}/fault.json: expected a list of words")
    return found


def with_faults(words: Sequence[str], folder: Path) -> list[str]:
    """torchrun's words with `workload_faults.py` before the workload. Raises ValueError where none is named."""
    at = next((number for number, word in enumerate(words) if word.endswith(".py")), None)
    if at is None:
        raise ValueError("expected a workload's file among the arguments")
    laid = [str(folder / "workload_faults.py"), "--nccl-log", str(folder / "collectives.log")]
    return [*words[:at], *laid, *fault_of(folder), "--", *words[at:]]


def step_back() -> None:
    """Leave the processors to the cluster first: it answers while 32 ranks work on the same few."""
    with contextlib.suppress(OSError):  # a kernel without groups by session
        Path("/proc/self/autogroup").write_text("19")
    os.nice(19)


def main(words: Sequence[str]) -> None:
    """Become torchrun."""
    try:
        given = with_faults(words, FOLDER)
    except ValueError as problem:
        sys.exit(f"launch: {problem}")
    step_back()
    from torch.distributed import run

    run.main(given)


if __name__ == "__main__":
    main(sys.argv[1:])
