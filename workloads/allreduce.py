"""Collectives over all ranks, size by size: bandwidth, the time of every rank, and whether every element is right.

    torchrun --nproc_per_node 4 allreduce.py --max-bytes 8G            # on GPUs, over NCCL
    torchrun --nproc_per_node 4 allreduce.py --device cpu --max-bytes 1M    # over gloo

S is the message as nccl-tests counts it: what a rank holds, and for all_gather and reduce_scatter the total over ranks.
algbw = S / t, busbw = algbw · f with f = 2(n−1)/n for all_reduce, (n−1)/n for all_gather, reduce_scatter and alltoall,
1 for broadcast. t is the slowest rank's.

A repeat: the ranks meet, each fills its buffers (`arrive_seconds`: its own work alone, so a slow rank is seen), they
meet again, then so many operations as fit into --together-bytes run one after the other, each on buffers of its own
(`seconds`, of one operation), and every element of every result is compared. Values are whole numbers that every dtype
holds exactly, other ones in every repeat. torch's all_reduce works in place only: "out_of_place" copies first, within
the time. What cannot be run is listed in `left_out` with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ranks import World, argument_parser, carry_out, number_of_bytes

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall")
PLACEMENTS = ("in_place", "out_of_place")
NEVER = {("broadcast", "out_of_place"): "torch's broadcast works in place only",
         ("alltoall", "in_place"): "alltoall has no in-place form"}
EXACT = {"float32": 1 << 24, "bfloat16": 1 << 8, "float16": 1 << 11, "int32": (1 << 31) - 1}  # whole numbers up to here
HIGHEST, ENTRIES = 7, 64  # of a rank's table of values
AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}  # elements compared in one go
LOG_LIMIT = 1 << 20


@dataclass(frozen=True)
class Case:
    """One collective at one size."""

    collective: str
    placement: str
    asked_bytes: int
    elements: int

    @property
    def named(self) -> dict[str, Any]:
        return {"collective": self.collective, "placement": self.placement, "asked_bytes": self.asked_bytes}


def factor(collective: str, ranks: int) -> float:
    """What algbw is multiplied by to have busbw: the share of S that each rank's link carries at best."""
    if collective == "broadcast":
        return 1.0
    return (2 if collective == "all_reduce" else 1) * (ranks - 1) / ranks


def buffers(world: World, case: Case, dtype: Any) -> tuple[Any, Any]:
    """What one operation reads and what it writes; in place one is part of the other, or the same."""
    part = case.elements // world.size

    def empty(elements: int) -> Any:
        return torch.empty(elements, dtype=dtype, device=world.device)

    if case.placement == "out_of_place":
        return (empty(part if case.collective == "all_gather" else case.elements),
                empty(part if case.collective == "reduce_scatter" else case.elements))
    whole = empty(case.elements)
    mine = whole[world.rank * part:(world.rank + 1) * part]
    if case.collective == "all_gather":
        return mine, whole
    return (whole, mine) if case.collective == "reduce_scatter" else (whole, whole)


def operate(world: World, collective: str, send: Any, receive: Any) -> None:
    """The collective itself."""
    if collective == "all_reduce":
        if send is not receive:
            receive.copy_(send)
        dist.all_reduce(receive)
    elif collective == "broadcast":
        dist.broadcast(receive, src=0)
    elif collective == "reduce_scatter":
        dist.reduce_scatter_tensor(receive, send)
    elif collective == "alltoall":
        dist.all_to_all_single(receive, send)
    elif world.cuda:
        dist.all_gather_into_tensor(receive, send)
    else:  # gloo learnt the other call late
        dist.all_gather(list(receive.chunk(world.size)), send)


def table(rank: int, salt: int) -> list[int]:
    """The values that a rank sends, by hash of the position."""
    state, values = (rank + 1) * 1_000_003 + salt * 7_919, []
    for _ in range(ENTRIES):
        state = (state * 1_103_515_245 + 12_345) % (1 << 31)
        values.append(state >> 20 & HIGHEST)
    return values


def pieces(world: World, case: Case, salt: int) -> list[tuple[int, int, list[int], int]]:
    """What must come out on this rank: start, length, table of values, and position of its first value."""
    part, ranks = case.elements // world.size, range(world.size)
    tables = [table(rank, salt) for rank in ranks]
    total = [sum(values) for values in zip(*tables)]  # noqa: B905 - not in Python 3.8
    if case.collective == "all_reduce":
        return [(0, case.elements, total, 0)]
    if case.collective == "broadcast":
        return [(0, case.elements, tables[0], 0)]
    if case.collective == "reduce_scatter":
        return [(0, part, total, world.rank * part)]
    first = world.rank * part if case.collective == "alltoall" else 0
    return [(rank * part, part, tables[rank], first) for rank in ranks]


