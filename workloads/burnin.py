"""Matrix multiplication without a pause on every GPU at once, for minutes or hours, each result compared.

    torchrun --nproc_per_node 4 burnin.py --hours 4                                    # on GPUs
    torchrun --nproc_per_node 2 burnin.py --device cpu --dtype fp32 --size 128 --seconds 20 --sample-seconds 1

The first product is verified row by row against float64 on the host's processor (`reference`). Then, in iterations of
about --iteration-seconds, every product is compared with the first, element by element: the same inputs give the same
bits, so `wrong` counts elements of a GPU that miscalculates. Beside it NVML is asked every --sample-seconds for clocks
(MHz), temperature (°C), power (W) and the bits of the reasons for which clocks are held down, and for ECC errors before
and after. Where NVML cannot be had `telemetry.reason` says why, and there are no samples.

Told to end before its time (SIGTERM), every rank stops after its iteration and the document is written with what there
is; `cut_short` says so. A rank that gives nothing within --grace-seconds is missing in it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

WORKLOAD = "burnin"
# torch's name, rounding of a result, tolerance of a sum relative to the root of the sum of squared products
DTYPES = {"bf16": ("bfloat16", 2.0 ** -8, 2e-3), "fp16": ("float16", 2.0 ** -10, 2e-3),
          "fp32": ("float32", 0.0, 1e-4), "fp64": ("float64", 0.0, 1e-12)}
ROWS = 16
COLUMNS = ("at_s", "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "power_w", "throttle_reasons")
told_to_end = threading.Event()


class Telemetry(threading.Thread):
    """Asks NVML about one GPU until it is told to stop. What could not be read is None; the reason is kept once."""

    def __init__(self, uuid: str | None, every_s: float) -> None:
        super().__init__(daemon=True)
        self.every_s, self.over, self.begun = every_s, threading.Event(), time.monotonic()
        self.samples: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.errors: dict[str, str] = {}
        self.library, self.reason = nvml()
        self.handle: Any = None
        if self.library and uuid:
            self.handle = self.ask("handle", lambda: self.library.nvmlDeviceGetHandleByUUID(uuid.encode()))
            self.reason = self.errors.get("handle")
        elif self.library:
            self.reason = "the UUID of this rank's GPU is not known"

    def ask(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (self.library.NVMLError, AttributeError) as problem:  # of the driver, or of an old pynvml
            self.errors.setdefault(name, f"{type(problem).__name__}: {problem}")
            return None

    def run(self) -> None:
        while self.handle is not None and not self.over.is_set():
            self.sample()
            self.over.wait(self.every_s)

    def sample(self) -> None:
        n, h = self.library, self.handle
        power = self.ask("power_w", lambda: n.nvmlDeviceGetPowerUsage(h) / 1000)
        values = (round(time.monotonic() - self.begun, 3),
                  self.ask("sm_clock_mhz", lambda: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM)),
                  self.ask("memory_clock_mhz", lambda: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM)),
                  self.ask("temperature_c", lambda: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU)),
                  power, self.ask("throttle_reasons", lambda: n.nvmlDeviceGetCurrentClocksThrottleReasons(h)))
        for name, value in zip(COLUMNS, values):  # noqa: B905 - not in Python 3.8
            self.samples[name].append(value)

    def ecc(self) -> dict[str, int | None]:
        """Memory errors, corrected and not, since the driver was loaded and in the GPU's life."""
        n, h = self.library, self.handle
        if h is None:
            return {}
        kinds = {"corrected": n.NVML_MEMORY_ERROR_TYPE_CORRECTED, "uncorrected": n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED}
        counters = {"volatile": n.NVML_VOLATILE_ECC, "aggregate": n.NVML_AGGREGATE_ECC}

        def count(kind: int, counter: int) -> Callable[[], Any]:
            return lambda: n.nvmlDeviceGetTotalEccErrors(h, kind, counter)

        return {f"{kind}_{counter}": self.ask(f"ecc {kind} {counter}", count(kinds[kind], counters[counter]))
                for kind in kinds for counter in counters}


def meet(world: World, name: str) -> None:
    """Go on when every rank is here."""
    if world.store.add(f"{name}/count", 1) == world.size:
        world.store.set(f"{name}/all", "1")
    world.store.wait([f"{name}/all"], world.timeout)


