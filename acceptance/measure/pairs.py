"""Which nodes are measured together: rounds of disjoint pairs, so that no port carries two measurements at once."""

from __future__ import annotations

from collections.abc import Sequence

ARROW = "→"


def rounds_of_pairs(names: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Every pair once, in as few rounds as possible, each node at most once in a round.

    The circle method: one name stays, the others turn by one place a round; n names take n − 1 rounds of n / 2 pairs,
    with an odd n one name rests in each of n rounds. Every name comes first in about
    half of its pairs, so that the work of being the client is spread. Raises ValueError when a name is given twice.
    """
    if len(set(names)) != len(names):
        raise ValueError(f"a name is given twice: {', '.join(names)}")
    circle: list[str | None] = [*names, *([None] if len(names) % 2 else [])]
    place, half = {name: number for number, name in enumerate(names)}, len(circle) // 2
    rounds = []
    for _ in range(len(circle) - 1):
        pairs = []
        for first, second in zip(circle[:half], reversed(circle), strict=False):
            if first is not None and second is not None:
                odd = (place[first] + place[second]) % 2 == 1
                pairs.append((first, second) if odd == (place[first] < place[second]) else (second, first))
        rounds.append(pairs)
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return [pairs for pairs in rounds if pairs]


def flow(source: str, target: str) -> str:
    """The subject of what goes from one node to another: "gpu-node-01→gpu-node-02"."""
    return f"{source}{ARROW}{target}"


def flows(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every ordered pair of different names."""
    return [(source, target) for source in names for target in names if source != target]
