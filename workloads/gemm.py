"""Matrix multiplication on every GPU at once, dtype by dtype: sustained TFLOP/s, and whether results are right.

    torchrun --nproc_per_node 4 gemm.py                                            # on GPUs
    torchrun --nproc_per_node 2 gemm.py --device cpu --dtypes fp32 fp64 --size 128    # anywhere

A repeat is --multiplications of two matrices of --size, timed as one by the GPU's own events; 2·size³ operations each.
After --warmup-seconds a GPU has the temperature and the clocks that it can sustain. Inputs are random, as zeros or
small whole numbers would draw less power than real work.

Verified three times. Rows chosen by chance are computed again in float64 (`checked`, `wrong`): an element is wrong when
it is off by more than its own rounding plus the tolerance of its dtype times the root of the sum of squared products.
All rows are, summed with random signs (`checked_rows`, `wrong_rows`; Freivalds), which finds a gross error wherever it
is. And the result of every repeat is compared with the first (`differing`): the same inputs give the same bits.
What cannot be run is listed in `left_out` with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
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

WORKLOAD = "gemm"
# torch's name; rounding of the result, relative; tolerance of the sum, relative to the root of the sum of squares:
# tf32 rounds its inputs to 10 bits, the tensor cores add in float32 with a few bits less
DTYPES = {"bf16": ("bfloat16", 2.0 ** -8, 2e-3), "fp16": ("float16", 2.0 ** -10, 2e-3), "tf32": ("float32", 0.0, 1e-2),
          "fp32": ("float32", 0.0, 1e-4), "fp64": ("float64", 0.0, 1e-12)}
ROWS = 16


def modes(name: str) -> None:
    """What torch may do with a dtype: TF32 only where it is asked for, and no sums in half precision."""
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    for each in ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
        with contextlib.suppress(AssertionError, AttributeError):  # older versions know fewer
            setattr(torch.backends.cuda.matmul, each, False)


def matrices(world: World, name: str, size: int, seed: int) -> tuple[Any, Any, Any]:
    """Two random matrices and room for their product."""
    chance = torch.Generator(device=world.device).manual_seed(seed)
    dtype = getattr(torch, DTYPES[name][0])
    left, right = (torch.randn(size, size, generator=chance, device=world.device).to(dtype) for _ in range(2))
    return left, right, torch.empty(size, size, dtype=dtype, device=world.device)


def timed(world: World, left: Any, right: Any, out: Any, multiplications: int) -> float:
    """Seconds of so many multiplications."""
    if not world.cuda:
        begun = time.perf_counter()
        for _ in range(multiplications):
            torch.mm(left, right, out=out)
        return time.perf_counter() - begun
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(multiplications):
        torch.mm(left, right, out=out)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def verified(name: str, left: Any, right: Any, out: Any, seed: int) -> dict[str, Any]:
    """A product against float64 on the host's processor: some rows in each element, and all rows in a random sum."""
    _, rounding, tolerance = DTYPES[name]
    chance, size = torch.Generator().manual_seed(seed), left.shape[0]
    rows, signs = torch.randperm(size, generator=chance)[:ROWS], torch.randint(2, (size,), generator=chance) * 2.0 - 1
    one, other, product = left.cpu().double(), right.cpu().double(), out.cpu().double()
    exact = one[rows] @ other
    scale = (one[rows].square() @ other.square()).sqrt()
    error = ((product[rows] - exact).abs() - rounding * exact.abs()).clamp(min=0) / scale
    off = (product @ signs.double() - one @ (other @ signs.double())).abs()
    wrong_rows = ~(off <= 2 * rounding * product.norm(dim=1) + tolerance * size)  # what is not a number is wrong
    worst = float(error.max())
    return {"checked": error.numel(), "wrong": int((~(error <= tolerance)).sum()), "checked_rows": size,
            "wrong_rows": int(wrong_rows.sum()), "max_error": worst if math.isfinite(worst) else None}


def measured(world: World, arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """This rank's row of one dtype."""
    seed = arguments.seed + world.rank
    modes(name)
    left, right, out = matrices(world, name, arguments.size, seed)
    meet(world, f"begin {name}")
    warm: list[float] = []
    begun = time.monotonic()
    while not warm or time.monotonic() - begun < arguments.warmup_seconds:
        warm.append(timed(world, left, right, out, arguments.multiplications))
    first, seconds, differing = out.clone(), [], 0
    for _ in range(arguments.repeats):
        seconds.append(timed(world, left, right, out, arguments.multiplications))
        differing += int((out != first).sum())
    tflops = [2 * arguments.size ** 3 * arguments.multiplications / each / 1e12 for each in seconds]
    return {"dtype": name, "size": arguments.size, "multiplications": arguments.multiplications,
            "warmup_seconds": warm, "seconds": seconds, "tflops": tflops, "differing": differing,
            **verified(name, left, right, out, seed)}


def meet(world: World, name: str) -> None:
    """Go on when every rank is here."""
    if world.store.add(f"{name}/count", 1) == world.size:
        world.store.set(f"{name}/all", "1")
    world.store.wait([f"{name}/all"], world.timeout)


def cannot(world: World, name: str) -> str | None:
    """Why this device does not multiply a dtype, found by trying it once."""
    if name == "tf32" and (not world.cuda or torch.cuda.get_device_capability() < (8, 0)):
        return "TF32 is a mode of tensor cores, from compute capability 8.0 on"
    try:
        timed(world, *matrices(world, name, 16, 1), 1)
    except RuntimeError as problem:
        if "not implemented" in str(problem):
            return f"unsupported on {world.device.type}: {str(problem).partition(chr(10))[0]}"
        raise
    return None


def measure(world: World, arguments: argparse.Namespace) -> dict[str, Any]:
    """This rank's part."""
    reasons = {name: cannot(world, name) for name in arguments.dtypes}
    return {"rows": [measured(world, arguments, name) for name, reason in reasons.items() if not reason],
            "left_out": [{"dtype": name, "reason": reason} for name, reason in reasons.items() if reason]}


def merge(parts: list[dict[str, Any]], _: argparse.Namespace) -> dict[str, Any]:
    """The parts of all ranks as one result."""
    if any(part["left_out"] != parts[0]["left_out"] for part in parts):
        raise ValueError("ranks disagree about what their devices support")
    same = ("dtype", "size", "multiplications")
    rows = [{key: value if key in same else [part["rows"][index][key] for part in parts] for key, value in row.items()}
            for index, row in enumerate(parts[0]["rows"])]
    return {"rows": rows, "left_out": parts[0]["left_out"]}


def main(words: list[str]) -> int:
    parser = argument_parser()
    parser.add_argument("--dtypes", nargs="+", choices=sorted(DTYPES), default=["bf16", "fp16", "tf32", "fp32", "fp64"])
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of each matrix")
    parser.add_argument("--multiplications", type=int, default=10, help="in one repeat")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warmup-seconds", type=float, default=10.0, help="for each dtype; at least one repeat")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(words)
    if min(arguments.size, arguments.multiplications, arguments.repeats) < 1:
        parser.error("--size, --multiplications and --repeats must be at least 1")
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
