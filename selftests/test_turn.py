"""One run at a time tries things on a cluster: a second is refused, and after a killed one the next goes on at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.errors import ApiFailed, Busy
from acceptance.evidence import read_evidence
from acceptance.transport.kube import Answer, Attempt
from acceptance.transport.kube_live import LiveKube
from acceptance.transport.kube_turn import NAME, NOTE, Owner, Turn, started
from selftests.fake_api import Asked, Reply, fake_api
from selftests.fake_cluster import FakeCluster
from selftests.synthetic import ROOT
from selftests.synthetic_kubernetes import K8S
from selftests.test_owned import collect, left
from selftests.test_wrong_use import call, one_line

SPACE = K8S.probes.namespace
AT = (SPACE, "leases", NAME)
QUICK: dict[str, Any] = {"renew_s": 0.05, "over_s": 0.3}


def lease(cluster: FakeCluster, owner: Owner | None) -> None:
    """A lease that somebody else holds."""
    notes = {} if owner is None else {NOTE: json.dumps(asdict(owner))}
    cluster.objects[AT] = {"metadata": {"name": NAME, "annotations": notes, "uid": "u", "resourceVersion": "7"},
                           "spec": {"holderIdentity": "somebody"}, "status": {"phase": ""}}


def other(**values: Any) -> Owner:
    """Another run's process, on this machine unless said otherwise."""
    return replace(Owner.here("another-run"), **values)


def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def turn(cluster: Any, **more: Any) -> Turn:
    return Turn(cluster, SPACE, "this-run", {"app": "x"}, **(QUICK | more))


def test_a_turn_is_held_by_a_lease_that_is_gone_afterwards() -> None:
    cluster = FakeCluster()
    mine = turn(cluster)
    mine.take()
    mine.take()
    held = cluster.objects[AT]
    assert (held["spec"]["holderIdentity"], held["metadata"]["labels"]) == ("this-run", {"app": "x"})
    assert Owner.of(held) == Owner.here("this-run")
    mine.end()
    mine.end()
    assert cluster.objects == {}


def test_it_is_renewed_while_it_is_held() -> None:
    cluster, renewed = FakeCluster(), threading.Event()
    cluster.before = lambda method, path: renewed.set() if method == "PUT" else None
    mine = turn(cluster)
    mine.take()
    assert renewed.wait(20)
    assert not mine.lost
    mine.end()
    assert cluster.objects == {}


def test_a_second_run_is_refused_at_once_and_the_first_named() -> None:
    cluster, said = FakeCluster(), list[str]()
    lease(cluster, other(host="op1", started=started(os.getpid())))
    with pytest.raises(Busy, match=rf"another-run \(process {os.getpid()} on op1\).*--read-only") as caught:
        turn(cluster, say=said.append).take()
    assert "\n" not in str(caught.value)
    assert said == []
    assert cluster.objects[AT]["metadata"]["resourceVersion"] == "7"


@pytest.mark.parametrize("values", [{"pid": 1 << 30}, {"started": "1"}])
def test_after_a_run_that_was_killed_here_the_next_goes_on_at_once(values: dict[str, Any]) -> None:
    """No such process, or another one under its number."""
    cluster, said = FakeCluster(), list[str]()
    lease(cluster, other(**values))
    mine = turn(cluster, over_s=600, say=said.append)
    mine.take()
    assert mine.after.startswith("another-run (process ")
    assert said == []
    mine.end()
    assert cluster.objects == {}


ELSEWHERE = {"another machine": other(boot="b"), "another numbering": other(pids="pid:[1]", pid=1)}


@pytest.mark.parametrize("owner", [*ELSEWHERE.values(), None], ids=[*ELSEWHERE, "says nothing"])
def test_a_run_of_another_machine_is_over_when_nobody_renews_its_lease(owner: Owner | None) -> None:
    cluster, said = FakeCluster(), list[str]()
    lease(cluster, owner)
    mine = turn(cluster, say=said.append)
    mine.take()
    assert [text.startswith("waiting at most 0.3 s to see whether") for text in said] == [True]
    assert mine.after
    mine.end()