def verified(name: str, left: Any, right: Any, out: Any) -> dict[str, Any]:
    """Rows chosen by chance against float64, computed on the host's processor."""
    _, rounding, tolerance = DTYPES[name]
    rows = torch.randperm(left.shape[0], generator=torch.Generator().manual_seed(1))[:ROWS]
    some, other = left.cpu()[rows].double(), right.cpu().double()
    exact = some @ other
    error = (out.cpu()[rows].double() - exact).abs() - rounding * exact.abs()
    wrong = ~(error <= tolerance * (some.square() @ other.square()).sqrt())  # what is not a number is wrong
    return {"checked": wrong.numel(), "wrong": int(wrong.sum())}


def iterate(world: World, arguments: argparse.Namespace, left: Any, right: Any, first: Any) -> dict[str, list[Any]]:
    """Multiply until the time is over: when each iteration began, how long it took, how much it did, what was wrong."""
    kept: dict[str, list[Any]] = {name: [] for name in ("at_s", "seconds", "multiplications", "tflops", "wrong")}
    out, wrong = torch.empty_like(first), torch.zeros((), dtype=torch.int64, device=world.device)
    begun = now = time.monotonic()
    while now - begun < arguments.seconds and not told_to_end.is_set():
        start, count = now, 0
        wrong.zero_()
        while now - start < min(arguments.iteration_seconds, arguments.seconds) and not told_to_end.is_set():
            for _ in range(arguments.multiplications):
                torch.mm(left, right, out=out)
                wrong += (out != first).sum()
            world.synchronize()
            now, count = time.monotonic(), count + arguments.multiplications
        tflops = 2 * arguments.size ** 3 * count / max(now - start, 1e-9) / 1e12
        for name, value in zip(kept, (round(start - begun, 3), now - start, count, tflops, int(wrong))):  # noqa: B905
            kept[name].append(value)
    return kept


def measure(world: World, arguments: argparse.Namespace) -> dict[str, Any]:
    """This rank's part."""
    name = arguments.dtype
    for each in ("allow_tf32", "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
        with contextlib.suppress(AssertionError, AttributeError):  # older versions know fewer
            setattr(torch.backends.cuda.matmul, each, False)
    chance = torch.Generator(device=world.device).manual_seed(1 + world.rank)
    left, right = (torch.randn(arguments.size, arguments.size, generator=chance, device=world.device)
                   .to(getattr(torch, DTYPES[name][0])) for _ in range(2))
    first = torch.mm(left, right)
    reference = verified(name, left, right, first)
    telemetry = Telemetry(world.gpu_uuid()[0], arguments.sample_seconds)
    before = telemetry.ecc()
    meet(world, "begin")
    telemetry.start()
    iterations = iterate(world, arguments, left, right, first)
    telemetry.over.set()
    telemetry.join()
    if told_to_end.is_set():
        world.partial, world.timeout = True, timedelta(seconds=arguments.grace_seconds)
    return {"reference": reference, "iterations": iterations, "samples": telemetry.samples,
            "ecc_before": before, "ecc_after": telemetry.ecc(), "cut_short": told_to_end.is_set(),
            "telemetry": {"reason": telemetry.reason, "errors": telemetry.errors}}


def merge(parts: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """The parts of all ranks as one result."""
    cut = [part for part in parts if part.pop("cut_short")]
    return {"dtype": arguments.dtype, "size": arguments.size, "asked_seconds": arguments.seconds,
            "cut_short": f"told to end (SIGTERM) on {len(cut)} of {len(parts)} ranks" if cut else None,
            **{key: [part[key] for part in parts] for key in parts[0]}}


def main(words: list[str]) -> int:
    parser = argument_parser()
    parser.add_argument("--hours", type=float, help="how long, or in --seconds")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of each matrix")
    parser.add_argument("--multiplications", type=int, default=10, help="between two looks at the clock")
    parser.add_argument("--iteration-seconds", type=float, default=10.0)
    parser.add_argument("--sample-seconds", type=float, default=5.0)
    parser.add_argument("--grace-seconds", type=float, default=15.0, help="for ranks to give what they have")
    arguments = parser.parse_args(words)
    if (arguments.hours is None) == (arguments.seconds is None):
        parser.error("give --hours or --seconds")
    arguments.seconds = arguments.seconds or arguments.hours * 3600
    if min(arguments.seconds, arguments.iteration_seconds, arguments.sample_seconds) <= 0 or min(
            arguments.size, arguments.multiplications) < 1:
        parser.error("durations, --size and --multiplications must be more than nothing")
    signal.signal(signal.SIGTERM, lambda *_: told_to_end.set())
    code = carry_out(arguments, measure, merge, collective=False)
    return code or int(told_to_end.is_set())


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
