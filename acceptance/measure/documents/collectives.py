"""What `workloads/allreduce.py` writes."""

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

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall"]
Placement = Literal["in_place", "out_of_place"]
PLACEMENTS: tuple[Placement, ...] = ("in_place", "out_of_place")
NEVER: frozenset[tuple[Collective, Placement]] = frozenset({("broadcast", "out_of_place"), ("alltoall", "in_place")})
BYTES = {"float32": 4, "int32": 4, "float16": 2, "bfloat16": 2}
Case = tuple[Collective, Placement, int]


class AllreduceArguments(Arguments):
    """`sizes` are those of all_reduce, `other_sizes` of all others, in bytes as asked for."""

    collectives: Annotated[list[Collective], Field(min_length=1)]
    min_bytes: Count
    max_bytes: Count
    step_factor: Count
    sizes: Annotated[list[Count], Field(min_length=1)]
    other_sizes: Annotated[list[Count], Field(min_length=1)]
    dtype: Literal["float32", "int32", "float16", "bfloat16"]
    warmups: Natural
    repeats: Count
    operations: Count
    together_bytes: Count
    log_dir: Text

    def sizes_of(self, collective: Collective) -> list[int]:
        """What was asked of a collective."""
        return self.sizes if collective == "all_reduce" else self.other_sizes

    def elements(self, collective: Collective, asked_bytes: int, ranks: int) -> int:
        """How many whole elements so many bytes are; but for all_reduce and broadcast the same number for each rank."""
        grain = 1 if collective in ("all_reduce", "broadcast") else ranks
        return asked_bytes // BYTES[self.dtype] // grain * grain


class CollectiveRow(Raw):
    """One collective, placement and size. Lists of lists are ranks of repeats; bandwidths are of repeats.

    `seconds` is a rank's time of one operation, of `operations` that a repeat has; `arrive_seconds` that of its own
    work before. `checked` and `wrong` are elements of a rank, of all operations, those of the warm-up included.
    """

    collective: Collective
    placement: Placement
    asked_bytes: Count
    bytes: Count
    operations: Count
    factor: Annotated[float, Field(ge=0)]
    warmup_seconds: PerRank
    seconds: PerRank
    arrive_seconds: PerRank
    checked: list[Count]
    wrong: list[Natural]
    algbw_gbyte_s: list[Seconds]
    busbw_gbyte_s: list[Annotated[float, Field(ge=0)]]

    @property
    def case(self) -> Case:
        """What sets a row apart from the others."""
        return self.collective, self.placement, self.asked_bytes

    def check(self, arguments: AllreduceArguments, ranks: int) -> None:
        """That the row is whole. Raises ValueError."""
        where = f"{self.collective} {self.placement} {self.asked_bytes} B"
        elements = arguments.elements(self.collective, self.asked_bytes, ranks)
        if self.bytes != elements * BYTES[arguments.dtype]:
            raise ValueError(f"{where}: ran with {self.bytes} B")
        if self.operations != max(1, min(arguments.operations, arguments.together_bytes // self.bytes)):
            raise ValueError(f"{where}: {self.operations} operations in a repeat")
        lengths(f"{where}: warmup_seconds", self.warmup_seconds, ranks, arguments.warmups)
        for name in ("seconds", "arrive_seconds"):
            lengths(f"{where}: {name}", getattr(self, name), ranks, arguments.repeats)
        for name in ("checked", "wrong"):
            lengths(f"{where}: {name}", getattr(self, name), ranks)
        here = elements // ranks if self.collective == "reduce_scatter" else elements
        whole = here * self.operations * (arguments.warmups + arguments.repeats)
        for rank, (checked, wrong) in enumerate(zip(self.checked, self.wrong, strict=True)):
            if checked != whole or wrong > checked:
                raise ValueError(f"{where}: rank {rank} compared {checked} elements of {whole}, {wrong} of them wrong")
        follows(f"{where}: factor", [self.factor], [factor(self.collective, ranks)])
        slowest = [max(times) for times in zip(*self.seconds, strict=True)]
        follows(f"{where}: algbw_gbyte_s", self.algbw_gbyte_s, (self.bytes / each / 1e9 for each in slowest))
        follows(f"{where}: busbw_gbyte_s", self.busbw_gbyte_s, (each * self.factor for each in self.algbw_gbyte_s))


def factor(collective: Collective, ranks: int) -> float:
    """busbw / algbw by nccl-tests' doc/PERFORMANCE.md."""
    if collective == "broadcast":
        return 1.0
    return (2 if collective == "all_reduce" else 1) * (ranks - 1) / ranks


class LeftOutCollective(LeftOut):
    """A collective and placement that was not run: at one size, or at all (None)."""

    collective: Collective
    placement: Placement
    asked_bytes: Count | None


class NcclLog(Raw):
    """A rank's debug log of NCCL; `text` is its beginning where it is `truncated`."""

    path: Text
    bytes: Natural
    truncated: bool
    text: str


class AllreduceResults(Raw):
    """One row for each case that ran. `nccl_logs` has None for a rank without a log."""

    rows: list[CollectiveRow]
    left_out: list[LeftOutCollective]
    nccl_logs: list[NcclLog | None]


class AllreduceDocument(Document):
    """Every collective, placement and size that its arguments name has its row, or a reason why not."""

    workload: Literal["allreduce"]
    arguments: AllreduceArguments
    results: AllreduceResults

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        ranks, arguments = len(self.ranks), self.arguments
        if self.backend != ("nccl" if self.device == "cuda" else "gloo") or arguments.device != self.device:
            raise ValueError(f"backend {self.backend} on {self.device}, asked for {arguments.device}")
        lengths("nccl_logs", self.results.nccl_logs, ranks)
        for row in self.results.rows:
            row.check(arguments, ranks)
        wanted, found = self._cases(), [row.case for row in self.results.rows]
        for case in wanted:
            if found.count(case) != 1:
                raise ValueError(f"{case[0]} {case[1]} {case[2]} B stands in {found.count(case)} rows")
        if len(found) > len(wanted):
            raise ValueError(f"{len(found) - len(wanted)} rows that nobody asked for")
        return self

    def _cases(self) -> list[Case]:
        """What must have a row: all that was asked for, but what is left out."""
        arguments, ranks = self.arguments, len(self.ranks)
        out = [(each.collective, each.placement, each.asked_bytes) for each in self.results.left_out]
        wanted: list[Case] = []
        for collective in dict.fromkeys(arguments.collectives):
            for placement in PLACEMENTS:
                if (collective, placement, None) in out:
                    continue
                for size in dict.fromkeys(arguments.sizes_of(collective)):
                    small = arguments.elements(collective, size, ranks) == 0
                    if small != ((collective, placement, size) in out):
                        raise ValueError(f"{collective} {placement} {size} B: too small for {ranks} ranks: {small}")
                    wanted += [] if small else [(collective, placement, size)]
        return wanted

    def lacking(self) -> dict[tuple[Collective, Placement], str]:
        """Collectives that the backend does not have, and what it said; but those that nobody has."""
        return {(each.collective, each.placement): each.reason for each in self.results.left_out
                if each.asked_bytes is None and (each.collective, each.placement) not in NEVER}
