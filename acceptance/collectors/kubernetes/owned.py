"""Objects that a collector makes, and that are gone when it ends, however it ends.

Only what bears this suite's label is ever deleted, by name and uid: an object of the same name that somebody else made
meanwhile stays. While this run has its turn at the cluster (`transport/kube_turn.py`), what bears the label of another
run is of one that is over, because it was killed, and is swept first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from acceptance.collectors.kubernetes.nodes import Nodes
from acceptance.collectors.kubernetes.objects import MINE, NODE, OWNER, RUN, label, path_of
from acceptance.collectors.kubernetes.projections import MANAGED_BY
from acceptance.errors import ApiFailed, Unmeasured
from acceptance.transport.kube import CONFLICT, NOT_FOUND, list_all

if TYPE_CHECKING:
    from acceptance.collect import Session

DEADLINE_S = 15.0
POLL_S = 0.5
GONE_S = 25.0
FORCE_S = 2.0  # of these, at their end
SHORT_S = 0.1
AT_ONCE = 8
Raw = dict[str, Any]
Key = tuple[str, str]
Place = tuple[str, str]  # namespace, kind
In = TypeVar("In")
Out = TypeVar("Out")


class Stopped(Unmeasured):
    """The collector's time is over, or the run was interrupted: remove what was made, and end."""


