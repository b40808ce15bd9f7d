"""What all documents of the workloads share: who ran where, with which versions, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
PerRank = list[list[Seconds]]


class Raw(BaseModel):
    """Base: frozen, no unknown keys, no conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Versions(Raw):
    """What a rank ran with; None is what it does not have."""

    python: Text
    torch: Text
    cuda: str | None
    nccl: str | None
    driver: str | None
    kernel: Text


class Rank(Raw):
    """Where a rank ran: `group_rank` is torchrun's number of the pod, `gpu_uuid_from` who told the UUID."""

    rank: Natural
    local_rank: Natural
    group_rank: Natural
    host: Text
    pod: str | None
    node: str | None
    device: Text
    gpu_name: str | None
    gpu_uuid: str | None
    gpu_uuid_from: Literal["torch", "nvml", "environment"] | None
    versions: Versions
    environment: dict[str, str]


class Arguments(Raw):
    """What every workload was started with."""

    device: Literal["cuda", "cpu"]
    out: str | None
    timeout_s: Count


class Document(Raw):
    """The frame of all documents. Ranks are complete and in order, each in its own place and on its own GPU."""

    schema_version: Literal[1] = Field(alias="schema")
    workload: str
    started_utc: Moment
    ended_utc: Moment
    backend: Literal["nccl", "gloo"] | None
    device: Literal["cuda", "cpu"]
    ranks: Annotated[list[Rank], Field(min_length=1)]

    @model_validator(mode="after")
    def _ranks_are_whole(self) -> Self:
        numbers = [rank.rank for rank in self.ranks]
        if numbers != list(range(len(numbers))):
            raise ValueError(f"ranks {numbers}, not each once in order")
        _each_once("place", [(rank.group_rank, rank.local_rank) for rank in self.ranks])
        _each_once("GPU", [rank.gpu_uuid for rank in self.ranks if rank.gpu_uuid])
        if self.ended_utc < self.started_utc:
            raise ValueError(f"it ended at {self.ended_utc}, before it began")
        return self


class LeftOut(Raw):
    """What was not run, and why."""

    reason: Text


def _each_once(what: str, values: Sequence[object]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{values.count(value)} ranks say that they have {what} {value}")


def lengths(where: str, found: Sequence[Any], ranks: int, each: int | None = None) -> None:
    """One entry for each rank, and in each so many values. Raises ValueError."""
    if len(found) != ranks:
        raise ValueError(f"{where}: {len(found)} ranks of {ranks}")
    for rank, values in enumerate(found) if each is not None else ():
        if len(values) != each:
            raise ValueError(f"{where}: rank {rank} has {len(values)} values of {each}")


def follows(where: str, found: Sequence[float], derived: Iterable[float]) -> None:
    """What is derived is what its raw values give. Raises ValueError."""
    wanted = list(derived)
    if len(found) != len(wanted) or not all(
            math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12) for one, other in zip(found, wanted, strict=True)):
        raise ValueError(f"{where} is not what the raw times give")
