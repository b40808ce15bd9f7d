"""The `@check` decorator and the catalogue of checks and collectors.

A *collector* touches the cluster and records evidence; a *check* is a pytest test that judges one criterion from
what collectors recorded. A check names the collectors it needs; each runs once per run, before any check is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from acceptance.errors import WrongUse

if TYPE_CHECKING:
    from acceptance.collect import Session
    from acceptance.site.contract import Contract

LAYERS = ("prerequisites", "networking", "security", "compute", "monitoring", "kubernetes", "mlops", "acceptance")
AREAS = ("infra", "gpu", "k8s", "security", "mlops", "site")

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Check:
    """One check: what it promises in the client's words, where it belongs, and what to do when it is red.

    `hosts` is an inventory group ("gpu_nodes", "k8s_control", "all") when the check judges each host alone, or
    None when it judges the cluster as a whole. `level` is "must" or "target". `performance` ones judge workloads that
    load all GPUs for long.
    """

    id: str
    phase: int
    layer: str
    area: str
    clause: str
    criterion: str
    remedy: str
    hosts: str | None
    needs: tuple[str, ...]
    level: str
    daily: bool
    intrusive: bool
    function: str
    module: str
    performance: bool = False


@dataclass(frozen=True)
class Collector:
    """One collector. `deadline_s` bounds the whole of it, or `deadline_of` where the contract says how long it takes;
    `intrusive` ones create load or objects; `kube` ones ask the Kubernetes API.

    `by_shell`: all it does goes through the session's shells, so that it can be planned without being carried out.
    """

    id: str
    intrusive: bool
    deadline_s: float
    purpose: str
    by_shell: bool
    kube: bool
    collect: Callable[[Session], None]
    deadline_of: Callable[[Contract], float] | None = None

    def bound_s(self, contract: Contract) -> float:
        """Its deadline under this contract."""
        return self.deadline_of(contract) if self.deadline_of else self.deadline_s


CHECKS: dict[str, Check] = {}
COLLECTORS: dict[str, Collector] = {}


def check(
    id: str, *, phase: int, layer: str, area: str, clause: str, criterion: str, remedy: str,
    hosts: str | None = None, needs: tuple[str, ...] = ("facts",), level: str = "must",
    daily: bool = False, intrusive: bool = False, performance: bool = False,
) -> Callable[[Function], Function]:
    """Register a pytest test as the check of one criterion; the plugin adds the markers that follow from it."""
    if layer not in LAYERS or area not in AREAS or phase not in range(1, 6) or level not in ("must", "target"):
        raise WrongUse(f"check {id}: unknown phase, layer, area or level: {phase}, {layer}, {area}, {level}")

    def register(function: Function) -> Function:
        known = CHECKS.get(id)
        if known and (known.module, known.function) != (function.__module__, function.__name__):
            raise WrongUse(f"check {id} is defined twice: in {known.module} and in {function.__module__}")
        entry = Check(id, phase, layer, area, clause, criterion, remedy, hosts, needs, level, daily, intrusive,
                      function.__name__, function.__module__, performance)
        CHECKS[id] = entry
        function.__acceptance_check__ = entry  # type: ignore[attr-defined]
        return function

    return register


def collector(id: str, *, purpose: str, intrusive: bool = False, deadline_s: float = 60.0,
              by_shell: bool = True, kube: bool = False,
              deadline_of: Callable[[Contract], float] | None = None) -> Callable[
                  [Callable[[Session], None]], Callable[[Session], None]]:
    """Register a function that records evidence; `purpose` is what the terminal says while it runs."""

    def register(function: Callable[[Session], None]) -> Callable[[Session], None]:
        COLLECTORS[id] = Collector(id, intrusive, deadline_s, purpose, by_shell and not kube, kube, function,
                                   deadline_of)
        return function

    return register
