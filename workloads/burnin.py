"""Matrix multiplication without a pause on every GPU at once, for minutes or hours, each result compared.

    torchrun --nproc_per_node 4 burnin.py --hours 4                                    # on GPUs
    torchrun --nproc_per_node 2 burnin.py --device cpu --dtype fp32 --size 128 --seconds 20 --sample-seconds 1

The first product is verified row by row against float64 on the host's processor (`reference`). Then, in iterations of
about --iteration-seconds, every product is compared with the first, element by element: the same inputs give the same
bits, so `wrong` counts elements of a GPU that miscalculates. `tflops` follows from `worked_seconds`: on a GPU the time
of the iteration, on a CPU the processor time of the process in it. Beside it NVML is asked every --sample-seconds for
clocks (MHz), temperature (°C), power (W) and the bits of the reasons for which clocks are held down, and for ECC errors
before and after. Where NVML cannot be had `telemetry.reason` says why, and there are no samples.

Told to end before its time (SIGTERM), every rank stops after its iteration and the document is written with what there
is; `cut_short` says so. A rank that gives nothing within --grace-seconds is missing in it.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

from ranks import World, argument_parser, carry_out, nvml

# torch's name, rounding of a result, tolerance of a sum relative to the root of the sum of squared products
DTYPES = {"bf16": ("bfloat16", 2.0 ** -8, 2e-3), "fp16": ("float16", 2.0 ** -10, 2e-3),
          "fp32": ("float32", 0.0, 1e-4), "fp64": ("float64", 0.0, 1e-12)}
ROWS = 16
KEPT = ("at_s", "seconds", "worked_seconds", "multiplications", "tflops", "wrong")
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
    kept: dict[str, list[Any]] = {name: [] for name in KEPT}
    out, wrong = torch.empty_like(first), torch.zeros((), dtype=torch.int64, device=world.device)
    begun = now = time.monotonic()
    while now - begun < arguments.seconds and not told_to_end.is_set():
        start, worked, count = now, world.clock(), 0
        wrong.zero_()
        while now - start < min(arguments.iteration_seconds, arguments.seconds) and not told_to_end.is_set():
            for _ in range(arguments.multiplications):
                torch.mm(left, right, out=out)
                wrong += (out != first).sum()
            world.synchronize()
            now, count = time.monotonic(), count + arguments.multiplications
        worked = now - start if world.cuda else world.clock() - worked
        tflops = 2 * arguments.size ** 3 * count / max(worked, 1e-9) / 1e12
        for name, value in zip(KEPT, (round(start - begun, 3), now - start, worked, count, tflops, int(wrong))):  # noqa: B905
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
    world.meet("begin")
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
    parser = argument_parser(__doc__)
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
    code = carry_out("burnin", arguments, measure, merge, collective=False)
    return code or int(told_to_end.is_set())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
