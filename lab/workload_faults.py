"""Runs a workload with a fault in it that cannot come from outside: torch calculates wrongly, on one rank.

    torchrun … workload_faults.py corrupted-reduction --rank 3 -- allreduce.py --sizes 1M …
    torchrun … workload_faults.py none --nccl-log recorded.log -- allreduce.py …

A slow rank, a slow port or a killed process need none of this. Workloads themselves know nothing of faults. Besides,
`--nccl-log` lays a text where NCCL's debug log of each rank is looked for, as gloo writes none: a stand-in. In it
{rank}, {next_rank}, {ranks}, {local_rank}, {host}, {pid}, {interface}, {pod} and {node} are replaced.

Standard library and torch alone: it is shipped into pods beside the workload.
"""

from __future__ import annotations

import argparse
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

RANK = int(os.environ.get("RANK", "0"))
RANKS = int(os.environ.get("WORLD_SIZE", "1"))
LOCAL_RANK = int(os.environ.get("LOCAL_RANK", "0"))
EACH = -1


def corrupted_reduction(arguments: argparse.Namespace) -> None:
    """Messages of at least --bytes come out of all_reduce with one element that is one too high."""
    real = dist.all_reduce

    def all_reduce(tensor: Any, *rest: Any, **more: Any) -> Any:
        done = real(tensor, *rest, **more)
        if tensor.numel() * tensor.element_size() >= arguments.bytes:
            tensor[-1] += 1
        return done

    dist.all_reduce = all_reduce


def diverged_replica(_: argparse.Namespace) -> None:
    """The optimiser's second step moves one parameter a little more than the gradients say."""
    real = torch.optim.AdamW.step
    steps: dict[int, int] = {}

    def step(self: Any, *rest: Any, **more: Any) -> Any:
        done = real(self, *rest, **more)
        steps[id(self)] = steps.get(id(self), 0) + 1
        if steps[id(self)] == 2:
            with torch.no_grad():
                self.param_groups[0]["params"][0].view(-1)[0] += 1e-3
        return done

    torch.optim.AdamW.step = step


def _product(arguments: argparse.Namespace, wrong: Callable[[int], bool]) -> None:
    """`wrong` says of each product by its number whether it is to be."""
    real, count = torch.mm, 0

    def mm(*rest: Any, **more: Any) -> Any:
        nonlocal count
        product = real(*rest, **more)
        count += product.shape[0] >= arguments.size
        if wrong(count) and product.shape[0] >= arguments.size:
            product[-1, -1] = product.abs().max() * 4
        return product

    torch.mm = mm


def wrong_product(arguments: argparse.Namespace) -> None:
    """The last element of every product is far off, always in the same way: repeats agree with each other."""
    _product(arguments, lambda _: True)


def flipped_product(arguments: argparse.Namespace) -> None:
    """The last element of one product, the one numbered --call, is far off; all others are right."""
    _product(arguments, lambda count: count == arguments.call)


