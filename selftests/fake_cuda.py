"""Runs a workload as if there were GPUs and NCCL, on a processor and gloo: its lines for GPUs run, no figure is real.

    torchrun … selftests/fake_cuda.py [--misplace] gemm.py --size 64 …

`--misplace`: all_gather and reduce_scatter put the right data into the wrong rank's place.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

MISPLACE = sys.argv[1] == "--misplace"
GPUS = int(os.environ["LOCAL_WORLD_SIZE"])
real_device, real_group, real_autocast = torch.device, dist.init_process_group, torch.autocast
real_parallel = torch.nn.parallel.DistributedDataParallel


class Event:
    """torch.cuda.Event, by the host's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1000


def turned(parts: list[Any]) -> list[Any]:
    return parts[1:] + parts[:1] if MISPLACE else parts


def all_gather_into_tensor(output: Any, send: Any) -> None:
    dist.all_gather(turned(list(output.chunk(dist.get_world_size()))), send.clone())


def reduce_scatter_tensor(output: Any, send: Any) -> None:
    whole = send.clone()
    dist.all_reduce(whole)
    output.copy_(turned(list(whole.chunk(dist.get_world_size())))[dist.get_rank()])


def main(words: list[str]) -> None:
    """Put the stand-ins in, and go on as the workload."""
    properties = SimpleNamespace(uuid=f"00000000-0000-0000-0000-00000000000{os.environ['LOCAL_RANK']}")
    stand_ins: dict[str, Any] = {
        "device_count": lambda: GPUS, "set_device": lambda _: None, "synchronize": lambda: None, "Event": Event,
        "get_device_name": lambda: "NVIDIA A100-PCIE-40GB", "get_device_properties": lambda _: properties,
        "empty_cache": lambda: None, "get_device_capability": lambda: (8, 0),
        "can_device_access_peer": lambda *_: False, "nccl": SimpleNamespace(version=lambda: (2, 18, 5))}
    for name, stand_in in stand_ins.items():
        setattr(torch.cuda, name, stand_in)
    torch.device = lambda *_: real_device("cpu")
    torch.Tensor.pin_memory = lambda self: self
    torch.autocast = lambda device_type, dtype: real_autocast("cpu", dtype)
    torch.nn.parallel.DistributedDataParallel = lambda model, device_ids, **more: real_parallel(model, **more)
    dist.init_process_group = lambda backend, **more: real_group({"nccl": "gloo"}[backend], **more)
    dist.all_gather_into_tensor, dist.reduce_scatter_tensor = all_gather_into_tensor, reduce_scatter_tensor
    sys.argv = words
    sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[2 if MISPLACE else 1:])
