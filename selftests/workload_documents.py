"""Documents as the workloads would have written them on a healthy cluster of 32 GPUs, made from the contract.

None of them was recorded; figures are made up. `SMALL` is the client's contract with fewer sizes and repeats.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from acceptance.measure.collectives import bus_factor
from acceptance.measure.documents.collectives import NEVER, PLACEMENTS, AllreduceArguments
from acceptance.site.contract import Contract
from acceptance.site.load import Site
from selftests.nccl_samples import log_lines
from selftests.synthetic import SITE

Raw = dict[str, Any]
Change = Callable[[Raw], Any]
PER_NODE, WIDTH = 4, 4
NODES = [host.name for host in SITE.group("gpu_nodes")]
RANKS = PER_NODE * len(NODES)


def small_site(change: Change = lambda _: None) -> Site:
    """The client's site with less to measure, and seconds in place of minutes."""
    data = SITE.contract.model_dump(mode="json", by_alias=True)
    work = data["performance"]
    work["collectives"] |= {"sizes": {"first": 8, "last": 8 << 30, "factor": 32}, "repeats": 3, "warmups": 1,
                            "other_sizes": {"first": 1024, "last": 1 << 30, "factor": 1024}}
    work["gemm"]["repeats"] = work["memcpy"]["repeats"] = 3
    work["training"] |= {"steps": 16, "warmups": 2}
    work["burn_in"]["hours"] = 0.05
    work["deadlines"] = dict.fromkeys(work["deadlines"], 0.4)
    change(work)
    return replace(SITE, contract=Contract.model_validate(data))


SMALL = small_site()