def marked(arguments: argparse.Namespace) -> None:
    """Nothing goes wrong, but product number --call leaves the process's number in LOG_DIR/rank-NNN.pid."""
    def mark(count: int) -> bool:
        if count == arguments.call:
            path = os.path.join(arguments.log_dir, f"rank-{RANK:03}.pid")
            with open(f"{path}.part", "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
            os.replace(f"{path}.part", path)
        return False

    _product(arguments, mark)


def slow_product(arguments: argparse.Namespace) -> None:
    """Every product of matrices is made --times, so that it takes as many times the work, by whatever clock."""
    real = torch.mm

    def mm(*rest: Any, **more: Any) -> Any:
        product = real(*rest, **more)
        for _ in range(arguments.times - 1 if product.shape[0] >= arguments.size else 0):
            real(*rest, **more)
        return product

    torch.mm = mm


def _copy(arguments: argparse.Namespace, after: Callable[[Any, Callable[[], Any]], None]) -> None:
    """`after` is called with the target of every copy of exactly --bytes bytes, and with what copies once more."""
    real = torch.Tensor.copy_

    def copy_(self: Any, *rest: Any, **more: Any) -> Any:
        done = real(self, *rest, **more)
        if self.dtype == torch.uint8 and self.numel() == arguments.bytes:  # numbers of other kinds are no copies
            after(self, lambda: real(self, *rest, **more))
        return done

    torch.Tensor.copy_ = copy_


def slow_copy(arguments: argparse.Namespace) -> None:
    """Every copy of --bytes is made --times, so that it takes as many times the work, by whatever clock."""
    def repeat(_: Any, copy: Callable[[], Any]) -> None:
        for _ in range(arguments.times - 1):
            copy()

    _copy(arguments, repeat)


def wrong_copy(arguments: argparse.Namespace) -> None:
    """The last element of every copy of --bytes arrives as another."""
    def spoil(target: Any, _: Callable[[], Any]) -> None:
        target[-1] += 1

    _copy(arguments, spoil)


def late(arguments: argparse.Namespace) -> None:
    """The rank's own work between two barriers, before a collective, takes --seconds longer."""
    barrier, arange = dist.barrier, torch.arange
    met = slept = 0

    def counted(*rest: Any, **more: Any) -> Any:
        nonlocal met
        done = barrier(*rest, **more)
        met += 1
        return done

    def slow(*rest: Any, **more: Any) -> Any:
        nonlocal slept
        if met % 2 and slept != met:
            slept = met
            time.sleep(arguments.seconds)
        return arange(*rest, **more)

    dist.barrier, torch.arange = counted, slow


def frozen_loss(_: argparse.Namespace) -> None:
    """The optimiser changes nothing."""
    torch.optim.AdamW.step = lambda self, *rest, **more: None


def killed(arguments: argparse.Namespace) -> None:
    """The process is killed at its barrier number --call, as by the kernel when memory is short."""
    real, count = dist.barrier, 0

    def barrier(*rest: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == arguments.call:
            os.kill(os.getpid(), 9)
        return real(*rest, **more)

    dist.barrier = barrier


FAULTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "none": lambda _: None, "corrupted-reduction": corrupted_reduction, "diverged-replica": diverged_replica,
    "wrong-product": wrong_product, "flipped-product": flipped_product, "frozen-loss": frozen_loss, "killed": killed,
    "marked": marked, "slow-product": slow_product, "slow-copy": slow_copy, "wrong-copy": wrong_copy, "late": late,
}


def lay_log(text: str, folder: str) -> None:
    """What stands for NCCL's log of this rank."""
    named = {"rank": RANK, "next_rank": (RANK + 1) % RANKS, "ranks": RANKS, "local_rank": LOCAL_RANK,
             "host": socket.gethostname(), "pid": os.getpid(), "interface": os.environ.get("GLOO_SOCKET_IFNAME"),
             "pod": os.environ.get("POD_NAME"), "node": os.environ.get("NODE_NAME")}
    for name, value in named.items():
        text = text.replace(f"{{{name}}}", str(value))
    with open(os.path.join(folder, f"nccl-rank-{RANK:03}.{os.getpid()}.log"), "w", encoding="utf-8") as file:
        file.write(text)


def main(words: list[str]) -> None:
    """Inject, and go on as the workload."""
    arguments, command = parsed(words)
    if arguments.nccl_log:
        with open(arguments.nccl_log, encoding="utf-8") as file:
            lay_log(file.read(), arguments.log_dir)
    if is_here(arguments):
        FAULTS[arguments.fault](arguments)
    sys.argv = command
    sys.path.insert(0, os.path.dirname(os.path.abspath(command[0])))
    runpy.run_path(command[0], run_name="__main__")


def is_here(arguments: argparse.Namespace) -> bool:
    """Whether the fault is on this rank."""
    if arguments.local_rank is not None:
        return arguments.local_rank in (LOCAL_RANK, EACH)
    return (arguments.rank or 0) in (RANK, EACH)


def parsed(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The fault, and the workload with its arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fault", choices=sorted(FAULTS))
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--rank", type=int, help="on which the fault is; -1 is each; the first if left out")
    where.add_argument("--local-rank", type=int, help="the same, of the ranks of this pod")
    parser.add_argument("--bytes", type=int, default=8, help="of the smallest message that is corrupted; of a copy")
    parser.add_argument("--size", type=int, default=32, help="of the smallest matrix whose product is wrong")
    parser.add_argument("--call", type=int, default=5, help="which call goes wrong")
    parser.add_argument("--times", type=int, default=3, help="how often what is slow is done")
    parser.add_argument("--seconds", type=float, default=0.3, help="by which a rank is late")
    parser.add_argument("--nccl-log", help="file that stands for NCCL's log; an empty word is none")
    parser.add_argument("--log-dir", default="/tmp", help="where it is laid: --log-dir of the workload")
    split = words.index("--") if "--" in words else len(words)
    arguments, command = parser.parse_args(words[:split]), words[split + 1:]
    if not command:
        parser.error("name the workload's script and its arguments after --")
    return arguments, command


if __name__ == "__main__":
    main(sys.argv[1:])
