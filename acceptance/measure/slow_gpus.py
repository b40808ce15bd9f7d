"""A slow GPU is told from a slow node: figures of every GPU (matrix products, copies, lateness) against all others.

A node is to blame when all of its GPUs are off the same way: they share power, cooling, processors, memory and BIOS.
Up to half of them may lie within the limit by noise, if they are off by half of it, and half as much as the others.
Otherwise the GPUs that are off are named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

from acceptance.measure.peers import Peer, Peers, compare, compare_percent

Figures = Mapping[str, Mapping[int, float]]
"""By node, and the GPU's index in it."""


@dataclass(frozen=True)
class SlowPart:
    """A node or a GPU that is off its peers; `deviation_percent` is signed, of the median."""

    kind: Literal["node", "GPU"]
    subject: str
    value: float
    deviation: float
    deviation_percent: float
    gpus: int

    def sentence(self, quantity: str, unit: str, middle: float) -> str:
        """What is off, and by how much; `middle` is the median of all."""
        more = "more" if self.deviation > 0 else "less"
        who = f"all {self.gpus} GPUs of the node" if self.kind == "node" else "this GPU, not the whole node"
        share = f" ({abs(self.deviation_percent):.0f} %)" if math.isfinite(self.deviation_percent) else ""
        return (f"{quantity} of {who}: {self.value:.4g} {unit}, {abs(self.deviation):.3g} {unit}{share} {more} than "
                f"the median {middle:.4g}")


@dataclass(frozen=True)
class SlowGpus:
    """All GPUs compared: `parts` are off, `peers` has the median, the limit, and who is missing."""

    peers: Peers
    parts: tuple[SlowPart, ...]

    @property
    def good(self) -> bool:
        """Whether every GPU was there and like the others."""
        return self.peers.good


def gpu_subject(node: str, gpu: int) -> str:
    """How findings call a GPU: "gpu-node-05/gpu2"."""
    return f"{node}/gpu{gpu}"


def judge_gpus(figures: Figures, *, tolerance_percent: float, nodes: Mapping[str, int]) -> SlowGpus:
    """Figures of which each must be near the median. `nodes` are all contracted nodes and how many GPUs each has.

    Raises Unmeasured for fewer than three GPUs, or a value that is none.
    """
    values, expected = _flat(figures), [gpu_subject(node, gpu) for node, count in nodes.items() for gpu in range(count)]
    return _named(compare_percent(values, tolerance_percent, expected), figures, nodes)


def judge_lateness(arrivals_us: Figures, *, floor_us: float, nodes: Mapping[str, int]) -> SlowGpus:
    """When each GPU's rank came to a collective, on one clock or after a barrier: who comes later than the others.

    The floor is a time, because lateness has no meaningful zero. Ranks that come early are none the worse.
    """
    values = _flat(arrivals_us)
    found = compare(values, floor=floor_us,
                    expected=[gpu_subject(node, gpu) for node, count in nodes.items() for gpu in range(count)])
    late = Peers(found.median, found.spread, found.limit, found.members,
                 tuple(peer for peer in found.off if peer.deviation > 0), found.missing, found.scattered)
    return _named(late, arrivals_us, nodes)


def _flat(figures: Figures) -> dict[str, float]:
    return {gpu_subject(node, gpu): value for node, gpus in figures.items() for gpu, value in gpus.items()}


def _named(peers: Peers, figures: Figures, nodes: Mapping[str, int]) -> SlowGpus:
    off = {peer.name: peer for peer in peers.off}
    parts: list[SlowPart] = []
    for node, gpus in figures.items():
        mine = [off[name] for gpu in gpus if (name := gpu_subject(node, gpu)) in off]
        for sign in (-1, 1):
            same = [peer for peer in mine if peer.deviation * sign > 0]
            if _whole_node(same, list(gpus.values()), nodes.get(node, 0), peers, sign):
                value = median(gpus.values())
                parts.append(SlowPart("node", node, value, value - peers.median, _percent(value, peers), len(gpus)))
            else:
                parts += [SlowPart("GPU", peer.name, peer.value, peer.deviation, peer.deviation_percent, 1)
                          for peer in same]
    return SlowGpus(peers, tuple(sorted(parts, key=lambda part: -abs(part.deviation))))


def _percent(value: float, peers: Peers) -> float:
    return 100 * (value - peers.median) / peers.median if peers.median else math.inf


def _whole_node(off: list[Peer], values: list[float], count: int, peers: Peers, sign: int) -> bool:
    """Whether all of a node's GPUs are off one way. A node with a single GPU cannot be told from it: it is the GPU."""
    if count < 2 or len(values) != count or 2 * len(off) < count:
        return False
    least = max(peers.limit, median(abs(peer.deviation) for peer in off)) / 2
    return all((value - peers.median) * sign > least for value in values)