def ranks(name: str) -> list[Raw]:
    """Where each rank ran."""
    versions = {"python": "3.10.12", "torch": "2.1.0", "cuda": "12.2", "nccl": "2.21.5", "driver": "535.104.05",
                "kernel": "5.15.0-91-generic"}
    return [{"rank": rank, "local_rank": rank % PER_NODE, "group_rank": rank // PER_NODE,
             "host": f"acceptance-{name}-{rank // PER_NODE}", "pod": f"acceptance-{name}-{rank // PER_NODE}-x7k2p",
             "node": NODES[rank // PER_NODE], "device": f"cuda:{rank % PER_NODE}",
             "gpu_name": "NVIDIA A100-PCIE-40GB", "gpu_uuid": f"GPU-{NODES[rank // PER_NODE]}-{rank % PER_NODE}",
             "gpu_uuid_from": "torch", "versions": dict(versions), "environment": {"NCCL_ALGO": "Ring"}}
            for rank in range(RANKS)]


def frame(name: str, arguments: Raw, results: Raw, backend: str | None) -> Raw:
    """The whole document."""
    common = {"device": "cuda", "out": None, "timeout_s": 300}
    return {"schema": 1, "workload": name, "arguments": common | arguments, "started_utc": "2026-01-05T10:00:00Z",
            "ended_utc": "2026-01-05T10:09:00Z", "backend": backend, "device": "cuda", "ranks": ranks(name),
            "results": results}


def near(chance: random.Random, value: float, noise: float = 0.004) -> float:
    """A value with a little noise."""
    return value * chance.gauss(1, noise)


def allreduce(site: Site = SMALL) -> Raw:
    """Collectives: a latency, then 10.5 of 12.25 GB/s; alltoall as far below its own ceiling."""
    wanted, chance, rows = site.contract.performance.collectives, random.Random(1), []
    names: list[Any] = ["all_reduce", *wanted.others]
    arguments: Raw = {
        "collectives": names, "min_bytes": 8, "max_bytes": 8 << 30, "step_factor": 2, "sizes": list(wanted.sizes.all),
        "other_sizes": list(wanted.other_sizes.all), "dtype": "float32", "warmups": wanted.warmups,
        "repeats": wanted.repeats, "operations": wanted.operations, "together_bytes": 64 << 20, "log_dir": "/tmp"}
    known = AllreduceArguments.model_validate({"device": "cuda", "out": None, "timeout_s": 300} | arguments)
    left_out = [{"collective": name, "placement": placement, "asked_bytes": None, "reason": "not known"}
                for name in names for placement in PLACEMENTS if (name, placement) in NEVER]
    for name in names:
        for placement in PLACEMENTS:
            for size in known.sizes_of(name) if (name, placement) not in NEVER else ():
                elements = known.elements(name, size, RANKS)
                if elements:
                    rows.append(_row(site, name, placement, size, elements, chance))
                else:
                    left_out.append({"collective": name, "placement": placement, "asked_bytes": size,
                                     "reason": "too small"})
    return frame("allreduce", arguments, {"rows": rows, "left_out": left_out, "nccl_logs": logs()}, "nccl")


def _row(site: Site, name: str, placement: str, size: int, elements: int, chance: random.Random) -> Raw:
    wanted, factor = site.contract.performance.collectives, bus_factor(name, RANKS)
    used, reach = elements * WIDTH, 2.8 if name == "alltoall" else 10.5
    operations = max(1, min(wanted.operations, (64 << 20) // used))
    here = elements // RANKS if name == "reduce_scatter" else elements
    checked = here * operations * (wanted.warmups + wanted.repeats)
    middle = 4e-5 + used * factor / (reach * 1e9)
    row: Raw = {"collective": name, "placement": placement, "asked_bytes": size, "bytes": used, "factor": factor,
                "operations": operations, "warmup_seconds": [[middle * 1.2] * wanted.warmups for _ in range(RANKS)],
                "arrive_seconds": [[near(chance, 1e-4) for _ in range(wanted.repeats)] for _ in range(RANKS)],
                "checked": [checked] * RANKS, "wrong": [0] * RANKS}
    times = [near(chance, middle) for _ in range(wanted.repeats)]
    row["seconds"] = [[time * (1 - rank / 1e5) for time in times] for rank in range(RANKS)]
    return derived(row)


def derived(row: Raw) -> Raw:
    """A row of a collective with the bandwidths that its times give."""
    slowest = [max(times) for times in zip(*row["seconds"], strict=True)]
    row["algbw_gbyte_s"] = [row["bytes"] / each / 1e9 for each in slowest]
    row["busbw_gbyte_s"] = [each * row["factor"] for each in row["algbw_gbyte_s"]]
    return row


def logs(lines: Sequence[str] | None = None) -> list[Raw | None]:
    """NCCL's log of each rank, under the names of the pods."""
    found: list[Raw | None] = []
    for rank in range(RANKS):
        mark = f":{900 + rank}:"
        mine = [line for line in lines or log_lines() if mark in line or (not rank and line.startswith("NCCL"))]
        text = "\n".join(mine).replace(f"{NODES[rank // PER_NODE]}:", f"acceptance-allreduce-{rank // PER_NODE}:")
        found.append({"path": f"/tmp/{rank}.log", "bytes": len(text), "truncated": False, "text": text + "\n"})
    return found


def gemm(site: Site = SMALL) -> Raw:
    """Matrix products at ordinary rates of this card."""
    wanted, chance, rows = site.contract.performance.gemm, random.Random(2), []
    usual = {"bf16": 205.0, "tf32": 101.0, "fp16": 205.0, "fp32": 17.5, "fp64": 13.7}
    for dtype in wanted.floors:
        work = 2 * wanted.size ** 3 * 10 / 1e12
        seconds = [[work / near(chance, usual[dtype]) for _ in range(wanted.repeats)] for _ in range(RANKS)]
        rows.append({"dtype": dtype, "size": wanted.size, "multiplications": 10, "seconds": seconds,
                     "warmup_seconds": [[0.1] for _ in range(RANKS)],
                     "tflops": [[work / each for each in mine] for mine in seconds], "differing": [0] * RANKS,
                     "checked": [16 * wanted.size] * RANKS, "wrong": [0] * RANKS, "checked_rows": [wanted.size] * RANKS,
                     "wrong_rows": [0] * RANKS, "max_error": [1e-4] * RANKS})
    return frame("gemm", {"dtypes": list(wanted.floors), "size": wanted.size, "multiplications": 10,
                          "repeats": wanted.repeats, "warmup_seconds": wanted.warmup_seconds, "seed": 1},
                 {"rows": rows, "left_out": []}, None)


def memcpy(site: Site = SMALL) -> Raw:
    """Copies at ordinary rates of this server."""
    wanted, chance, rows = site.contract.performance.memcpy, random.Random(3), []
    kinds: list[tuple[str, int | None, float]] = [("host-device", None, 25.6), ("device-host", None, 25.9),
                                                  ("device-device", None, 1250.0),
                                                  *(("peer", offset, 19.0) for offset in range(1, PER_NODE))]
    for kind, offset, rate in kinds:
        counted = wanted.size * (2 if kind == "device-device" else 1)
        seconds = [[counted * 10 / near(chance, rate) / 1e9 for _ in range(wanted.repeats)] for _ in range(RANKS)]
        rows.append({"kind": kind, "peer_offset": offset, "bytes": wanted.size, "counted_bytes": counted, "copies": 10,
                     "source": ["a"] * RANKS, "target": ["b"] * RANKS,
                     "direct_access": [None if offset is None else True] * RANKS,
                     "warmup_seconds": [[0.1, 0.1] for _ in range(RANKS)], "seconds": seconds, "wrong": [0] * RANKS,
                     "gbyte_s": [[counted * 10 / each / 1e9 for each in mine] for mine in seconds]})
    return frame("memcpy", {"bytes": wanted.size, "copies": 10, "warmups": 2, "repeats": wanted.repeats,
                            "at_once": False}, {"rows": rows, "left_out": []}, None)


def ddp(site: Site = SMALL) -> Raw:
    """Training at 92 % of what the GPUs reach alone, whose loss falls."""
    wanted, chance = site.contract.performance.training, random.Random(4)
    size, parameters = wanted.transformer.model_dump(), 168_000_000
    rate = 1e14 / (6 * parameters)  # tokens/s at 100 TFLOP/s

    def phase(share: float) -> Raw:
        seconds = [[wanted.tokens_per_gpu / near(chance, rate * share) for _ in range(wanted.steps)]
                   for _ in range(RANKS)]
        steps = range(wanted.warmups + wanted.steps)
        return {"warmup_seconds": [[1.0] * wanted.warmups for _ in range(RANKS)], "seconds": seconds,
                "forward_seconds": [[each / 3 for each in mine] for mine in seconds],
                "loss": [[near(chance, 4 * 0.9 ** step, 0.002) for step in steps] for _ in range(RANKS)],
                "tokens_per_s": [wanted.tokens_per_gpu * len(mine) / sum(mine) for mine in seconds]}

    alone, together = phase(1), phase(0.92)
    arguments = {**size, "steps": wanted.steps, "warmups": wanted.warmups, "bucket_mb": 25, "seed": 1,
                 "precision": wanted.precision, "gradients": "bf16", "learning_rate": wanted.learning_rate,
                 "share": 0.375, "tflops": None, "busbw": None, "tokens": wanted.tokens_per_gpu}
    digest = hashlib.sha256(b"parameters").hexdigest()
    results = {"model": {"parameters": parameters, **size}, "gradient_bytes": 2, "factor": 2 * (RANKS - 1) / RANKS,
               "exact_tokens": None, "tokens": wanted.tokens_per_gpu, "expected_share": None, "alone": alone,
               "together": together, "efficiency": sum(together["tokens_per_s"]) / sum(alone["tokens_per_s"]),
               "replicas": {"algorithm": "sha256", "start": [digest[::-1]] * RANKS, "end": [digest] * RANKS}}
    return frame("ddp", arguments, results, "nccl")


def burnin(site: Site = SMALL) -> Raw:
    """Three minutes of load that change nothing."""
    work, chance = site.contract.performance, random.Random(5)
    seconds, size, count = round(work.burn_in.hours * 3600, 3), work.gemm.size, 40
    each, steps = 2 * size ** 3 / 1e12, int(seconds / work.burn_in.sample_seconds)
    iterations, samples = [], []
    for _ in range(RANKS):
        times = [seconds / count] * count
        products = [round(near(chance, 195 * times[0] / each)) for _ in range(count)]
        iterations.append({"at_s": [number * times[0] for number in range(count)], "seconds": times,
                           "worked_seconds": list(times), "multiplications": products, "wrong": [0] * count,
                           "tflops": [each * n / time for n, time in zip(products, times, strict=True)]})
        samples.append({"at_s": [number * work.burn_in.sample_seconds for number in range(steps)],
                        "sm_clock_mhz": [1350 + number % 3 for number in range(steps)],
                        "memory_clock_mhz": [1215] * steps, "temperature_c": [68] * steps, "power_w": [247.5] * steps,
                        "throttle_reasons": [4] * steps})
    counters = {f"{kind}_{life}": 0 for kind in ("corrected", "uncorrected") for life in ("volatile", "aggregate")}
    arguments = {"hours": None, "seconds": seconds, "dtype": work.burn_in.dtype, "size": size, "multiplications": 10,
                 "iteration_seconds": 10.0, "sample_seconds": work.burn_in.sample_seconds, "grace_seconds": 15.0}
    return frame("burnin", arguments, {
        "dtype": work.burn_in.dtype, "size": size, "asked_seconds": seconds, "cut_short": None,
        "reference": [{"checked": 16 * size, "wrong": 0}] * RANKS, "iterations": iterations, "samples": samples,
        "ecc_before": [counters] * RANKS, "ecc_after": [counters] * RANKS,
        "telemetry": [{"reason": None, "errors": {}}] * RANKS}, None)


MADE: dict[str, Callable[..., Raw]] = {"gemm": gemm, "memcpy": memcpy, "allreduce": allreduce, "ddp": ddp,
                                       "burnin": burnin}
_KEPT: dict[str, Raw] = {}


def healthy(workload: str) -> Raw:
    """A healthy document of the small site, to be broken."""
    if workload not in _KEPT:
        _KEPT[workload] = MADE[workload]()
    return copy.deepcopy(_KEPT[workload])


def printed(*documents: Raw, before: str = "") -> str:
    """As a pod prints them."""
    lines = ["torchrun begins", "[default0]:warm"]
    for one in documents:
        text = json.dumps(one, separators=(",", ":"))
        chunks = [f"|{text[at:at + 3000]}" for at in range(0, len(text), 3000)]
        digest = hashlib.sha256(text.encode()).hexdigest()
        lines += [f"{before}ACCEPTANCE-DOCUMENT {line}" for line in (f"begin {len(text)} {digest}", *chunks, "end")]
    return "\n".join(lines) + "\n"
