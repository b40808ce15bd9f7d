"""What nccl-tests and NCCL print, made up figures in their own formats.

None of it was recorded: this project had no cluster of GPUs. The tests' output is written after NVIDIA/nccl-tests
src/util.cu@0fdb00a (format strings of table, devices, result lines and JSON) and, for the older columns, after the
outputs in that repository's issues 104 and 293. The log is written after NVIDIA/nccl src/transport/net.cc, p2p.cc,
shm.cc and src/init.cc, v2.18 to v2.28 (format strings), and the logs in NVIDIA/nccl issues 1291, 1412 and 1453.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from acceptance.measure.collectives import bus_factor

RANKS, PER_NODE = 32, 4
NODES = [f"gpu-node-{number:02}" for number in range(1, RANKS // PER_NODE + 1)]
SIZES = [8 << power for power in range(31)]


def healthy_time_us(size: int, busbw: float = 10.5, ranks: int = RANKS, collective: str = "all_reduce") -> float:
    """A curve as a healthy cluster has it: a latency, then the line."""
    return 40 + size / (busbw / max(bus_factor(collective, ranks), 1e-9)) / 1000


@dataclass(frozen=True)
class Result:
    """One size, out of place and in place: time in µs and wrong elements each."""

    size: int
    times: tuple[float, float]
    wrong: tuple[int | None, int | None] = (0, 0)


def results(sizes: Sequence[int] = SIZES, time: Callable[[int], float] = healthy_time_us,
            wrong: int | None = 0) -> list[Result]:
    """A run over some sizes."""
    return [Result(size, (time(size), time(size) * 1.01), (wrong, wrong)) for size in sizes]


def float_text(value: float, width: int) -> str:
    """A figure of the table in its column."""
    digits = 0
    while value >= 10 ** digits:
        digits += 1
    if digits < width - 2:
        return f"{value:{width}.2f}"
    if digits < width - 1:
        return f"{value:{width}.1f}"
    return f"{value:{width}.0f}" if digits < width + 1 else f"{value:{width}.1e}"


def _bandwidths(size: int, time: float, ranks: int, collective: str) -> tuple[float, float]:
    algbw = size / time / 1000
    return algbw, algbw * bus_factor(collective, ranks)


def table(rows: Sequence[Result], *, ranks: int = RANKS, collective: str = "all_reduce", checked: int = 1,
          redop: str = "sum", devices: bool = True, old: bool = False, concluded: bool = True) -> str:
    """Standard output. `old`: the columns of versions before 2.12."""
    first, last = rows[0].size, rows[-1].size
    factor = rows[1].size // first if len(rows) > 1 else 2
    lines = [f"# nThread 1 nGpus 1 minBytes {first} maxBytes {last} step: {factor}(factor) warmup iters: 5 iters: 20 "
             f"agg iters: 1 validation: {checked} graph: 0", "#", "# Using devices"]
    if devices:
        lines += [f"#  Rank {rank:2} Group  0 Pid {1000 + rank:6} on {NODES[rank // PER_NODE]:>10} device "
                  f"{rank % PER_NODE:2} [0000:{0x17 + rank % PER_NODE:02x}:00] NVIDIA A100-PCIE-40GB"
                  for rank in range(ranks)]
    group = "   time   algbw   busbw  error" if old else "    time   algbw   busbw  #wrong"
    named = "" if old else "   redop    root"
    lines += ["#", "#" + " " * 60 + "out-of-place" + " " * 23 + "in-place          ",
              f"#       size         count      type{named}{group}{group}",
              f"#        (B)    (elements){' ' * 10}(us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)"]
    sum_busbw = 0.0
    for row in rows:
        line = f"{row.size:12}  {row.size // 4:12}  {'float':>8}" + ("" if old else f"  {redop:>6}  {-1:>6}")
        for time, wrong in zip(row.times, row.wrong, strict=True):
            algbw, busbw = _bandwidths(row.size, time, ranks, collective)
            sum_busbw += busbw
            told = "   N/A" if wrong is None else f"{float(wrong):5.0e}" if old else f"{float(wrong):6g}"
            line += f"  {float_text(time, 7)}  {float_text(algbw, 6)}  {float_text(busbw, 6)}  {told}"
        lines.append(line)
    bad = sum(bool(wrong) for row in rows for wrong in row.wrong)
    lines += [f"# Out of bounds values : {bad} {'FAILED' if bad else 'OK'}",
              f"# Avg bus bandwidth    : {sum_busbw / (2 * len(rows)):g} ", "#"]
    if concluded:
        lines.append(f"# Collective test concluded: {collective}_perf")
    return "\n".join(lines) + "\n"


def document(rows: Sequence[Result], *, ranks: int = RANKS, collective: str = "all_reduce",
             checked: int = 1) -> dict[str, Any]:
    """The file of -J."""
    first, last = rows[0].size, rows[-1].size
    found, total = [], 0.0
    for row in rows:
        one: dict[str, Any] = {"size": row.size, "count": row.size // 4, "type": "float", "redop": "sum",
                               "root": "    -1"}
        for key, time, wrong in zip(("out_of_place", "in_place"), row.times, row.wrong, strict=True):
            algbw, busbw = _bandwidths(row.size, time, ranks, collective)
            total += busbw
            one[key] = {"time": round(time, 6), "alg_bw": round(algbw, 6), "bus_bw": round(busbw, 6),
                        "nwrong": None if wrong is None else float(wrong)}
        found.append(one | {"actual_iterations": 20, "experiment_name": ""})
    bad = sum(bool(wrong) for row in rows for wrong in row.wrong)
    return {
        "version": 2, "start_time": "2026-01-05 10:00:00", "args": [f"{collective}_perf", "-J", "out.json"], "env": [],
        "nccl_version": 22105,
        "config": {"nthreads": 1, "ngpus": 1, "minimum_bytes": first, "maximum_bytes": last,
                   "step_factor": rows[1].size // first if len(rows) > 1 else 2, "warmup_iters": 5, "iterations": 20,
                   "aggregated_iterations": 1, "validation": checked, "graph": 0, "blocking_collectives": "false",
                   "parallel_init": "false",
                   "devices": [{"rank": rank, "group": 0, "pid": 1000 + rank, "hostname": NODES[rank // PER_NODE],
                                "device": rank % PER_NODE, "device_hex": f"0000:{0x17 + rank % PER_NODE:02x}:00",
                                "device_info": "NVIDIA A100-PCIE-40GB"} for rank in range(ranks)]},
        "results": found, "out_of_bounds": {"count": bad, "okay": "false" if bad else "true"},
        "average_bus_bandwidth": {"bandwidth": round(total / (2 * len(rows)), 6), "okay": "unchecked"},
        "errors": [""], "end_time": "2026-01-05 10:09:00",
    }


def json_text(rows: Sequence[Result], **named: Any) -> str:
    """The same as text."""
    return json.dumps(document(rows, **named), separators=(",", ":"))


def log_line(rank: int, text: str, *, host: str = "", level: str = "INFO") -> str:
    """One line of one rank."""
    return f"{host or NODES[rank // PER_NODE]}:{900 + rank}:{2000 + rank} [{rank % PER_NODE}] NCCL {level} {text}"


def log_lines(*, network: str = "IB", gdr: str = "", channels: int = 2) -> list[str]:
    """The log of a healthy run over all nodes: a ring, each node's last rank sending to the next node's first."""
    lines = ["NCCL version 2.21.5+cuda12.4"]
    for rank in range(RANKS):
        following, previous = (rank + 1) % RANKS, (rank - 1) % RANKS
        lines += [log_line(rank, text) for text in (
            "Bootstrap : Using ens3f0np0:10.100.0.11<0>", "cudaDriverVersion 12020",
            "NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin.",
            f"NET/IB : Using [0]mlx5_0:1/RoCE [RO]; OOB ens3f0np0:10.100.0.{11 + rank // PER_NODE}<0>",
            f"Using network {network}")]
        if rank == 0:
            lines.append(log_line(rank, "Channel 00/02 :" + "".join(f" {one:3}" for one in range(RANKS))))
        for channel in range(channels):
            start = f"Channel {channel:02}/0 : "
            if rank % PER_NODE == PER_NODE - 1:
                lines.append(log_line(rank, f"{start}{rank}[3] -> {following}[0] [send] via NET/{network}/0{gdr}"))
            else:
                lines.append(log_line(rank, f"{start}{rank}[{rank % PER_NODE}] -> {following}[{following % PER_NODE}] "
                                            "via SHM/direct/direct"))
            if rank % PER_NODE == 0:
                lines.append(log_line(rank, f"{start}{previous}[3] -> {rank}[0] [receive] via NET/{network}/0{gdr}"))
        lines += [log_line(rank, text) for text in (
            "Connected all rings, use ring PXN 0 GDR 0", "Connected all trees",
            f"ncclCommInitRank comm 0x5581{rank:04x} rank {rank} nranks {RANKS} cudaDev {rank % PER_NODE} nvmlDev "
            f"{rank % PER_NODE} busId {0x17 + rank % PER_NODE:x}000 commId 0xd9f2a1 - Init COMPLETE")]
    return lines


def gloo_lines() -> list[str]:
    """What a workload on gloo writes in place of it."""
    return [f"{NODES[rank // PER_NODE]}:{900 + rank}:{900 + rank} [{rank % PER_NODE}] GLOO INFO rank {rank} nranks "
            f"{RANKS} via TCP/eth0" for rank in range(RANKS)]
