"""Which nodes can take pods now: nobody waits for a pod on a node that is not there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from acceptance.errors import ApiFailed
from acceptance.transport.kube import list_all

if TYPE_CHECKING:
    from acceptance.collect import Session

DEADLINE_S = 15.0
PAGE = 250
AGAIN_S = 5.0


@dataclass
class Nodes:
    """Why each node of the cluster takes no pods, or nothing where it does; as last read."""

    session: Session
    _problems: dict[str, str] | None = field(default=None, init=False)
    _read_at: float = field(default=0.0, init=False)

    def read(self) -> None:
        """Read the list. Raises ApiFailed."""
        self._read_at = time.monotonic()
        listing = list_all(self.session.kube, "/api/v1/nodes", project=_problem, page=PAGE, deadline_s=DEADLINE_S)
        self._problems = dict(listing.items)

    def read_again(self) -> None:
        """Read it again, once in a while; where it cannot be read, what was known stays."""
        if time.monotonic() - self._read_at < AGAIN_S:
            return
        try:
            self.read()
        except ApiFailed:
            return

    def problem(self, name: str) -> str:
        """Why a node takes no pods: it is not Ready, or there is no such node; nothing where it does."""
        if self._problems is None:
            return ""
        return self._problems.get(name, f"the cluster has no node {name}")

    def split(self, names: list[str]) -> tuple[list[str], dict[str, str]]:
        """Those that take pods, and why the others do not."""
        problems = {name: problem for name in names if (problem := self.problem(name))}
        return [name for name in names if name not in problems], problems


def _problem(item: dict[str, Any]) -> tuple[str, str]:
    name = str(item["metadata"]["name"])
    conditions = (item.get("status") or {}).get("conditions") or []
    ready: dict[str, Any] = next((one for one in conditions if one["type"] == "Ready"), {})
    if ready.get("status") == "True":
        return name, ""
    why = ": ".join(str(ready[key]) for key in ("reason", "message") if ready.get(key)) or "it says no more"
    return name, f"node {name} is not Ready: {why}"
