"""A run's turn at trying things on a cluster: one Lease, held by one run at a time.

What two runs try at once would falsify the results of both (every GPU taken is every GPU taken), so the second has to
wait. And whoever has the turn knows that everything else that bears this suite's label is of a run that is over.

Whether the run that has it still lives is told in two ways. On the same machine by its process: number, moment of its
start, boot of the machine; so a run that was killed is over at once. Elsewhere by looking: a lease that nobody renews
for a while is of nobody. No two clocks are compared.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acceptance.errors import ApiFailed, Busy
from acceptance.transport.kube import CONFLICT, NOT_FOUND, Answer, Kube

NAME = "acceptance-run"
NOTE = "acceptance/owner"
API = "/apis/coordination.k8s.io/v1"
RENEW_S = 5.0
OVER_S = 20.0
DEADLINE_S = 5.0
TRIES = 5  # how often others may be quicker
Raw = dict[str, Any]
_PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """The process that has the turn; `boot` and `pids` say which machine, since when, and which numbering of it."""

    run: str
    host: str
    boot: str
    pids: str
    pid: int
    started: str

    @classmethod
    def here(cls, run: str) -> Owner:
        """This process."""
        return cls(run, platform.node(), _text(_PROC / "sys/kernel/random/boot_id"), _link(_PROC / "self/ns/pid"),
                   os.getpid(), started(os.getpid()))

    @classmethod
    def of(cls, lease: Raw) -> Owner | None:
        """Who has a lease; None where it does not say so in this suite's way."""
        try:
            found = cls(**json.loads(lease["metadata"]["annotations"][NOTE]))
        except (KeyError, TypeError, ValueError):
            return None
        kinds = {"run": str, "host": str, "boot": str, "pids": str, "pid": int, "started": str}
        return found if all(isinstance(getattr(found, name), kind) for name, kind in kinds.items()) else None

    def gone(self) -> bool | None:
        """Whether the process has ended; None where that cannot be told from here."""
        me = Owner.here(self.run)
        if not (me.boot and me.pids and self.started) or (self.boot, self.pids) != (me.boot, me.pids):
            return None
        return started(self.pid) != self.started

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.run} (process {self.pid} on {self.host})"


def started(pid: int) -> str:
    """When a process started, in ticks since the machine's boot; nothing where none of this number runs."""
    words = _text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return words[19] if len(words) > 19 and words[0] not in "ZX" else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


@dataclass
class Turn:
    """The turn of one run, kept by a thread until `end`. `lost` says who took it meanwhile, if somebody did.

    `after` is the run that had it before and is over, if one left it behind.
    """

    kube: Kube
    namespace: str
    run: str
    labels: dict[str, str] = field(default_factory=dict)
    say: Callable[[str], Any] = lambda text: None
    renew_s: float = RENEW_S
    over_s: float = OVER_S
    after: str = field(default="", init=False)
    lost: str = field(default="", init=False)
    _lease: Raw | None = field(default=None, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _keeper: threading.Thread | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def _path(self) -> str:
        return f"{API}/namespaces/{self.namespace}/leases"

    def take(self, deadline_s: float = DEADLINE_S) -> None:
        """Have the turn, or go on having it. Raises Busy when another run has it, ApiFailed."""
        with self._lock:
            if self.lost:
                raise Busy(self.lost)
            if self._lease is None:
                self._lease = self._taken(deadline_s)
                self._keeper = threading.Thread(target=self._keep, name="turn", daemon=True)
                self._keeper.start()

    def end(self) -> None:
        """Let others have it. Never raises: a lease that stays is one of a run that is over."""
        self._stop.set()
        if self._keeper is not None:
            self._keeper.join()
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None and not self.lost:
            meta = lease["metadata"]
            only = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            self.kube.request("DELETE", f"{self._path}/{NAME}", deadline_s=DEADLINE_S, body={
                "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": only})

    def _taken(self, deadline_s: float) -> Raw:
        for _ in range(TRIES):
            found = self.kube.request("GET", f"{self._path}/{NAME}", deadline_s=deadline_s)
            if found.status == NOT_FOUND:
                answer = self.kube.request("POST", self._path, body=self._body(), deadline_s=deadline_s)
            else:
                lease = found.object()
                if Owner.of(lease) == Owner.here(self.run):  # by an attempt whose answer was lost
                    return lease
                self.after = self._over(lease)
                answer = self._put(lease, deadline_s)
            if answer.status not in (CONFLICT, NOT_FOUND):
                return answer.object()
        raise ApiFailed(answer.reason(), answer.evidence())

    def _over(self, lease: Raw) -> str:
        """Who had it, once that run is known to be over. Raises Busy, ApiFailed."""
        owner = Owner.of(lease)
        if owner is None:
            holder = str((lease.get("spec") or {}).get("holderIdentity") or "nobody")
            text, gone = f"lease {self.namespace}/{NAME} of {holder}", None
        else:
            text, gone = owner.text, owner.gone()
        if gone is None:
            self.say(f"waiting at most {self.over_s:g} s to see whether {text} is over")
            gone = self._unchanged(lease)
        if not gone:
            raise Busy(f"another run is at work on this cluster: {text}; its pods and these would disturb each other; "
                       "wait for its end, or leave out what makes pods with --read-only")
        return text

    def _unchanged(self, lease: Raw) -> bool:
        """Whether nobody renews the lease for some time."""
        for _ in range(max(1, round(self.over_s / self.renew_s * 2))):
            self._stop.wait(self.renew_s / 2)
            now = self.kube.request("GET", f"{self._path}/{NAME}", deadline_s=DEADLINE_S)
            if now.status == NOT_FOUND:
                return True
            if now.object()["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
                return False
        return True

    def _keep(self) -> None:
        while not self._stop.wait(self.renew_s):
            with self._lock:
                if self._lease is None:
                    return
                answer = self._put(self._lease, DEADLINE_S)
                if answer.status in (CONFLICT, NOT_FOUND):
                    answer = self.kube.request("GET", f"{self._path}/{NAME}", deadline_s=DEADLINE_S)
                    owner = Owner.of(answer.data) if answer.ok else None
                    if answer.status == NOT_FOUND or (answer.ok and owner != Owner.here(self.run)):
                        by = owner.text if owner else "somebody"
                        self.lost = f"the turn at this cluster was taken over: by {by}"
                        return
                if answer.ok:  # else the API is away: what became of the turn shows when it is back
                    self._lease = answer.object()

    def _put(self, lease: Raw, deadline_s: float) -> Answer:
        version = lease["metadata"]["resourceVersion"]
        return self.kube.request("PUT", f"{self._path}/{NAME}", body=self._body(version), deadline_s=deadline_s)

    def _body(self, version: str = "") -> Raw:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        meta = {"name": NAME, "namespace": self.namespace, "labels": self.labels,
                "annotations": {NOTE: json.dumps(asdict(Owner.here(self.run)), sort_keys=True)}}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": meta | ({"resourceVersion": version} if version else {}),
                "spec": {"holderIdentity": self.run, "leaseDurationSeconds": round(self.over_s), "renewTime": now}}