def each_piece(world: World, target: Any, wanted: list[tuple[int, int, list[int], int]]) -> Any:
    """Slices of a tensor, each with the values that belong there."""
    step = AT_ONCE[world.device.type]
    for start, length, values, first in wanted:
        known = torch.tensor(values, dtype=target.dtype, device=world.device)
        for done in range(0, length, step):
            count = min(step, length - done)
            place = torch.arange(first + done, first + done + count, dtype=torch.int64, device=world.device)
            place.mul_(2_654_435_761).bitwise_right_shift_(15).bitwise_and_(ENTRIES - 1)
            yield target[start + done:start + done + count], known[place]


def fill(world: World, target: Any, salt: int) -> None:
    """Put this rank's values into what it sends."""
    for piece, values in each_piece(world, target, [(0, target.numel(), table(world.rank, salt), 0)]):
        piece.copy_(values)


def repeat(world: World, case: Case, pairs: list[tuple[Any, Any]], salt: int) -> tuple[float, float, int]:
    """Once: seconds of this rank's own work, seconds of one operation, wrong elements."""
    dist.barrier()
    world.synchronize()
    begun = time.perf_counter()
    for send, _ in pairs:
        fill(world, send, salt)
    world.synchronize()
    arrived = time.perf_counter()
    dist.barrier()
    world.synchronize()
    started = time.perf_counter()
    for send, receive in pairs:
        operate(world, case.collective, send, receive)
    world.synchronize()
    ended = time.perf_counter()
    wanted = pieces(world, case, salt)
    wrong = sum(int((piece != values).sum())
                for _, receive in pairs for piece, values in each_piece(world, receive, wanted))
    return round(arrived - begun, 9), round((ended - started) / len(pairs), 9), wrong


def cannot(world: World, collective: str, placement: str, dtype: Any) -> str | None:
    """Why this backend does not do it, found by trying it once."""
    if (collective, placement) in NEVER:
        return NEVER[collective, placement]
    case = Case(collective, placement, 0, 16 * world.size)
    pair = buffers(world, case, dtype)
    fill(world, pair[0], 0)
    try:
        operate(world, collective, *pair)
    except (RuntimeError, NotImplementedError) as problem:
        if "support" in str(problem) or isinstance(problem, NotImplementedError):
            return f"unsupported by backend {dist.get_backend()}: {str(problem).partition(chr(10))[0]}"
        raise
    return None


