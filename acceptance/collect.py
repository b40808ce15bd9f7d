"""Collecting: run each needed collector once, under its deadline, and record what comes; never judge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from acceptance.checks import COLLECTORS, Collector
from acceptance.errors import ApiFailed, Unmeasured
from acceptance.evidence import Recorder
from acceptance.site.contract import Contract
from acceptance.site.inventory import Host
from acceptance.site.load import Site
from acceptance.transport.kube import Answer, Kube, Method, Query
from acceptance.transport.kube_turn import Turn
from acceptance.transport.shell import Outcome, Shell

MAX_THREADS = 64
TIDY_S = 70.0  # for removing what was made, after a deadline or Ctrl-C
Say = Callable[[str, int, int, str], None]  # collector, done, total, text


@dataclass(frozen=True)
class Session:
    """What a collector may use. Everything it records bears its id. `checks` are those that ask for it, by id."""

    site: Site
    shell: Shell
    local: Shell
    recorder: Recorder
    collector: str
    say: Say
    expired: threading.Event
    api: Kube | None = None
    run_id: str = ""
    held: Turn | None = None
    checks: frozenset[str] = frozenset()

    @property
    def kube(self) -> Kube:
        """The cluster's API. Raises ApiFailed in a session without one."""
        if self.api is None:
            raise ApiFailed("the Kubernetes API is not open in this session")
        return self.api

    @property
    def turn(self) -> Turn:
        """This run's turn at trying things on the cluster. Raises ApiFailed in a session without one."""
        if self.held is None:
            raise ApiFailed("nothing keeps other runs off the cluster in this session")
        return self.held

    @property
    def contract(self) -> Contract:
        """The contract."""
        return self.site.contract

    def patient(self, seconds: float) -> float:
        """A deadline of programs that run on a host, stretched where the contract says that hosts are slow."""
        return seconds * self.contract.ssh.deadline_factor

    def hosts(self, group: str) -> tuple[Host, ...]:
        """Hosts of an inventory group, or all."""
        return self.site.group(group)

    def record(self, subject: str, *, command: Sequence[str] | None = None, outcome: Outcome | None = None,
               document: Any = None) -> None:
        """Record evidence about a subject; what comes after the collector's deadline is not evidence any more."""
        if not self.expired.is_set():
            self.recorder.record(self.collector, subject, command=command, outcome=outcome, document=document)

    def progress(self, done: int, total: int, text: str) -> None:
        """Tell the terminal how far this collector is."""
        if not self.expired.is_set():
            self.say(self.collector, done, total, text)

    def each(self, hosts: Iterable[Host], function: Callable[[Host], None]) -> None:
        """Call the function for all hosts at once. One host's error is recorded for that host and stops no other."""
        chosen = list(hosts)
        if not chosen:
            return

        def guarded(host: Host) -> None:
            try:
                function(host)
            except Exception as error:
                self.record(host.name, document={"error": f"collector failed: {type(error).__name__}: {error}"})

        with ThreadPoolExecutor(min(len(chosen), MAX_THREADS)) as pool:
            list(pool.map(guarded, chosen))


@dataclass
class Noting:
    """Asks the API as `kube` does, and notes every request that took more than one attempt."""

    kube: Kube
    noted: list[dict[str, Any]] = field(default_factory=list)

    def request(self, method: Method, path: str, *, deadline_s: float, query: Query = (), body: Any = None,
                headers: Mapping[str, str] | None = None, server: str | None = None, json: bool = True,
                retries: int | None = None) -> Answer:
        """See `Kube.request`."""
        answer = self.kube.request(method, path, deadline_s=deadline_s, query=query, body=body, headers=headers,
                                   server=server, json=json, retries=retries)
        if len(answer.attempts) > 1:
            self.noted.append(answer.evidence())
        return answer


def run_collectors(ids: Mapping[str, Collection[str]], site: Site, shell: Shell, local: Shell, recorder: Recorder,
                   say: Say, kube: Kube | None = None, run_id: str = "", turn: Turn | None = None,
                   absent: str = "") -> None:
    """Run collectors, one after the other, each for the checks that ask for it.

    One that fails or outlasts its deadline leaves a record that says so. `absent` says why there is no `kube`: it
    stands in the record of each collector that would have asked it. Requests to the API that had to be tried again are
    in the record "tried again" of the collector.
    """
    for id, checks in ids.items():
        one = COLLECTORS[id]
        say(id, 0, 0, one.purpose)
        started = time.monotonic()
        error: dict[str, Any] | None = {"error": absent}
        noting = None if kube is None else Noting(kube)
        if not (one.kube and kube is None and absent):
            error = _run(one, Session(site, shell, local, recorder, id, say, threading.Event(), noting, run_id, turn,
                                      frozenset(checks)))
        if noting and noting.noted:
            recorder.record(id, "tried again", document={"requests": noting.noted})
        if error:
            recorder.record(id, "cluster", document=error)
        say(id, 1, 1, error["error"] if error else f"done in {time.monotonic() - started:.1f} s")


def _run(one: Collector, session: Session) -> dict[str, Any] | None:
    """Run one collector; why it failed, if it did. What it made on the cluster it removes before this returns."""
    failure: list[dict[str, Any]] = []
    ended = threading.Event()  # an interrupted Thread.join takes the thread for ended, in Python 3.11

    def work() -> None:
        try:
            one.collect(session)
        except ApiFailed as error:
            failure.append({"error": str(error), **error.evidence})
        except Unmeasured as error:
            failure.append({"error": str(error)})
        except Exception as error:
            failure.append({"error": f"collector {one.id} failed: {type(error).__name__}: {error}"})
        finally:
            ended.set()

    threading.Thread(target=work, name=f"collect-{one.id}", daemon=True).start()
    deadline_s, tidy_s = session.patient(one.bound_s(session.contract)), session.patient(TIDY_S if one.intrusive else 0)
    try:
        in_time = ended.wait(deadline_s)
    except KeyboardInterrupt:
        session.expired.set()
        session.say(one.id, 0, 1, "interrupted: removing what was made")
        ended.wait(tidy_s)
        raise
    if not in_time:
        session.expired.set()
        ended.wait(tidy_s)
        return {"error": f"collector {one.id} did not end within its {deadline_s:g} s"}
    return failure[0] if failure else None