def at_once(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """The function of each item, several at a time; the first error is raised once all have ended."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, items))


@dataclass
class Owned:
    """The objects of one collector, and the nodes they may be put on.

    A context manager: sweeps what older runs left, of whatever collector, and removes its own at the end.
    """

    session: Session
    gone_s: float | None = None  # how long they may take to go; GONE_S
    nodes: Nodes = field(init=False)
    _closing: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.nodes = Nodes(self.session)

    @property
    def places(self) -> Mapping[str, Sequence[str]]:
        """The kinds of objects that this suite makes, by namespace."""
        contract, workloads = self.session.contract.kubernetes, self.session.contract.performance.pods
        jobs = "pytorchjobs" if workloads.kind == "PyTorchJob" else "jobs"
        return {contract.probes.namespace: ("pods", "services", "persistentvolumeclaims"),
                workloads.namespace: (jobs, "pods", "services", "configmaps"),
                **{team: ("pods",) for team in contract.tenants.teams}}

    @property
    def run(self) -> str:
        """This run, as a label's value."""
        return label(self.session.run_id)

    def __enter__(self) -> Owned:
        turn = self.session.turn
        turn.take()
        self.nodes.read()
        swept = {"objects": self._sweep()}
        self.session.record("swept", document=swept | ({"left by": turn.after} if turn.after else {}))
        return self

    def __exit__(self, *problem: object) -> None:
        self._closing = True
        left = self._tidy()
        if left:
            self.session.record("left-behind", document={"objects": left})

    def create(self, namespace: str, kind: str, body: Raw) -> Raw:
        """The object as created. Raises ApiFailed. A retry that meets its own first attempt is no failure."""
        self._go_on()
        path = path_of(namespace, kind)
        answer = self.session.kube.request("POST", path, body=body, deadline_s=DEADLINE_S)
        if answer.status == CONFLICT and len(answer.attempts) > 1:
            there = self.session.kube.request("GET", f"{path}/{body['metadata']['name']}", deadline_s=DEADLINE_S)
            if there.ok and _run_of(there.object()) == self.run:
                return there.object()
        return answer.object()

    def create_all(self, kind: str, bodies: Iterable[tuple[str, Raw]]) -> list[Raw]:
        """Objects of one kind, each in its namespace, as created, in their order. Raises ApiFailed, Stopped."""
        return at_once(lambda one: self.create(one[0], kind, one[1]), bodies)

    def pods(self, *namespaces: str) -> dict[Key, Raw]:
        """This run's pods as they are now, by namespace and name. Raises ApiFailed, Stopped."""
        self._go_on()
        lists = at_once(lambda space: self._list((space, "pods"), f"{MINE},{RUN}={self.run}"), namespaces)
        return {(space, one["metadata"]["name"]): one
                for space, found in zip(namespaces, lists, strict=True) for one in found}

    def wait(self, done: Callable[[dict[Key, Raw]], bool], seconds: float, *namespaces: str) -> dict[Key, Raw]:
        """The pods as soon as they are as wished, or as they are when the time is over.

        The nodes are looked at meanwhile, so that `done` can tell by `lost` for which pods nobody need wait. An API
        that is away meanwhile is asked again. Raises ApiFailed when it still is at the end, Stopped.
        """
        end = time.monotonic() + self.session.patient(seconds)
        while True:
            try:
                pods = self.pods(*namespaces)
                if done(pods) or time.monotonic() >= end:
                    return pods
            except ApiFailed:
                if time.monotonic() >= end:
                    raise
            self.session.expired.wait(POLL_S)
            self.nodes.read_again()

    def lost(self, pod: Raw | None) -> str:
        """Why nothing more is to be expected of a pod; nothing where its node is well, or not yet known."""
        if pod is None:
            return ""
        node = (pod.get("spec") or {}).get("nodeName") or (pod["metadata"].get("labels") or {}).get(NODE)
        return self.nodes.problem(node) if node else ""

    def log(self, namespace: str, name: str) -> str:
        """A pod's log. Raises ApiFailed."""
        answer = self.session.kube.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log", json=False,
                                           deadline_s=DEADLINE_S)
        if not answer.ok:
            raise ApiFailed(answer.reason(), answer.evidence())
        return answer.text

    def delete(self, namespace: str, kind: str, item: Raw, *, force: bool = False) -> bool:
        """Delete one object of this suite. True when it is gone or going. Raises ApiFailed for what is not ours.

        By force where its node is not there to confirm it.
        """
        meta = item["metadata"]
        if (meta.get("labels") or {}).get(MANAGED_BY) != OWNER:
            raise ApiFailed(f"{kind}/{meta['name']} is not this suite's: it stays")
        options: Raw = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": meta["uid"]},
                        "propagationPolicy": "Background"}
        if force or (kind == "pods" and self.lost(item)):
            options["gracePeriodSeconds"] = 0
        answer = self.session.kube.request("DELETE", f"{path_of(namespace, kind)}/{meta['name']}",
                                           body=options, deadline_s=DEADLINE_S)
        return answer.ok or answer.status in (NOT_FOUND, CONFLICT)

    def _go_on(self) -> None:
        if self._closing:
            return
        if self.session.expired.is_set():
            raise Stopped("stopped before its end")
        if self.session.turn.lost:
            raise Stopped(self.session.turn.lost)

    def _list(self, place: Place, selector: str) -> list[Raw]:
        namespace, kind = place
        listing = list_all(self.session.kube, path_of(namespace, kind), project=lambda item: item,
                           query=[("labelSelector", selector)], deadline_s=DEADLINE_S)
        return listing.items

    def _everything(self, selector: str) -> list[tuple[Place, Raw]]:
        """Every object of this suite with these labels, and where it is."""
        places = [(namespace, kind) for namespace, kinds in self.places.items() for kind in kinds]
        lists = at_once(lambda place: self._list(place, selector), places)
        return [(place, item) for place, found in zip(places, lists, strict=True) for item in found]

    def _sweep(self) -> list[str]:
        """Delete every object of this suite that is of another run; what that was."""
        found = [(place, item) for place, item in self._everything(MINE) if _run_of(item) != self.run]
        at_once(lambda one: self.delete(*one[0], one[1]), found)
        return sorted(_text(place, item) for place, item in found)

    def _tidy(self) -> list[str]:
        """Delete what this run made; what is still there after some time, in spite of force at its end.

        An API that is away meanwhile is asked again. Raises ApiFailed when it stays away.
        """
        end, pause, forced = time.monotonic() + (self.gone_s or GONE_S), SHORT_S, False
        while True:
            left_s = end - time.monotonic()
            try:
                found = self._everything(f"{MINE},{RUN}={self.run}")
                if not found or (left_s < 0 and forced):
                    return [_text(place, item) for place, item in found]
                forced = left_s < FORCE_S
                at_once(partial(self._delete_once, force=forced), found)
            except ApiFailed:
                if left_s < 0:
                    raise
            time.sleep(pause)
            pause = POLL_S

    def _delete_once(self, one: tuple[Place, Raw], force: bool) -> None:
        (namespace, kind), item = one
        if force or "deletionTimestamp" not in item["metadata"]:
            self.delete(namespace, kind, item, force=force)


def _text(place: Place, item: Raw) -> str:
    return f"{place[0]}/{place[1]}/{item['metadata']['name']}"


def _run_of(item: Raw) -> str:
    return str((item["metadata"].get("labels") or {}).get(RUN, ""))


def phase(pod: Raw | None) -> str:
    """A pod's phase."""
    return str(((pod or {}).get("status") or {}).get("phase") or "absent")


def why_not(pod: Raw | None) -> str:
    """Why a pod does not run, in words."""
    if pod is None:
        return "the pod is not there"
    status = pod.get("status") or {}
    waiting = [one["state"]["waiting"] for one in status.get("containerStatuses") or []
               if (one.get("state") or {}).get("waiting")]
    if waiting:
        return f"{waiting[0].get('reason')}: {waiting[0].get('message') or 'no message'}"
    scheduled = [one for one in status.get("conditions") or [] if one["type"] == "PodScheduled"]
    if scheduled and scheduled[0]["status"] != "True":
        return f"{scheduled[0].get('reason')}: {scheduled[0].get('message') or 'no message'}"
    return f"its phase is {phase(pod)}" + (f": {status['message']}" if status.get("message") else "")
