"""Why a run of workloads gave no result: by the pods and ranks that its collector recorded, with node and reason."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from acceptance.errors import Unmeasured
from acceptance.measure.flaws import Flaw
from acceptance.parse.torchrun import RankEnd, causes

POD, RUN = "pod of the run", "run"
NOT_THE_PROGRAM = ("OOMKilled", "Evicted", "ContainerStatusUnknown", "Preempted", "NodeLost", "StartError",
                   "ContainerCannotRun")


class _Raw(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RankRecord(_Raw):
    """See `RankEnd`."""

    rank: int
    local_rank: int | None
    exit_code: int | None
    said: str


class PodRecord(_Raw):
    """A pod as last seen. `gone`: it was deleted by others; `lost`: why its node cannot be asked; `tail` of its log."""

    name: str
    node: str
    phase: str
    gone: bool
    lost: str
    why: str
    exit_code: int | None
    reason: str
    ranks: list[RankRecord]
    tail: list[str]


class RunRecord(_Raw):
    """How a run went. `away` are nodes that were not Ready before it, `others` pods of others that hold GPUs."""

    name: str
    workloads: list[str]
    ended: Literal["complete", "failed", "not started", "not ended"]
    expected: int
    allowed_s: dict[str, float]
    seconds: dict[str, float]
    pods: list[PodRecord]
    events: list[str]
    nodes: list[str]
    away: dict[str, str]
    others: list[str]


def run_record(document: Any) -> RunRecord:
    """The record as its collector writes it. Raises Unmeasured."""
    try:
        return RunRecord.model_validate_json(json.dumps(document))
    except (ValidationError, ValueError, TypeError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        where = ".".join(str(part) for part in first["loc"]) if first else str(error)
        raise Unmeasured(f"the record of the run is not what its collector writes: {where}") from None


def run_flaws(run: RunRecord) -> list[Flaw]:
    """What went wrong, most telling first; nothing of a run that was complete. What never started is unjudged."""
    if run.ended == "complete":
        return []
    flaws = [Flaw(POD, f"none was started: {reason}", node, unjudged=True) for node, reason in run.away.items()]
    flaws += _lost_pods(run) + _lost_ranks(run) + _not_started(run) + _still_running(run)
    if not flaws:
        shown = f": {run.events[-1]}" if run.events else ""
        flaws.append(Flaw(RUN, f"it {run.ended}, and nothing says why{shown}", unjudged=True))
    return flaws


def _lost_pods(run: RunRecord) -> list[Flaw]:
    flaws = [Flaw(POD, f"{pod.name} was lost: {pod.lost}", pod.node) for pod in run.pods if pod.lost and pod.node]
    flaws += [Flaw(POD, f"{pod.name} was deleted while it ran", pod.node) for pod in run.pods
              if pod.gone and pod.phase == "Running" and not pod.lost]
    return flaws + [Flaw(POD, f"{pod.name} was ended: {pod.reason}", pod.node, pod.exit_code) for pod in run.pods
                    if pod.phase == "Failed" and pod.reason in NOT_THE_PROGRAM]


def _lost_ranks(run: RunRecord) -> list[Flaw]:
    """Ranks that ended by themselves, and not because others were gone; else pods that failed without a word."""
    told = {each.rank: (RankEnd(each.rank, each.local_rank, each.exit_code, each.said), pod)
            for pod in run.pods for each in pod.ranks}
    found = causes(end for end, _ in told.values())
    flaws = [Flaw("rank lost", f"{end.sentence()}, in {told[end.rank][1].name}", told[end.rank][1].node, end.exit_code)
             for end in found]
    if flaws or _lost_pods(run):
        return flaws
    return [Flaw(POD, f"{pod.name} failed{_reason(pod)}", pod.node, pod.exit_code, 0)
            for pod in run.pods if pod.phase == "Failed"]


def _reason(pod: PodRecord) -> str:
    last = pod.tail[-1] if pod.tail else "it printed nothing"
    return f" ({pod.reason}): {last}" if pod.reason else f": {last}"


def _not_started(run: RunRecord) -> list[Flaw]:
    if run.away or run.ended == "not ended":
        return []
    waiting = [pod for pod in run.pods if pod.phase == "Pending"]
    flaws = [Flaw(POD, f"{pod.name} did not start: {pod.why}", pod.node, unjudged=True) for pod in waiting if pod.node]
    empty = [node for node in run.nodes if node not in {pod.node for pod in run.pods}]
    if not empty:
        return flaws
    why = next((pod.why for pod in waiting if not pod.node), run.events[-1] if run.events else "no pod was made for it")
    others = f"; others hold or want GPUs: {', '.join(run.others[:5])}" if run.others else ""
    return flaws + [Flaw(POD, f"no pod was placed here: {why}{others}", node, unjudged=True) for node in empty]


def _still_running(run: RunRecord) -> list[Flaw]:
    if run.ended != "not ended":
        return []
    allowed, took = run.allowed_s.get("run"), run.seconds.get("all")
    running = [pod for pod in run.pods if pod.phase == "Running" and not pod.gone and not pod.lost]
    what = ", ".join(run.workloads)
    if len(running) == len(run.pods):
        return [Flaw(RUN, f"{what} did not end in time", "", took, allowed, "s")]
    return [Flaw(POD, f"{pod.name} still ran when the others had ended", pod.node, took, allowed, "s")
            for pod in running]