@pytest.mark.parametrize("owner", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_run_of_another_machine_that_lives_is_left_alone(owner: Owner) -> None:
    cluster, asked = FakeCluster(), list[str]()

    def renews(method: str, path: str) -> Answer | None:
        del path
        asked.append(method)
        if len(asked) == 3:
            cluster.objects[AT]["metadata"]["resourceVersion"] = "8"
        return None

    lease(cluster, owner)
    cluster.before = renews
    with pytest.raises(Busy, match="another-run"):
        turn(cluster, over_s=600).take()
    assert asked == ["GET"] * 3


def test_of_two_that_begin_at_once_one_has_it() -> None:
    cluster = FakeCluster()
    turns = [Turn(cluster, SPACE, f"run-{n}", **QUICK) for n in range(8)]
    ends: list[str] = []
    gate = threading.Barrier(len(turns))

    def begin(one: Turn) -> None:
        gate.wait()
        try:
            one.take()
            ends.append("has it")
        except Busy:
            ends.append("busy")

    threads = [threading.Thread(target=begin, args=(one,)) for one in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["busy"] * 7 + ["has it"]
    for one in turns:
        one.end()
    assert cluster.objects == {}


@pytest.mark.parametrize("taken", [True, False])
def test_who_lost_its_turn_knows_and_leaves_the_others_lease(taken: bool) -> None:
    cluster = FakeCluster()
    mine = turn(cluster)
    mine.take()
    with cluster.lock:
        del cluster.objects[AT]
        if taken:
            lease(cluster, other(run="the-other"))
    assert mine._keeper is not None
    mine._keeper.join(20)
    assert ("the-other" in mine.lost) is taken
    assert "taken over" in mine.lost
    with pytest.raises(Busy):
        mine.take()
    mine.end()
    assert (AT in cluster.objects) is taken


def away(method: str, path: str) -> Answer:
    return Answer(method, path, None, "", None, (Attempt(None, "connection refused", 0.0),))


def test_an_api_that_is_away_is_no_turn_and_costs_none() -> None:
    cluster = FakeCluster(before=away)
    mine = turn(cluster)
    with pytest.raises(ApiFailed, match="connection refused"):
        mine.take()
    cluster.before = lambda method, path: None
    mine.take()
    cluster.before = away
    threading.Event().wait(0.3)  # several renewals that fail
    cluster.before = lambda method, path: None
    mine.take()
    assert not mine.lost
    mine.end()
    assert cluster.objects == {}


def test_no_namespace_is_said() -> None:
    missing = Attempt(404, f'namespaces "{SPACE}" not found', 0.0)
    cluster = FakeCluster(before=lambda method, path: Answer(
        method, path, 404, "", {"message": missing.error}, (missing,)))
    with pytest.raises(ApiFailed, match=f'namespaces "{SPACE}" not found'):
        turn(cluster).take()


def test_a_process_that_has_ended_has_no_start() -> None:
    assert started(os.getpid())
    assert started(ended()) == ""
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert started(zombie.pid) == ""
    zombie.wait()


@pytest.mark.parametrize("name", ["kube-flows", "kube-probes", "kube-gpu-pods"])
def test_a_collector_without_a_turn_makes_and_sweeps_nothing(name: str, tmp_path: Path) -> None:
    cluster = FakeCluster()
    lease(cluster, other())
    evidence = collect(name, cluster, tmp_path)
    assert "another run is at work" in evidence.one(name, "cluster").document["error"]
    assert (cluster.number, cluster.deleted) == (0, [])


def test_a_collector_stops_when_the_turn_is_lost(tmp_path: Path) -> None:
    cluster = FakeCluster()

    mine = Turn(cluster, SPACE, "20260101T000000Z-site-abc123")
    mine.take()

    def steal(method: str, path: str) -> Answer | None:
        if method == "POST" and cluster.number > 12:
            mine.lost = f"taken over: by x, before {path}"
        return None

    cluster.before = steal
    evidence = collect("kube-probes", cluster, tmp_path, mine)
    assert evidence.one("kube-probes", "cluster").document["error"].startswith("taken over: by x")
    assert left(cluster) == []


# whole runs, as processes


def bridge(cluster: FakeCluster) -> Any:
    """The cluster in memory, served over HTTP."""
    def behave(asked: Asked) -> Reply:
        answer = cluster.request(asked.method, asked.path, deadline_s=5, query=asked.query.items(),  # type: ignore[arg-type]
                                 body=asked.body, json=not asked.path.endswith("/log"))
        data = answer.data if answer.data is not None else answer.text
        return Reply(answer.status or 500, data)

    return behave


RUN = """
import sys
from pathlib import Path
from acceptance.collectors import register
from acceptance.collect import run_collectors
from acceptance.evidence import Recorder
from acceptance.transport.kube_live import LiveKube
from acceptance.transport.kube_turn import Turn
from acceptance.transport.local import LocalShell
from selftests.synthetic import SITE
register()
kube, out = LiveKube(Path(sys.argv[1])), Path(sys.argv[2])
turn = Turn(kube, SITE.contract.kubernetes.probes.namespace, out.name)
turn.take()
run_collectors({"kube-flows": ()}, SITE, LocalShell(), LocalShell(), Recorder(out), lambda *_: None, kube, out.name,
               turn)
"""


@pytest.mark.parametrize("after", [1, 9, 25])
def test_what_a_run_left_that_was_killed_is_removed_by_the_next(after: int, tmp_path: Path) -> None:
    cluster, killed = FakeCluster(), threading.Event()
    process: subprocess.Popen[bytes] | None = None

    def kill(method: str, path: str) -> Answer | None:
        if method == "POST" and cluster.number > after and process is not None and not killed.is_set():
            process.send_signal(signal.SIGKILL)
            killed.set()
        return away(method, path) if killed.is_set() and process is not None and process.poll() is None else None

    cluster.before = kill
    with fake_api(tmp_path, bridge(cluster)) as api:
        process = subprocess.Popen([sys.executable, "-c", RUN, str(api.kubeconfig), str(tmp_path / "killed")], cwd=ROOT)
        assert process.wait(60) == -signal.SIGKILL
        cluster.before = lambda method, path: None
        before = [one for one in left(cluster) if "/pods/" in one]
        assert before
        evidence = collect("kube-probes", LiveKube(api.kubeconfig), tmp_path)
    swept = evidence.one("kube-probes", "swept").document
    assert swept["objects"] == sorted(before)
    assert swept["left by"].startswith("killed (process ")
    assert cluster.objects == {}
    assert read_evidence(tmp_path / "killed").all is not None


def test_a_run_beside_another_is_refused_in_one_line_and_a_read_only_one_is_not(tmp_path: Path) -> None:
    cluster = FakeCluster()
    with fake_api(tmp_path, bridge(cluster)) as api:
        (tmp_path / "key").touch(mode=0o600)
        (tmp_path / "site.yaml").write_text(yaml.safe_dump({
            "extends": str(ROOT / "site.yaml"), "inventory": str(ROOT / "inventory/hosts.yml"),
            "ssh": {"private_key": str(tmp_path / "key")}, "kubernetes": {"kubeconfig": str(api.kubeconfig)}}))
        words = ("pytest", "-k", "network_policy", "--site", str(tmp_path / "site.yaml"),
                 f"--report-dir={tmp_path / 'reports'}")
        first = Turn(LiveKube(api.kubeconfig), SPACE, "the-first-run")
        first.take()
        one_line(call(ROOT, *words), "ERROR: another run is at work on this cluster: the-first-run (process ")
        assert not (tmp_path / "reports").exists()
        assert call(ROOT, *words, "--read-only").returncode == 5
        first.end()
        done = call(ROOT, *words)
        assert done.returncode == 0, done.stdout[-3000:]
    assert cluster.objects == {}
