"""Which GPU of which node each rank of a workload ran on, by the UUIDs that NVML lists there; and what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from acceptance.errors import Unmeasured
from acceptance.facts import Cluster
from acceptance.measure.documents.frame import Rank
from acceptance.measure.flaws import Flaw
from acceptance.measure.slow_gpus import gpu_subject

Value = TypeVar("Value")


@dataclass(frozen=True)
class Place:
    """Where a rank ran. `gpu` is NVML's index, or torch's where nobody told (a flaw then says so)."""

    rank: int
    node: str
    gpu: int
    host: str

    @property
    def subject(self) -> str:
        """How findings call it: "gpu-node-05/gpu2"."""
        return gpu_subject(self.node, self.gpu)


@dataclass(frozen=True)
class Places:
    """Every rank's place, in the order of ranks, and what is wrong with them."""

    each: tuple[Place, ...]
    flaws: tuple[Flaw, ...]

    def by_gpu(self, values: Sequence[Value]) -> dict[str, dict[int, Value]]:
        """A list by rank as values by node and GPU."""
        found: dict[str, dict[int, Value]] = {}
        for place, value in zip(self.each, values, strict=True):
            found.setdefault(place.node, {})[place.gpu] = value
        return found

    def subject(self, rank: int) -> str:
        """How findings call the GPU of a rank, which they name too."""
        return self.each[rank].subject if rank < len(self.each) else f"rank {rank}"


def places_of(ranks: Sequence[Rank], cluster: Cluster, nodes: Iterable[str], gpus_per_node: int) -> Places:
    """The ranks' places. Raises Unmeasured where a rank does not say on which node it ran."""
    wanted, flaws, found = list(nodes), list[Flaw](), list[Place]()
    known = {name: _uuids(cluster, name) for name in wanted}
    for rank in ranks:
        if not rank.node:
            raise Unmeasured(f"rank {rank.rank} on {rank.host} does not say on which node it ran")
        place, flaw = _place(rank, known.get(rank.node))
        found.append(place)
        flaws += [flaw] if flaw else []
    flaws += _counts(found, wanted, gpus_per_node)
    flaws += [Flaw("ranks on one GPU", "each has one of its own", subject, count, 1)
              for subject, count in Counter(place.subject for place in found).items() if count > 1]
    return Places(tuple(found), tuple(flaws))


def _uuids(cluster: Cluster, node: str) -> dict[str, int] | str:
    """NVML's index by UUID, or why it is not known."""
    try:
        return {gpu.uuid: gpu.index for gpu in cluster[node].gpus if gpu.uuid}
    except Unmeasured as problem:
        return str(problem)


def _place(rank: Rank, known: Mapping[str, int] | str | None) -> tuple[Place, Flaw | None]:
    guess = Place(rank.rank, str(rank.node), rank.local_rank, rank.host)
    if known is None:
        return guess, Flaw("node of the run", f"rank {rank.rank} ran where no GPU node is contracted", guess.node)
    if isinstance(known, str):
        return guess, Flaw("GPU of each rank", f"rank {rank.rank}: NVML's list was not read: {known}", guess.node,
                           unjudged=True)
    if rank.gpu_uuid is None:
        return guess, Flaw("GPU of each rank", f"rank {rank.rank} does not know the UUID of its GPU", guess.subject,
                           unjudged=True)
    if rank.gpu_uuid not in known:
        return guess, Flaw("GPU of each rank", f"rank {rank.rank} names a GPU that NVML does not list on this node",
                           guess.node, rank.gpu_uuid)
    return Place(rank.rank, guess.node, known[rank.gpu_uuid], rank.host), None


def _counts(found: Sequence[Place], nodes: Sequence[str], gpus_per_node: int) -> list[Flaw]:
    there = Counter(place.node for place in found)
    return [Flaw("ranks on the node", "not one for each GPU", node, there[node], gpus_per_node)
            for node in nodes if there[node] != gpus_per_node]
