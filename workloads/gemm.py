"""Matrix multiplication on every GPU at once, dtype by dtype: sustained TFLOP/s, and whether results are right.

    torchrun --nproc_per_node 4 gemm.py                                            # on GPUs
    torchrun --nproc_per_node 2 gemm.py --device cpu --dtypes fp32 fp64 --size 128    # anywhere

A repeat is --multiplications of two matrices of --size, timed as one by the GPU's own events, on a CPU by the
processor time of the process; 2·size³ operations each.
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
import math
import sys
import time
from typing import Any

import torch

from ranks import World, argument_parser, carry_out

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
        begun = world.clock()
        for _ in range(multiplications):
            torch.mm(left, right, out=out)
        return world.clock() - begun
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
    world.meet(f"begin {name}")
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
    parser = argument_parser(__doc__)
    parser.add_argument("--dtypes", nargs="+", choices=sorted(DTYPES), default=["bf16", "fp16", "tf32", "fp32", "fp64"])
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of each matrix")
    parser.add_argument("--multiplications", type=int, default=10, help="in one repeat")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warmup-seconds", type=float, default=10.0, help="for each dtype; at least one repeat")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(words)
    if min(arguments.size, arguments.multiplications, arguments.repeats) < 1:
        parser.error("--size, --multiplications and --repeats must be at least 1")
    return carry_out("gemm", arguments, measure, merge, collective=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