def measure(world: World, arguments: argparse.Namespace) -> dict[str, Any]:
    """This rank's part."""
    dtype = getattr(torch, arguments.dtype)
    if HIGHEST * world.size > EXACT[arguments.dtype]:
        raise ValueError(f"--dtype {arguments.dtype} cannot hold sums over {world.size} ranks exactly; use float32")
    width = torch.empty(0, dtype=dtype).element_size()
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for collective, placement in ((each, where) for each in arguments.collectives for where in PLACEMENTS):
        reason = cannot(world, collective, placement, dtype)
        if reason:
            left_out.append({"collective": collective, "placement": placement, "asked_bytes": None, "reason": reason})
        for asked in () if reason else arguments.sizes if collective == "all_reduce" else arguments.other_sizes:
            grain = 1 if collective in ("all_reduce", "broadcast") else world.size
            case = Case(collective, placement, asked, asked // width // grain * grain)
            if case.elements:
                rows.append(measured(world, case, arguments, dtype, len(rows)))
            else:
                left_out.append({**case.named, "reason": f"less than {grain} of {arguments.dtype}"})
    return {"rows": rows, "left_out": left_out, "nccl_log": nccl_log(world, arguments)}


def measured(world: World, case: Case, arguments: argparse.Namespace, dtype: Any, number: int) -> dict[str, Any]:
    """This rank's row of one case."""
    size = case.elements * torch.empty(0, dtype=dtype).element_size()
    if world.cuda:
        torch.cuda.empty_cache()  # NCCL allocates beside torch
    operations = max(1, min(arguments.operations, arguments.together_bytes // size))
    pairs = [buffers(world, case, dtype) for _ in range(operations)]
    total = arguments.warmups + arguments.repeats
    runs = [repeat(world, case, pairs, 1 + number * total + index) for index in range(total)]
    arrive, seconds = [run[0] for run in runs], [run[1] for run in runs]
    return {**case.named, "bytes": size, "operations": operations, "warmup_seconds": seconds[:arguments.warmups],
            "seconds": seconds[arguments.warmups:], "arrive_seconds": arrive[arguments.warmups:],
            "checked": pairs[0][1].numel() * operations * total, "wrong": sum(run[2] for run in runs)}


def nccl_log(world: World, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """NCCL's debug log of this rank, from its beginning, where channels and transports are told."""
    path = log_path(arguments, world.rank)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    return {"path": path, "bytes": len(content), "truncated": len(content) > LOG_LIMIT,
            "text": content[:LOG_LIMIT].decode("utf-8", "replace")}


def log_path(arguments: argparse.Namespace, rank: int) -> str:
    """A file of this process's own: what an earlier run left is nobody's log."""
    return os.path.join(arguments.log_dir, f"nccl-rank-{rank:03}.{os.getpid()}.log")


def merge(parts: list[dict[str, Any]], _: argparse.Namespace) -> dict[str, Any]:
    """The parts of all ranks as one result."""
    if any(part["left_out"] != parts[0]["left_out"] for part in parts):
        raise ValueError("ranks disagree about what their backend supports")
    rows, lists = [], ("warmup_seconds", "seconds", "arrive_seconds", "checked", "wrong")
    for index, first in enumerate(parts[0]["rows"]):
        row = {key: value for key, value in first.items() if key not in lists}
        row["factor"] = factor(row["collective"], len(parts))
        row.update({key: [part["rows"][index][key] for part in parts] for key in lists})
        slowest = [max(times) for times in zip(*row["seconds"])]  # noqa: B905 - not in Python 3.8
        row["algbw_gbyte_s"] = [row["bytes"] / seconds / 1e9 for seconds in slowest]
        row["busbw_gbyte_s"] = [value * row["factor"] for value in row["algbw_gbyte_s"]]
        rows.append(row)
    return {"rows": rows, "left_out": parts[0]["left_out"], "nccl_logs": [part["nccl_log"] for part in parts]}


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--collectives", nargs="+", choices=COLLECTIVES, default=list(COLLECTIVES))
    parser.add_argument("--min-bytes", type=number_of_bytes, default=8)
    parser.add_argument("--max-bytes", type=number_of_bytes, default=8 << 30)
    parser.add_argument("--step-factor", type=int, default=2, help="from one size to the next")
    parser.add_argument("--sizes", type=number_of_bytes, nargs="+", help="these sizes, instead of a range")
    parser.add_argument("--other-sizes", type=number_of_bytes, nargs="+", help="for all but all_reduce")
    parser.add_argument("--dtype", choices=sorted(EXACT), default="float32")
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--operations", type=int, default=20, help="in one repeat, at most")
    parser.add_argument("--together-bytes", type=number_of_bytes, default=64 << 20, help="of the buffers of a repeat")
    parser.add_argument("--log-dir", default="/tmp")
    arguments = parser.parse_args(words)
    if min(arguments.repeats, arguments.operations, arguments.min_bytes) < 1 or arguments.warmups < 0:
        parser.error("--repeats, --operations and --min-bytes must be at least 1")
    if arguments.step_factor < 2 or min(arguments.sizes or [1]) < 1 or min(arguments.other_sizes or [1]) < 1:
        parser.error("--step-factor must be at least 2, and every size at least 1")
    sizes = [arguments.min_bytes]
    while sizes[-1] * arguments.step_factor <= arguments.max_bytes:
        sizes.append(sizes[-1] * arguments.step_factor)
    arguments.sizes = arguments.sizes or sizes
    arguments.other_sizes = arguments.other_sizes or arguments.sizes
    return arguments


def main(words: list[str]) -> int:
    arguments = parsed(words)
    if arguments.device == "cuda":  # before NCCL reads them
        os.environ.update(NCCL_DEBUG="INFO", NCCL_DEBUG_SUBSYS="INIT,NET,GRAPH",
                          NCCL_DEBUG_FILE=log_path(arguments, int(os.environ.get("RANK", "0"))))
    return carry_out("allreduce", arguments, measure, merge, collective=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
