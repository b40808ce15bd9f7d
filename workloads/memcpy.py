"""Copies between host and GPU, within a GPU and between the GPUs of a node: GB/s, and whether the copy is right.

    torchrun --nproc_per_node 4 memcpy.py                                  # on GPUs
    torchrun --nproc_per_node 2 memcpy.py --device cpu --bytes 8M          # anywhere: the host's memory

`host-device` and `device-host` copy from and to pinned memory, `device-device` within one GPU, `peer` from this rank's
GPU to the one `peer_offset` further on the node. A rate counts the bytes moved over the link; within one memory every
byte is read and written, so it counts twice (`counted_bytes`). On a CPU there is `host-host` alone, timed by the
processor time of the process, which says nothing about a GPU. The ranks of a node take turns, so that no copy shares a
link or a memory; --at-once lets them compete.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch

from ranks import World, argument_parser, carry_out, number_of_bytes

ON_GPU = ("host-device", "device-host", "device-device", "peer")


def memories(world: World, kind: str, offset: int, size: int) -> tuple[Any, Any]:
    """What is copied, filled with numbers that are this rank's own, and where to."""
    peer = torch.device("cuda", (world.local_rank + offset) % world.local_size) if kind == "peer" else None
    source_on = "cpu" if kind.startswith("host") else world.device
    target_on = "cpu" if kind.endswith("host") else peer or world.device
    chance = torch.Generator().manual_seed(1 + world.rank)
    source = torch.randint(256, (size,), dtype=torch.uint8, generator=chance).to(source_on)
    target = torch.zeros(size, dtype=torch.uint8, device=target_on)
    if world.cuda:
        source, target = (each.pin_memory() if each.device.type == "cpu" else each for each in (source, target))
    return source, target


def timed(world: World, source: Any, target: Any, copies: int) -> float:
    """Seconds of so many copies."""
    if not world.cuda:
        begun = world.clock()
        for _ in range(copies):
            target.copy_(source)
        return world.clock() - begun
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(copies):
        target.copy_(source, non_blocking=True)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def measured(world: World, arguments: argparse.Namespace, kind: str, offset: int) -> dict[str, Any]:
    """This rank's row of one kind of copy."""
    source, target = memories(world, kind, offset, arguments.bytes)
    world.synchronize()
    if not arguments.at_once:
        wait_for_turn(world, f"{kind}/{offset}")
    total = arguments.warmups + arguments.repeats
    seconds = [timed(world, source, target, arguments.copies) for _ in range(total)]
    pass_turn_on(world, f"{kind}/{offset}")
    counted = arguments.bytes * (2 if kind in ("device-device", "host-host") else 1)
    direct = torch.cuda.can_device_access_peer(source.device, target.device) if kind == "peer" else None
    return {"kind": kind, "peer_offset": offset or None, "bytes": arguments.bytes, "counted_bytes": counted,
            "copies": arguments.copies, "source": str(source.device), "target": str(target.device),
            "direct_access": direct, "warmup_seconds": seconds[:arguments.warmups],
            "seconds": seconds[arguments.warmups:],
            "gbyte_s": [counted * arguments.copies / each / 1e9 for each in seconds[arguments.warmups:]],
            "wrong": int((target.cpu() != source.cpu()).sum())}


def wait_for_turn(world: World, name: str) -> None:
    """Go on when the rank before this one on its node is done."""
    if world.local_rank:
        world.store.wait([f"{name}/{world.group_rank}/{world.local_rank - 1}"], world.timeout)


def pass_turn_on(world: World, name: str) -> None:
    world.store.set(f"{name}/{world.group_rank}/{world.local_rank}", "done")


def measure(world: World, arguments: argparse.Namespace) -> dict[str, Any]:
    """This rank's part."""
    left_out = []
    cases = [(kind, 0) for kind in ON_GPU[:-1]] if world.cuda else [("host-host", 0)]
    if not world.cuda:
        left_out = [{"kind": kind, "reason": "no GPU: --device cpu"} for kind in ON_GPU]
    elif world.local_size == 1:
        left_out = [{"kind": "peer", "reason": "one GPU on the node"}]
    elif torch.cuda.device_count() < world.local_size:
        left_out = [{"kind": "peer", "reason": "a process does not see the GPUs of the others on its node"}]
    else:
        cases += [("peer", offset) for offset in range(1, world.local_size)]
    return {"rows": [measured(world, arguments, *case) for case in cases], "left_out": left_out}


def merge(parts: list[dict[str, Any]], _: argparse.Namespace) -> dict[str, Any]:
    """The parts of all ranks as one result."""
    if any(part["left_out"] != parts[0]["left_out"] for part in parts):
        raise ValueError("ranks disagree about which copies there are")
    same = ("kind", "peer_offset", "bytes", "counted_bytes", "copies")
    rows = [{key: value if key in same else [part["rows"][index][key] for part in parts] for key, value in row.items()}
            for index, row in enumerate(parts[0]["rows"])]
    return {"rows": rows, "left_out": parts[0]["left_out"]}


def main(words: list[str]) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--bytes", type=number_of_bytes, default=256 << 20)
    parser.add_argument("--copies", type=int, default=10, help="in one repeat")
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--at-once", action="store_true", help="all ranks of a node at the same time")
    arguments = parser.parse_args(words)
    if min(arguments.bytes, arguments.copies, arguments.repeats) < 1 or arguments.warmups < 0:
        parser.error("--bytes, --copies and --repeats must be at least 1")
    return carry_out("memcpy", arguments, measure, merge, collective=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
