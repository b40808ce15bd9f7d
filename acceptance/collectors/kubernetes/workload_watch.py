"""Following the pods of a run to their end, and why they did not start or end: what each was last seen as."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from acceptance.collectors.kubernetes.objects import ROLE
from acceptance.collectors.kubernetes.owned import Owned, Raw, at_once, phase, why_not
from acceptance.collectors.kubernetes.workload_objects import Run
from acceptance.errors import ApiFailed
from acceptance.measure.documents import MARK
from acceptance.parse.torchrun import failed_ranks
from acceptance.transport.kube import list_all

if TYPE_CHECKING:
    from acceptance.collect import Session

ENDED = ("Succeeded", "Failed")
POLL_S, SLOW_POLL_S = 0.5, 5.0
AWAY_S = 60.0  # how long the API may not answer: ranks at work can starve it
GRACE_S = 30.0  # for the other pods to end, once one has failed
SAY_S = 15.0
TAIL, EVENTS = 30, 30  # lines of a log, events: the last ones
LOG_S = 60.0


@dataclass
class Watch:
    """The pods of one run, by name, as last seen; those that are gone since keep what they were.

    `ended` is how it came to its end: "complete", "failed", "not started" or "not ended"; `seconds` how long it took
    to start and to end.
    """

    session: Session
    own: Owned
    space: str
    run: Run
    count: int
    start_s: float
    pods: dict[str, Raw] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    _said: float = 0.0

    def follow(self) -> None:
        """Wait until all pods have ended, one has failed and the others had time to, or the time is over.

        Raises ApiFailed where the API stays away, Stopped.
        """
        begun, started, failed = time.monotonic(), None, None
        answered = begun
        while not self.ended:
            answered = self._look_again(answered)
            now = time.monotonic()
            states = [phase(one) for one in self.pods.values()]
            if started is None and self._all(states, "Running", *ENDED):
                started = now
                self.seconds["start"] = round(now - begun, 1)
            if failed is None and (self._broken() or "Failed" in states):
                failed = now
            self.ended = self._end(states, begun, started, failed, now)
            self._tell(states, begun, started, now)
            if not self.ended:
                slow = started is not None and self.run.seconds > 1000
                self.session.expired.wait(SLOW_POLL_S if slow else POLL_S)
                self.own.nodes.read_again()
        self.seconds["all"] = round(time.monotonic() - begun, 1)

    def _end(self, states: list[str], begun: float, started: float | None, failed: float | None, now: float) -> str:
        if self._all(states, "Succeeded"):
            return "complete"
        if failed is not None and (self._all(states, *ENDED) or now - failed > self.session.patient(GRACE_S)):
            return "failed"
        if started is None:
            return "not started" if now - begun > self.session.patient(self.start_s) else ""
        return "not ended" if now - started > self.session.patient(self.run.seconds) else ""

    def _all(self, states: list[str], *wanted: str) -> bool:
        return len(states) >= self.count and all(state in wanted for state in states)

    def _broken(self) -> bool:
        """Whether a pod that was running is gone, or its node is."""
        return any(phase(one) == "Running" and (one.get("gone") or self.own.lost(one)) for one in self.pods.values())

    def _look_again(self, answered: float) -> float:
        """When the API last answered, which was at `answered` before."""
        try:
            self._look()
        except ApiFailed:
            if time.monotonic() - answered > self.session.patient(AWAY_S):
                raise
            return answered
        return time.monotonic()

    def _look(self) -> None:
        found = {name: one for (_, name), one in self.own.pods(self.space).items()
                 if (one["metadata"].get("labels") or {}).get(ROLE) == self.run.name}
        for name in self.pods:
            if name not in found:
                self.pods[name].setdefault("gone", True)
        self.pods |= found

    def _tell(self, states: list[str], begun: float, started: float | None, now: float) -> None:
        if now - self._said < SAY_S:
            return
        self._said = now
        if started is None:
            running = sum(state in ("Running", *ENDED) for state in states)
            text = f"{running} of {self.count} pods run after {now - begun:.0f} s of at most {self.start_s:.0f}"
        else:
            text = f"{now - started:.0f} s of at most {self.run.seconds:.0f}"
        self.session.progress(0, 1, f"{self.run.text}: {text}")

    def read_logs(self) -> None:
        """The logs of all pods that have begun; of one whose log cannot be had, why."""
        def read(name: str) -> str:
            if phase(self.pods[name]) == "Pending":
                return ""
            path = f"/api/v1/namespaces/{self.space}/pods/{name}/log"
            answer = self.session.kube.request("GET", path, json=False, deadline_s=LOG_S)
            return answer.text if answer.ok else f"no log: {answer.reason()}"

        names = sorted(self.pods)
        self.logs = dict(zip(names, at_once(read, names), strict=True))

    def as_json(self) -> dict[str, Any]:
        """What the evidence says of the run: its end, its pods, how their ranks ended, and the last of their logs."""
        healthy = self.ended == "complete"
        return {"workloads": list(self.run.workloads), "name": self.run.name, "ended": self.ended,
                "expected": self.count, "allowed_s": {"start": self.start_s, "run": self.run.seconds},
                "seconds": self.seconds, "pods": [self._pod(name) for name in sorted(self.pods)],
                "events": [] if healthy else self._events()}

    def _pod(self, name: str) -> dict[str, Any]:
        one, log = self.pods[name], self.logs.get(name, "")
        state = _terminated(one)
        node = str((one.get("spec") or {}).get("nodeName") or "")
        lost = self.own.lost(one) if phase(one) not in ENDED else ""
        return {"name": name, "node": node, "phase": phase(one), "gone": bool(one.get("gone")), "lost": lost,
                "why": "" if phase(one) == "Succeeded" else why_not(one), "exit_code": state.get("exitCode"),
                "reason": str(state.get("reason") or (one.get("status") or {}).get("reason") or ""),
                "ranks": [vars(each) for each in failed_ranks(log)],
                "tail": [] if phase(one) == "Succeeded" else tail(log)}

    def _events(self) -> list[str]:
        """The last warnings about objects of this run; where they cannot be read, why."""
        try:
            listing = list_all(self.session.kube, f"/api/v1/namespaces/{self.space}/events", project=_event,
                               deadline_s=15)
        except ApiFailed as problem:
            return [str(problem)]
        mine = [text for name, text in listing.items if name.startswith(self.run.name) and text]
        return list(dict.fromkeys(mine))[-EVENTS:]


def tail(log: str) -> list[str]:
    """The last lines of a log, without those of documents."""
    return [line[:300] for line in log.splitlines() if MARK not in line][-TAIL:]


def _terminated(pod: Raw) -> Mapping[str, Any]:
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        found = (one.get("state") or {}).get("terminated")
        if found:
            return dict(found)
    return {}


def _event(item: Raw) -> tuple[str, str]:
    about = item.get("involvedObject") or {}
    name = str(about.get("name") or "")
    warning = item.get("type") == "Warning"
    text = f"{about.get('kind')} {name}: {item.get('reason')}: {str(item.get('message') or '')[:300]}"
    return name, text if warning else ""
