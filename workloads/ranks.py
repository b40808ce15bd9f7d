"""What all workloads share: which rank this process is and on what it runs, gathering, and writing the document.

It stands beside them wherever they are copied. It measures nothing.
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

MARK, CHUNK = "ACCEPTANCE-DOCUMENT ", 3000
UTC = "%Y-%m-%dT%H:%M:%SZ"
SHOWN = ("NCCL_", "TORCH_NCCL_", "GLOO_", "CUDA_", "OMP_", "NVIDIA_VISIBLE_DEVICES")


class World:
    """This process among all: torchrun's variables, its device, and the store over which ranks talk unmeasured."""

    def __init__(self, workload: str, arguments: argparse.Namespace) -> None:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVML counts
        self.timeout, self.partial = timedelta(seconds=arguments.timeout_s), False
        store, self.rank, self.size = next(rendezvous("env://", timeout=self.timeout))
        self.store = dist.PrefixStore(f"{workload}/{os.environ.get('ACCEPTANCE_TURN', 0)}", store)  # see several.py
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

    def clock(self) -> float:
        """Seconds of this rank's own work: two readings, one before and one after.

        On a CPU it is processor time of the process, all its threads: ranks may be more than processors, and a rank
        that waits for one does not work. A GPU is one rank's alone.
        """
        return time.monotonic() if self.cuda else time.process_time()

    def meet(self, name: str) -> None:
        """Go on when every rank is here."""
        if self.store.add(f"{name}/count", 1) == self.size:
            self.store.set(f"{name}/all", "1")
        self.store.wait([f"{name}/all"], self.timeout)

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


def number_of_bytes(text: str) -> int:
    """8, 64K, 1M, 8G: powers of 1024, as nccl-tests counts."""
    unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper())
    return int(text[:-1]) << unit if unit else int(text)


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """With the arguments that all workloads have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
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


def carry_out(workload: str, arguments: argparse.Namespace, measure: Callable[[World, argparse.Namespace], Any],
              merge: Callable[[list[Any], argparse.Namespace], Any], *, collective: bool) -> int:
    """Measure on every rank, and write one document on rank 0. A rank that fails says so in one line, and ends."""
    started, backend = time.strftime(UTC, time.gmtime()), None
    try:
        world = World(workload, arguments)
        if collective:
            backend = "nccl" if world.cuda else "gloo"
            dist.init_process_group(backend, store=world.store, rank=world.rank, world_size=world.size,
                                    timeout=world.timeout)
        part = measure(world, arguments)
        parts = world.gather([world.whereabouts(), part])
        if parts is not None:
            write({"schema": 1, "workload": workload, "arguments": vars(arguments), "started_utc": started,
                   "ended_utc": time.strftime(UTC, time.gmtime()), "backend": backend, "device": arguments.device,
                   "ranks": [each[0] for each in parts], "results": merge([each[1] for each in parts], arguments)},
                  arguments.out)
    except (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError, ValueError) as problem:
        where = os.environ.get("NODE_NAME") or socket.gethostname()
        sys.stderr.write(f"{workload}: rank {os.environ.get('RANK', '?')} on {where}: {type(problem).__name__}: "
                         f"{str(problem).partition(chr(10))[0]}\n")
        sys.stderr.flush()
        os._exit(1)  # not through destructors, which may wait for ranks that are gone
    if collective:
        dist.destroy_process_group()
    return 0
