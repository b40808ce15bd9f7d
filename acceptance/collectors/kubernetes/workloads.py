"""Workloads on all GPUs: submitted as Jobs, followed to their end, their documents read from the pods' logs.

They take every GPU, so nothing else of this suite runs meanwhile: collectors run one after another, and each removes
its pods before it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.kubernetes.gpu_pods import holders
from acceptance.collectors.kubernetes.owned import Owned
from acceptance.collectors.kubernetes.workload_objects import FIRST, Manifest, Run, runs_of
from acceptance.collectors.kubernetes.workload_watch import Watch
from acceptance.errors import ParseError
from acceptance.measure.documents import documents_in

if TYPE_CHECKING:
    from acceptance.collect import Session
    from acceptance.site.contract import Contract

GPU_NODES = "gpu_nodes"
TIDY_S = 120.0  # a run, for making and removing its objects and reading its logs
GONE_S = 60.0  # of these: the next run needs the GPUs that kubelets give back when pods are gone
WORKLOADS, BURN_IN = "kube-workloads", "kube-burn-in"
BURN_IN_ALONE = ("burnin",)


def bound_s(contract: Contract, workloads: Sequence[str]) -> float:
    """The longest that these workloads can take, from the first object made to the last removed."""
    return sum(contract.performance.deadlines.start_seconds + run.seconds + TIDY_S
               for run in runs_of(contract, workloads))


@collector(WORKLOADS, purpose="measuring all GPUs and the network between them", intrusive=True, kube=True,
           deadline_of=lambda contract: bound_s(contract, tuple(FIRST.values())))
def collect(session: Session) -> None:
    """Records "run/NAME" for each run, how it went, and "document/WORKLOAD", what it wrote, or why there is none.

    Only those run that the asking checks judge; all of them for a check of the site's own.
    """
    asked = session.checks if session.checks and session.checks <= set(FIRST) else set(FIRST)
    _carry_out(session, [workload for check, workload in FIRST.items() if check in asked])


@collector(BURN_IN, purpose="loading all GPUs for as long as the contract says", intrusive=True, kube=True,
           deadline_of=lambda contract: bound_s(contract, BURN_IN_ALONE))
def collect_burn_in(session: Session) -> None:
    """Records what `kube-workloads` does, of the burn-in alone."""
    _carry_out(session, BURN_IN_ALONE)


def _carry_out(session: Session, workloads: Sequence[str]) -> None:
    runs = runs_of(session.contract, workloads)
    for number, run in enumerate(runs, start=1):
        with Owned(session, GONE_S) as own:
            _run(session, own, run)
        session.progress(number, len(runs), f"{run.text}: ended")


def _run(session: Session, own: Owned, run: Run) -> None:
    """One run, from its objects to its documents."""
    nodes = tuple(host.name for host in session.hosts(GPU_NODES))
    away = own.nodes.split(list(nodes))[1]
    space = session.contract.performance.pods.namespace
    watch = Watch(session, own, space, run, len(nodes), session.contract.performance.deadlines.start_seconds)
    others = [f"{one.get('namespace')}/{one.get('name')}" for one in holders(session)]
    if away:  # a pod would wait for its place in vain, and all others for it
        watch.ended = "not started"
    else:
        for kind, body in Manifest(session.contract, run, session.run_id, nodes, session.patient(1)).objects():
            own.create(space, kind, body)
        watch.follow()
        watch.read_logs()
    session.record(f"run/{run.name}", document={**watch.as_json(), "nodes": list(nodes), "away": away,
                                                "others": others})
    for workload, document in _documents(watch).items():
        session.record(f"document/{workload}", document=document)


def _documents(watch: Watch) -> dict[str, dict[str, Any]]:
    """What each workload wrote, or why there is nothing of it; also of a run that failed after some had ended."""
    found: dict[str, str] = {}
    problem = ""
    for name, log in watch.logs.items():
        try:
            mine = documents_in(log)
        except ParseError as error:
            problem = f"{name}: {error}"
            continue
        twice = set(mine) & set(found)
        if twice:
            problem = f"{name}: a second document of {', '.join(sorted(twice))}"
        found |= mine
    run = f"run/{watch.run.name}"
    return {workload: {"text": found[workload], "run": run} if workload in found and not problem else {
        "error": problem or f"{workload} wrote no document: its run {_ended(watch)}", "run": run}
        for workload in watch.run.workloads}


def _ended(watch: Watch) -> str:
    return {"complete": "ended without one", "failed": "failed", "not started": "did not start in time",
            "not ended": "did not end in time"}.get(watch.ended, watch.ended)
