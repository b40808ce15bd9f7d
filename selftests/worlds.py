"""Worlds of nodes with ports and links of random speed, in which pairs can be measured."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from acceptance.measure.diagnose import Flow, Pair, next_round

TOLERANCE = 10.0  # percent


@dataclass
class World:
    """Factors on what a port sends and receives, and what a link carries one way; everything else is at full speed."""

    names: list[str]
    seed: int
    noise: float = 0.025
    reach: float = 96.0
    sending: dict[str, float] = field(default_factory=dict)
    receiving: dict[str, float] = field(default_factory=dict)
    links: dict[Flow, float] = field(default_factory=dict)
    dead: set[Flow] = field(default_factory=set)
    measured: dict[Flow, list[float | None]] = field(default_factory=dict)
    rounds: list[list[Pair]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def flow(self, source: str, target: str) -> float | None:
        """One measurement."""
        if (source, target) in self.dead:
            return None
        slowest = min(self.sending.get(source, 1.0), self.receiving.get(target, 1.0),
                      self.links.get((source, target), 1.0))
        return self.reach * slowest * self.chance.gauss(1, self.noise)

    def explore(self, *, rounds: int | None = None, floor: float = 0.0) -> None:
        """Measure what the planner asks for, until it asks no more."""
        for _ in range(200):
            pairs = next_round(self.names, self.measured, TOLERANCE, floor=floor, rounds=rounds)
            if not pairs:
                return
            busy = [name for pair in pairs for name in pair]
            assert len(busy) == len(set(busy)), "a node is measured with two others at once"
            self.rounds.append(pairs)
            for one, other in pairs:
                for source, target in ((one, other), (other, one)):
                    self.measured.setdefault((source, target), []).append(self.flow(source, target))
        raise AssertionError("the planner does not come to an end")

    def slow_node(self, name: str, factor: float) -> None:
        """Slow both ways."""
        self.sending[name] = self.receiving[name] = factor


def nodes(count: int) -> list[str]:
    """Names of so many nodes."""
    return [f"gpu-node-{number:02}" for number in range(1, count + 1)]
