"""What `workloads/gemm.py`, `workloads/memcpy.py` and `workloads/burnin.py` write."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from acceptance.measure.documents.frame import (
    Arguments,
    Count,
    Document,
    LeftOut,
    Natural,
    PerRank,
    Raw,
    Seconds,
    Text,
    follows,
    lengths,
)

Dtype = Literal["bf16", "fp16", "tf32", "fp32", "fp64"]
Kind = Literal["host-device", "device-host", "device-device", "peer", "host-host"]
NotNegative = Annotated[float, Field(ge=0)]


class GemmArguments(Arguments):
    """`size` is rows and columns of each matrix; a repeat is so many `multiplications`."""

    dtypes: Annotated[list[Dtype], Field(min_length=1)]
    size: Count
    multiplications: Count
    repeats: Count
    warmup_seconds: NotNegative
    seed: int


class GemmRow(Raw):
    """One dtype on all ranks. `wrong` of `checked` elements, `wrong_rows` of `checked_rows`, `differing` elements."""

    dtype: Dtype
    size: Count
    multiplications: Count
    warmup_seconds: PerRank
    seconds: PerRank
    tflops: PerRank
    differing: list[Natural]
    checked: list[Count]
    wrong: list[Natural]
    checked_rows: list[Count]
    wrong_rows: list[Natural]
    max_error: list[NotNegative | None]

    def check(self, arguments: GemmArguments, ranks: int) -> None:
        """That the row is whole. Raises ValueError."""
        if (self.size, self.multiplications) != (arguments.size, arguments.multiplications):
            raise ValueError(f"{self.dtype}: {self.multiplications} multiplications of size {self.size}")
        for name in ("differing", "checked", "wrong", "checked_rows", "wrong_rows", "max_error", "warmup_seconds"):
            lengths(f"{self.dtype}: {name}", getattr(self, name), ranks)
        for name in ("seconds", "tflops"):
            lengths(f"{self.dtype}: {name}", getattr(self, name), ranks, arguments.repeats)
        if set(self.checked_rows) != {self.size} or min(map(len, self.warmup_seconds)) < 1:
            raise ValueError(f"{self.dtype}: rows not checked, or no warm-up")
        operations = 2 * self.size ** 3 * self.multiplications
        for rank, (seconds, tflops) in enumerate(zip(self.seconds, self.tflops, strict=True)):
            follows(f"{self.dtype}: tflops of rank {rank}", tflops, (operations / each / 1e12 for each in seconds))


class LeftOutDtype(LeftOut):
    """A dtype that was not run."""

    dtype: Dtype


class GemmResults(Raw):
    """One row for each dtype that ran."""

    rows: list[GemmRow]
    left_out: list[LeftOutDtype]


class GemmDocument(Document):
    """Every dtype of its arguments has its row, or a reason why not."""

    workload: Literal["gemm"]
    arguments: GemmArguments
    results: GemmResults

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for row in self.results.rows:
            row.check(self.arguments, len(self.ranks))
        told = [row.dtype for row in self.results.rows] + [each.dtype for each in self.results.left_out]
        if sorted(told) != sorted(set(self.arguments.dtypes)) or self.backend or self.arguments.device != self.device:
            raise ValueError(f"asked for {self.arguments.dtypes}, told of {told}")
        return self


class MemcpyArguments(Arguments):
    """A repeat is so many `copies` of `bytes`."""

    bytes: Count
    copies: Count
    warmups: Natural
    repeats: Count
    at_once: bool


class CopyRow(Raw):
    """One kind of copy on all ranks; of `peer`, with the GPU so many further. `wrong` counts bytes."""

    kind: Kind
    peer_offset: Count | None
    bytes: Count
    counted_bytes: Count
    copies: Count
    source: list[Text]
    target: list[Text]
    direct_access: list[bool | None]
    warmup_seconds: PerRank
    seconds: PerRank
    gbyte_s: PerRank
    wrong: list[Natural]

    def check(self, arguments: MemcpyArguments, ranks: int) -> None:
        """That the row is whole. Raises ValueError."""
        counted = arguments.bytes * (2 if self.kind in ("device-device", "host-host") else 1)
        if (self.bytes, self.copies, self.counted_bytes) != (arguments.bytes, arguments.copies, counted):
            raise ValueError(f"{self.kind}: {self.copies} copies of {self.bytes} B, {self.counted_bytes} counted")
        for name in ("source", "target", "direct_access", "wrong"):
            lengths(f"{self.kind}: {name}", getattr(self, name), ranks)
        lengths(f"{self.kind}: warmup_seconds", self.warmup_seconds, ranks, arguments.warmups)
        for name in ("seconds", "gbyte_s"):
            lengths(f"{self.kind}: {name}", getattr(self, name), ranks, arguments.repeats)
        moved = self.counted_bytes * self.copies
        for rank, (seconds, rates) in enumerate(zip(self.seconds, self.gbyte_s, strict=True)):
            follows(f"{self.kind}: gbyte_s of rank {rank}", rates, (moved / each / 1e9 for each in seconds))


class LeftOutCopy(LeftOut):
    """A kind of copy that was not made."""

    kind: Kind


class MemcpyResults(Raw):
    """One row for each kind of copy, and for `peer` one for each offset."""

    rows: list[CopyRow]
    left_out: list[LeftOutCopy]


class MemcpyDocument(Document):
    """Every kind of copy has its row or rows, or a reason why not."""

    workload: Literal["memcpy"]
    arguments: MemcpyArguments
    results: MemcpyResults

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for row in self.results.rows:
            row.check(self.arguments, len(self.ranks))
        out = [each.kind for each in self.results.left_out]
        on_node = max(rank.local_rank for rank in self.ranks) + 1
        wanted: list[tuple[Kind, int | None]] = [("host-host", None)] if self.device == "cpu" else []
        for kind in ("host-device", "device-host", "device-device"):
            wanted += [] if kind in out else [(kind, None)]
        wanted += [] if "peer" in out else [("peer", offset) for offset in range(1, on_node)]
        told = [(row.kind, row.peer_offset) for row in self.results.rows]
        if told != wanted or len(set(out)) < len(out) or self.backend or self.arguments.device != self.device:
            raise ValueError(f"copies {told} instead of {wanted}")
        return self


class BurninArguments(Arguments):
    """How long, what, and how often sensors were asked."""

    hours: Seconds | None
    seconds: Seconds
    dtype: Literal["bf16", "fp16", "fp32", "fp64"]
    size: Count
    multiplications: Count
    iteration_seconds: Seconds
    sample_seconds: Seconds
    grace_seconds: NotNegative


class Reference(Raw):
    """The first product, some of its rows compared with float64."""

    checked: Count
    wrong: Natural


class Iterations(Raw):
    """One entry an iteration: when it began, how long it took, and how many elements differed from the first's.

    `worked_seconds`, from which `tflops` follows, is on a CPU the processor time of the process, which ranks share.
    """

    at_s: list[NotNegative]
    seconds: list[Seconds]
    worked_seconds: list[Seconds]
    multiplications: list[Count]
    tflops: list[Seconds]
    wrong: list[Natural]


class Samples(Raw):
    """One entry a sample; None is what NVML did not tell. `throttle_reasons` are NVML's bits."""

    at_s: list[NotNegative]
    sm_clock_mhz: list[Natural | None]
    memory_clock_mhz: list[Natural | None]
    temperature_c: list[int | None]
    power_w: list[NotNegative | None]
    throttle_reasons: list[Natural | None]


