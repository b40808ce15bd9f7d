"""The cluster's API in a run: opened where a check asks it, with this run's turn at trying things there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from acceptance.checks import COLLECTORS
from acceptance.collectors.kubernetes.objects import labels
from acceptance.errors import ApiFailed, Busy, WrongUse
from acceptance.run import PlannedItem
from acceptance.site.load import Site
from acceptance.transport.kube_live import LiveKube, check_kubeconfig
from acceptance.transport.kube_turn import Turn

FIRST_S = 1.0  # for having the turn before anything is told on the terminal; collectors go on trying


@dataclass(frozen=True)
class Api:
    """`absent` says why there is none, where one is asked for; `turn` is there where something is to be tried."""

    kube: LiveKube | None = None
    turn: Turn | None = None
    absent: str = ""

    def give_back(self) -> None:
        """Let other runs have their turn."""
        if self.turn is not None:
            self.turn.end()


def open_api(site: Site, items: Sequence[PlannedItem], run_id: str, note: Callable[[str], None],
             opened: contextlib.ExitStack) -> Api:
    """The API, if what will be judged asks it; closed with `opened`, the turn given back before.

    Without a kubeconfig a run that also judges phases before the cluster's goes on. Raises WrongUse: no kubeconfig
    that can be used, or another run is trying things on the cluster.
    """
    asking = [item for item in items if _collectors(item, intrusive=False)]
    if not asking:
        return Api()
    path = kubeconfig_of(site)
    before = min(item.check.phase for item in asking)
    if not path.exists() and any(item.check.phase < before for item in items):
        absent = f"kubernetes.kubeconfig: {path}: there is no such file, so the cluster is not asked"
        note(f"{absent}; what asks it will be BLOCKED")
        return Api(absent=absent)
    check_kubeconfig(path)
    kube = opened.enter_context(contextlib.closing(LiveKube(path, site.contract.ssh.deadline_factor)))
    if not any(_collectors(item, intrusive=True) for item in asking):
        return Api(kube)
    turn = Turn(kube, site.contract.kubernetes.probes.namespace, run_id, labels(run_id, "turn"), note)
    opened.callback(turn.end)
    try:
        turn.take(FIRST_S)
    except Busy as problem:
        raise WrongUse(str(problem)) from None
    except ApiFailed:  # the collectors that need it try again, and record why it cannot be had
        pass
    return Api(kube, turn)


def _collectors(item: PlannedItem, *, intrusive: bool) -> bool:
    """Whether an item needs collectors that ask the API; or such that also make something there."""
    found = [COLLECTORS[need] for need in item.check.needs if need in COLLECTORS]
    return any(one.kube and (one.intrusive or not intrusive) for one in found)


def kubeconfig_of(site: Site) -> Path:
    """The kubeconfig that the contract names; relative to the contract's own folder."""
    path = Path(os.path.expanduser(site.contract.kubernetes.kubeconfig))
    return path if path.is_absolute() else site.path.parent / path
