"""What measuring costs: all_reduce as `workloads/allreduce.py` measures it, against a bare loop, in turns in one run.

    torchrun --nproc_per_node 2 --redirects 1 --tee 1 bench/allreduce_overhead.py --device cpu --bytes 16M --repeats 30

Both work on the same buffers, begin after a barrier, and count the slowest rank's time; which of the
two is first changes each time. The bare loop calls all_reduce and nothing else. Rank 0 prints one line of JSON: raw
busbw of both in GB/s, their medians, and the difference in percent of the bare loop's median. It judges nothing.
"""

from __future__ import annotations

import json
import runpy
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

FOLDER = Path(__file__).parents[1] / "workloads"
sys.path.insert(0, str(FOLDER))  # where the workload finds ranks.py
WORKLOAD = runpy.run_path(str(FOLDER / "allreduce.py"), run_name="workload")


def bare(world: Any, buffers: list[Any]) -> float:
    """Seconds of one operation."""
    dist.barrier()
    world.synchronize()
    begun = time.perf_counter()
    for each in buffers:
        dist.all_reduce(each)
    world.synchronize()
    return (time.perf_counter() - begun) / len(buffers)


def main(words: list[str]) -> int:
    """Both, in turns."""
    parser = WORKLOAD["argument_parser"](__doc__)
    parser.add_argument("--bytes", type=WORKLOAD["number_of_bytes"], default=16 << 20)
    parser.add_argument("--operations", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args(words)
    world = WORKLOAD["World"]("allreduce", arguments)
    dist.init_process_group("nccl" if world.cuda else "gloo", store=world.store, rank=world.rank,
                            world_size=world.size, timeout=world.timeout)
    case = WORKLOAD["Case"]("all_reduce", "in_place", arguments.bytes, arguments.bytes // 4)
    pairs = [WORKLOAD["buffers"](world, case, torch.float32) for _ in range(arguments.operations)]
    plain = [pair[1] for pair in pairs]  # the same memory: where it lies makes more of a difference than measuring does
    ours, theirs, wrong = [], [], 0
    for number in range(arguments.repeats + 2):
        for turn in (number, number + 1):
            if turn % 2:
                for each in plain:
                    each.fill_(1)
                theirs.append(bare(world, plain))
            else:
                _, seconds, off = WORKLOAD["repeat"](world, case, pairs, number)
                ours.append(seconds)
                wrong += off
    parts = world.gather([ours[2:], theirs[2:], wrong])
    if parts:
        print(json.dumps(compared(parts, arguments.bytes, world.size)), flush=True)
    dist.destroy_process_group()
    return 0


def compared(parts: list[Any], size: int, ranks: int) -> dict[str, Any]:
    """The figures, from each rank's seconds."""
    factor = WORKLOAD["factor"]("all_reduce", ranks)
    rates = [[size / max(times) / 1e9 * factor for times in zip(*(part[which] for part in parts), strict=True)]
             for which in (0, 1)]
    medians = [statistics.median(each) for each in rates]
    return {"ranks": ranks, "bytes": size, "repeats": len(rates[0]), "wrong": sum(part[2] for part in parts),
            "workload_busbw_gbyte_s": rates[0], "bare_busbw_gbyte_s": rates[1], "workload_median": medians[0],
            "bare_median": medians[1], "difference_percent": (medians[0] / medians[1] - 1) * 100}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
