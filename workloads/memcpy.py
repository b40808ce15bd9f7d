"""Copies between host and GPU, within a GPU and between the GPUs of a node: GB/s, and whether the copy is right.

    torchrun --nproc_per_node 4 memcpy.py                                  # on GPUs
    torchrun --nproc_per_node 2 memcpy.py --device cpu --bytes 8M          # anywhere: the host's memory

`host-device` and `device-host` copy from and to pinned memory, `device-device` within one GPU, `peer` from this rank's
GPU to the one `peer_offset` further on the node. A rate counts the bytes moved over the link; within one memory every
byte is read and written, so it counts twice (`counted_bytes`). On a CPU there is `host-host` alone, which says nothing
about a GPU. The ranks of a node take turns, so that no copy shares a link or a memory; --at-once lets them compete.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

WORKLOAD = "memcpy"
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
        begun = time.perf_counter()
        for _ in range(copies):
            target.copy_(source)
        return time.perf_counter() - begun
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


def number_of_bytes(text: str) -> int:
    """64K, 1M, 1G: powers of 1024."""
    unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper())
    return int(text[:-1]) << unit if unit else int(text)


def main(words: list[str]) -> int:
    parser = argument_parser()
    parser.add_argument("--bytes", type=number_of_bytes, default=256 << 20)
    parser.add_argument("--copies", type=int, default=10, help="in one repeat")
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--at-once", action="store_true", help="all ranks of a node at the same time")
    arguments = parser.parse_args(words)
    if min(arguments.bytes, arguments.copies, arguments.repeats) < 1 or arguments.warmups < 0:
        parser.error("--bytes, --copies and --repeats must be at least 1")
    return carry_out(arguments, measure, merge, collective=False)


# ---- the same in every workload, since each is shipped alone; a test compares them ----
MARK, CHUNK = "ACCEPTANCE-DOCUMENT ", 3000
UTC = "%Y-%m-%dT%H:%M:%SZ"
SHOWN = ("NCCL_", "TORCH_NCCL_", "GLOO_", "CUDA_", "OMP_", "NVIDIA_VISIBLE_DEVICES")


class World:
    """This process among all: torchrun's variables, its device, and the store over which ranks talk unmeasured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVML counts
        self.timeout, self.partial = timedelta(seconds=arguments.timeout_s), False
        store, self.rank, self.size = next(rendezvous("env://", timeout=self.timeout))
        self.store = dist.PrefixStore(f"{WORKLOAD}/{os.environ.get('ACCEPTANCE_TURN', 0)}", store)  # see several.py
        self.local_rank, self.local_size, self.group_rank = (
            int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"))
        self.cuda = arguments.device == "cuda"
        self.device = torch.device("cuda", self.local_rank) if self.cuda else torch.device("cpu")
        if self.cuda and torch.cuda.device_count() <= self.local_rank:
            raise RuntimeError(f"it needs GPU {self.local_rank} and sees {torch.cuda.device_count()}; or --device cpu")
        if self.cuda:
            torch.cuda.set_device(self.device)

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def gather(self, part: Any) -> list[Any] | None:
        """On rank 0, what the ranks give, in their order. All must, unless `partial` was set."""
        self.store.set(f"part/{self.rank}", json.dumps(part, allow_nan=False))
        self.store.add(f"given/{self.rank}", 1)
        if self.rank:
            return None
        missing, end = list(range(self.size)), time.monotonic() + self.timeout.total_seconds()
        while missing and time.monotonic() < end:  # asked, not waited for: a wait that failed may break the store
            missing = [rank for rank in missing if not self.store.add(f"given/{rank}", 0)]
            time.sleep(0.05 if missing else 0)
        if missing and not self.partial:
            raise RuntimeError(f"no result of ranks {missing} in {self.timeout.total_seconds():.0f} s")
        return [json.loads(self.store.get(f"part/{rank}")) for rank in range(self.size) if rank not in missing]

    def gpu_uuid(self) -> tuple[str | None, str | None]:
        """The UUID of this rank's GPU, or on a CPU of the one that it stands for, and where it is from."""
        known = getattr(torch.cuda.get_device_properties(self.device), "uuid", None) if self.cuda else None
        named = os.environ.get("CUDA_VISIBLE_DEVICES" if self.cuda else "NVIDIA_VISIBLE_DEVICES", "").split(",")
        mine = dict(enumerate(named)).get(self.local_rank) or str(self.local_rank)
        library, _ = nvml()
        if known is not None:
            return f"GPU-{known}", "torch"
        if mine.startswith("GPU-"):
            return mine, "environment"
        if self.cuda and library and mine.isdigit():
            return os.fsdecode(library.nvmlDeviceGetUUID(library.nvmlDeviceGetHandleByIndex(int(mine)))), "nvml"
        return None, None

    def whereabouts(self) -> dict[str, Any]:
        """Where this rank runs, on what, with which versions."""
        (library, _), (uuid, source), environment = nvml(), self.gpu_uuid(), os.environ
        versions = {
            "python": platform.python_version(), "torch": str(torch.__version__), "cuda": torch.version.cuda,
            "nccl": ".".join(str(part) for part in torch.cuda.nccl.version()) if self.cuda else None,
            "driver": os.fsdecode(library.nvmlSystemGetDriverVersion()) if library else None,  # once it was bytes
            "kernel": platform.release()}
        return {"rank": self.rank, "local_rank": self.local_rank, "group_rank": self.group_rank,
                "host": socket.gethostname(), "pod": environment.get("POD_NAME"), "node": environment.get("NODE_NAME"),
                "device": str(self.device), "gpu_name": torch.cuda.get_device_name() if self.cuda else None,
                "gpu_uuid": uuid, "gpu_uuid_from": source, "versions": versions,
                "environment": {name: environment[name] for name in sorted(environment) if name.startswith(SHOWN)}}


def nvml() -> tuple[Any, str | None]:
    """pynvml, ready to be asked, or None and why."""
    try:
        import pynvml
        pynvml.nvmlInit()
    except Exception as problem:  # no module, no library, no driver
        return None, f"{type(problem).__name__}: {problem}"
    return pynvml, None


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", help="file for the document; without it, marked lines on standard output")
    parser.add_argument("--timeout-s", type=int, default=300, help="for ranks to wait for one another")
    return parser


def write(document: dict[str, Any], out: str | None) -> None:
    """The whole document or nothing: a file appears when it is complete, and lines carry length and digest."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    if out:
        with open(f"{out}.part", "w", encoding="ascii") as file:
            file.write(text + "\n")
        os.replace(f"{out}.part", out)
        return
    chunks = [f"|{text[start:start + CHUNK]}" for start in range(0, len(text), CHUNK)]
    begin = f"begin {len(text)} {hashlib.sha256(text.encode('ascii')).hexdigest()}"
    sys.stdout.write("".join(f"{MARK}{line}\n" for line in (begin, *chunks, "end")))
    sys.stdout.flush()


def carry_out(arguments: argparse.Namespace, measure: Callable[..., Any], merge: Callable[..., Any], *,
              collective: bool) -> int:
    """Measure on every rank, and write one document on rank 0. A rank that fails says so in one line, and ends."""
    started, backend = time.strftime(UTC, time.gmtime()), None
    try:
        world = World(arguments)
        if collective:
            backend = "nccl" if world.cuda else "gloo"
            dist.init_process_group(backend, store=world.store, rank=world.rank, world_size=world.size,
                                    timeout=world.timeout)
        part = measure(world, arguments)
        parts = world.gather([world.whereabouts(), part])
        if parts is not None:
            write({"schema": 1, "workload": WORKLOAD, "arguments": vars(arguments), "started_utc": started,
                   "ended_utc": time.strftime(UTC, time.gmtime()), "backend": backend, "device": arguments.device,
                   "ranks": [each[0] for each in parts], "results": merge([each[1] for each in parts], arguments)},
                  arguments.out)
    except (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError, ValueError) as problem:
        where = os.environ.get("NODE_NAME") or socket.gethostname()
        sys.stderr.write(f"{WORKLOAD}: rank {os.environ.get('RANK', '?')} on {where}: {type(problem).__name__}: "
                         f"{str(problem).partition(chr(10))[0]}\n")
        sys.stderr.flush()
        os._exit(1)  # not through destructors, which may wait for ranks that are gone
    if collective:
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