class Telemetry(Raw):
    """Why there are no samples, or None; and the first error of each reading that failed."""

    reason: Text | None
    errors: dict[str, str]


class BurninResults(Raw):
    """Lists are of ranks. `ecc_before` and `ecc_after` are counters by name, empty without NVML."""

    dtype: str
    size: Count
    asked_seconds: Seconds
    cut_short: Text | None
    reference: list[Reference]
    iterations: list[Iterations]
    samples: list[Samples]
    ecc_before: list[dict[str, Natural | None]]
    ecc_after: list[dict[str, Natural | None]]
    telemetry: list[Telemetry]


ECC = {"corrected_volatile", "corrected_aggregate", "uncorrected_volatile", "uncorrected_aggregate"}


class BurninDocument(Document):
    """Every rank worked for the whole time, or `cut_short` says why not; sensors were read, or a reason is given."""

    workload: Literal["burnin"]
    arguments: BurninArguments
    results: BurninResults

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        ranks, arguments, results = len(self.ranks), self.arguments, self.results
        if (results.dtype, results.size, results.asked_seconds) != (arguments.dtype, arguments.size, arguments.seconds):
            raise ValueError(f"{results.asked_seconds:g} s of {results.dtype}, size {results.size}")
        if self.backend or arguments.device != self.device:
            raise ValueError(f"ran on {self.device}, asked for {arguments.device}")
        for name in ("reference", "iterations", "samples", "ecc_before", "ecc_after", "telemetry"):
            lengths(name, getattr(results, name), ranks)
        for rank in range(ranks):
            self._check_iterations(f"rank {rank}", results.iterations[rank])
            self._check_samples(f"rank {rank}", rank)
        return self

    def _check_iterations(self, where: str, found: Iterations) -> None:
        columns = [found.at_s, found.seconds, found.worked_seconds, found.multiplications, found.tflops, found.wrong]
        lengths(where, columns, len(columns), len(found.at_s))
        each, work = 2 * self.results.size ** 3, zip(found.multiplications, found.worked_seconds, strict=True)
        follows(f"{where}: tflops", found.tflops, (each * count / seconds / 1e12 for count, seconds in work))
        if self.device == "cuda" and found.worked_seconds != found.seconds:
            raise ValueError(f"{where}: worked_seconds are not seconds, on a GPU")
        if found.at_s != sorted(found.at_s):
            raise ValueError(f"{where}: iterations are not in order")
        if not self.results.cut_short and sum(found.seconds) < self.arguments.seconds * 0.99:
            raise ValueError(f"{where}: worked for {sum(found.seconds):g} s of {self.arguments.seconds:g}")

    def _check_samples(self, where: str, rank: int) -> None:
        found, results = self.results.samples[rank], self.results
        columns = [found.at_s, found.sm_clock_mhz, found.memory_clock_mhz, found.temperature_c, found.power_w,
                   found.throttle_reasons]
        lengths(f"{where}: samples", columns, len(columns), len(found.at_s))
        if results.telemetry[rank].reason:
            if found.at_s or results.ecc_before[rank] or results.ecc_after[rank]:
                raise ValueError(f"{where}: samples without NVML")
            return
        if set(results.ecc_before[rank]) != ECC or set(results.ecc_after[rank]) != ECC:
            raise ValueError(f"{where}: ECC counters {sorted(results.ecc_after[rank])}")
        needed = 0 if results.cut_short else self.arguments.seconds / self.arguments.sample_seconds / 2
        if len(found.at_s) < needed or found.at_s != sorted(found.at_s):
            raise ValueError(f"{where}: {len(found.at_s)} samples, at least {needed:.0f} expected")
