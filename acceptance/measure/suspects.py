"""Which part explains bad flows between nodes: a node's port, one link between two nodes, or what all share.

Every node's port takes part in n − 1 flows each way, a link in one each way. A bad port therefore shows as a node most
of whose flows are bad while the others' flows among themselves are good; a bad link as a single pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["node", "sending", "receiving", "link", "only link", "fabric"]
Flow = tuple[str, str]


@dataclass(frozen=True)
class Suspect:
    """What is probably to blame. `subject` is a node, "a→b" for a link one way, "a↔b" both ways, or "fabric"."""

    kind: Kind
    subject: str
    bad: int
    measured: int

    def sentence(self) -> str:
        """What to look at, in words."""
        share = f"{self.bad} of {self.measured} flows are bad"
        return {
            "node": f"the port of {self.subject}: {share}, both ways",
            "sending": f"the port of {self.subject} when sending: {share}",
            "receiving": f"the port of {self.subject} when receiving: {share}",
            "link": f"the link {self.subject}, while both nodes do well with others",
            "only link": f"{self.subject}: either node or what is between them, since no other flow was measured",
            "fabric": f"something that all share: all {self.measured} flows are bad",
        }[self.kind]

    def explains(self, source: str, target: str) -> bool:
        """Whether it would slow down the flow from `source` to `target`."""
        ends = {"node": (source, target), "sending": (source,), "receiving": (target,), "fabric": (self.subject,)}
        links = (f"{source}→{target}", f"{source}↔{target}", f"{target}↔{source}")
        return self.subject in ends.get(self.kind, links)


def suspects(good: Mapping[Flow, bool]) -> list[Suspect]:
    """The smallest set of causes, most telling first, for flows given as (source, target) → good or not.

    A port is named when more than half of its not yet explained flows, and two at least, are bad; the port with the
    largest share goes first, and the flows that it explains count no more. What is left are links.
    """
    bad = {pair for pair, fine in good.items() if not fine}
    if not bad:
        return []
    if len(bad) == len(good) and len({name for pair in good for name in pair}) > 2:
        return [Suspect("fabric", "fabric", len(bad), len(good))]
    ports, explained = _ports(good, bad)
    return _merge_ports(ports) + _links(bad - explained, good)


def _ports(good: Mapping[Flow, bool], bad: set[Flow]) -> tuple[list[Suspect], set[Flow]]:
    found: list[Suspect] = []
    explained: set[Flow] = set()
    while True:
        best: tuple[float, int, Suspect, set[Flow]] | None = None
        for name in sorted({name for pair in bad - explained for name in pair}):
            for place, kind in ((0, "sending"), (1, "receiving")):
                mine = {pair for pair in good if pair[place] == name and pair not in explained}
                hit = mine & bad
                if len(hit) < 2 or 2 * len(hit) <= len(mine):
                    continue
                rank = (len(hit) / len(mine), len(hit))
                if best is None or rank > best[:2]:
                    best = (*rank, Suspect(kind, name, len(hit), len(mine)), hit)  # type: ignore[arg-type]
        if best is None:
            return found, explained
        found.append(best[2])
        explained |= best[3]


def _merge_ports(ports: list[Suspect]) -> list[Suspect]:
    merged: dict[str, Suspect] = {}
    for port in ports:
        other = merged.get(port.subject)
        merged[port.subject] = port if other is None else Suspect(
            "node", port.subject, other.bad + port.bad, other.measured + port.measured
        )
    return list(merged.values())


def _links(left: set[Flow], good: Mapping[Flow, bool]) -> list[Suspect]:
    found = []
    kind: Kind = "link" if len({name for pair in good for name in pair}) > 2 else "only link"
    for source, target in sorted(left):
        both = (target, source) in left
        if both and source > target:
            continue
        name = f"{source}↔{target}" if both else f"{source}→{target}"
        measured = sum(1 for pair in ((source, target), (target, source)) if pair in good)
        found.append(Suspect(kind, name, 2 if both else 1, measured))
    return found
