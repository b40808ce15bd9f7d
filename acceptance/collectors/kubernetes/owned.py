"""Objects that a collector makes, and that are gone when it ends, however it ends.

Only what bears this suite's label is ever deleted, by name and uid: an object of the same name that somebody else made
meanwhile stays. What an earlier run left behind, because it was killed, is swept first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from acceptance.collectors.kubernetes.objects import MINE, OWNER, RUN, label
from acceptance.collectors.kubernetes.projections import MANAGED_BY
from acceptance.errors import ApiFailed
from acceptance.transport.kube import CONFLICT, NOT_FOUND, list_all

if TYPE_CHECKING:
    from acceptance.collect import Session

DEADLINE_S = 15.0
POLL_S = 0.5
GONE_S = 25.0
Raw = dict[str, Any]
Key = tuple[str, str]


class Stopped(Exception):
    """The collector's time is over, or the run was interrupted: remove what was made, and end."""


@dataclass
class Owned:
    """The objects of one collector.

    A context manager: sweeps what older runs left, of whatever collector, and removes its own at the end.
    """

    session: Session
    _closing: bool = field(default=False, init=False)

    @property
    def places(self) -> Mapping[str, Sequence[str]]:
        """The kinds of objects that this suite makes, by namespace."""
        contract = self.session.contract.kubernetes
        return {contract.probes.namespace: ("pods", "services", "persistentvolumeclaims"),
                **{team: ("pods",) for team in contract.tenants.teams}}

    @property
    def run(self) -> str:
        """This run, as a label's value."""
        return label(self.session.run_id)

    def __enter__(self) -> Owned:
        swept = [text for text, _ in self._remove(lambda run: run != self.run)]
        self.session.record("swept", document={"objects": sorted(swept)})
        return self

    def __exit__(self, *problem: object) -> None:
        self._closing = True
        self._remove(lambda run: run == self.run)
        left = self._await_gone()
        if left:
            self.session.record("left-behind", document={"objects": left})

    def create(self, namespace: str, kind: str, body: Raw) -> Raw:
        """The object as created. Raises ApiFailed. A retry that meets its own first attempt is no failure."""
        self._go_on()
        path = f"/api/v1/namespaces/{namespace}/{kind}"
        answer = self.session.kube.request("POST", path, body=body, deadline_s=DEADLINE_S)
        if answer.status == CONFLICT and len(answer.attempts) > 1:
            there = self.session.kube.request("GET", f"{path}/{body['metadata']['name']}", deadline_s=DEADLINE_S)
            if there.ok and _run_of(there.object()) == self.run:
                return there.object()
        return answer.object()

    def pods(self, *namespaces: str) -> dict[Key, Raw]:
        """This run's pods as they are now, by namespace and name. Raises ApiFailed, Stopped."""
        self._go_on()
        found: dict[Key, Raw] = {}
        for namespace in namespaces:
            for one in self._list(namespace, "pods", f"{MINE},{RUN}={self.run}"):
                found[namespace, one["metadata"]["name"]] = one
        return found

    def wait(self, done: Callable[[dict[Key, Raw]], bool], seconds: float, *namespaces: str) -> dict[Key, Raw]:
        """The pods as soon as they are as wished, or as they are when the time is over."""
        pods: dict[Key, Raw] = {}
        for _ in range(max(1, round(self.session.patient(seconds) / POLL_S))):
            pods = self.pods(*namespaces)
            if done(pods):
                break
            self.session.expired.wait(POLL_S)
        return pods

    def log(self, namespace: str, name: str) -> str:
        """A pod's log. Raises ApiFailed."""
        answer = self.session.kube.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log", json=False,
                                           deadline_s=DEADLINE_S)
        if not answer.ok:
            raise ApiFailed(answer.reason(), answer.evidence())
        return answer.text

    def delete(self, namespace: str, kind: str, item: Raw, *, force: bool = False) -> bool:
        """Delete one object of this suite. True when it is gone or going. Raises ApiFailed for what is not ours."""
        meta = item["metadata"]
        if (meta.get("labels") or {}).get(MANAGED_BY) != OWNER:
            raise ApiFailed(f"{kind}/{meta['name']} is not this suite's: it stays")
        options: Raw = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": meta["uid"]},
                        "propagationPolicy": "Background"}
        if force:
            options["gracePeriodSeconds"] = 0
        answer = self.session.kube.request("DELETE", f"/api/v1/namespaces/{namespace}/{kind}/{meta['name']}",
                                           body=options, deadline_s=DEADLINE_S)
        return answer.ok or answer.status in (NOT_FOUND, CONFLICT)

    def _go_on(self) -> None:
        if self.session.expired.is_set() and not self._closing:
            raise Stopped("stopped before its end")

    def _list(self, namespace: str, kind: str, selector: str) -> list[Raw]:
        listing = list_all(self.session.kube, f"/api/v1/namespaces/{namespace}/{kind}", project=lambda item: item,
                           query=[("labelSelector", selector)], deadline_s=DEADLINE_S)
        return listing.items

    def _remove(self, chosen: Callable[[str], bool], *, force: bool = False) -> list[tuple[str, bool]]:
        """Delete every object of this suite whose run is chosen: what and whether it went."""
        found = []
        for namespace, kinds in self.places.items():
            for kind in kinds:
                for item in self._list(namespace, kind, MINE):
                    if chosen(_run_of(item)):
                        text = f"{namespace}/{kind}/{item['metadata']['name']}"
                        found.append((text, self.delete(namespace, kind, item, force=force)))
        return found

    def _await_gone(self) -> list[str]:
        """What of this run is still there after some time; pods of a node that is down are then let go by force."""
        left: list[str] = []
        for attempt in range(round(GONE_S / POLL_S)):
            left = [f"{namespace}/{kind}/{item['metadata']['name']}" for namespace, kinds in self.places.items()
                    for kind in kinds for item in self._list(namespace, kind, f"{MINE},{RUN}={self.run}")]
            if not left:
                return []
            if attempt == round(GONE_S / POLL_S) - 4:
                self._remove(lambda run: run == self.run, force=True)
            _pause()
        return left


def _pause() -> None:
    import time

    time.sleep(POLL_S)


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
