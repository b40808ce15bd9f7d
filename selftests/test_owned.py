"""What the suite makes in a cluster it removes, whatever happens; what is not its own it never touches."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acceptance.checks import COLLECTORS
from acceptance.collect import Session, run_collectors
from acceptance.collectors import register
from acceptance.collectors.in_pod import gpu_command, probe_command, result
from acceptance.collectors.kubernetes import gpu_pods, nodes
from acceptance.collectors.kubernetes.objects import OWNER, RUN, labels, pod
from acceptance.errors import ParseError
from acceptance.evidence import Evidence, Record, Recorder
from acceptance.findings import Verdict
from acceptance.judge import judge
from acceptance.selection import load_catalogue
from acceptance.transport.kube import Answer, Attempt
from acceptance.transport.kube_turn import Turn
from acceptance.transport.local import LocalShell
from selftests.fake_cluster import FakeCluster
from selftests.synthetic import ROOT, SITE, judge_check, reds, subjects
from selftests.synthetic_kubernetes import FACTS, K8S, state

register()

COLLECT = {"kube-probes": ("pod-network", "storage", "dns"), "kube-flows": ("network-policy",),
           "kube-gpu-pods": ("gpu-scheduling", "gpu-isolation")}
RUN_ID = "20260101T000000Z-site-abc123"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler of a cluster in memory has decided as soon as it is asked."""
    monkeypatch.setattr(gpu_pods, "PATIENCE_POLLS", 2)


def collect(name: str, cluster: Any, tmp_path: Path, turn: Turn | None = None) -> Evidence:
    recorder = Recorder(tmp_path / "evidence.jsonl")
    for subject, document in state().items():
        recorder.record("kube-state", subject, document=document)
    turn = turn or Turn(cluster, K8S.probes.namespace, RUN_ID)
    run_collectors({name: ()}, SITE, LocalShell(), LocalShell(), recorder, lambda *_: None, cluster, RUN_ID, turn)
    turn.end()
    recorder.close()
    return recorder.evidence()


def left(cluster: FakeCluster) -> list[str]:
    return ["/".join(key) for key in cluster.objects if key[1] != "leases"]


@pytest.mark.parametrize("name", sorted(COLLECT))
def test_a_healthy_cluster_is_green_and_left_as_it_was(name: str, tmp_path: Path) -> None:
    cluster = FakeCluster()
    evidence = collect(name, cluster, tmp_path)
    for check in COLLECT[name]:
        findings = judge_check(check, FACTS, "gpu-node-03", evidence)
        assert findings.verdict() is Verdict.PASS, (check, [f.sentence() for f in reds(findings)][:9])
    assert left(cluster) == []
    assert cluster.number > 10


def test_flows_that_should_not_work_are_named(tmp_path: Path) -> None:
    evidence = collect("kube-flows", FakeCluster(allowed=lambda s, d: s == d or (s, d) == ("nlp-team", "cv-team")),
                       tmp_path)
    found = subjects(reds(judge_check("network-policy", FACTS, "gpu-node-03", evidence)))
    assert found == {f"nlp-team→cv-team:{port} on {host.name}" for port in (8080, 9090)
                     for host in SITE.group("gpu_nodes")}


def foreign(cluster: FakeCluster, name: str, marks: dict[str, str]) -> None:
    body = pod(name, marks, "image", ["true"])
    body["metadata"] |= {"uid": f"uid-{name}", "namespace": K8S.probes.namespace}
    body["status"] = {"phase": "Running"}
    cluster.objects[K8S.probes.namespace, "pods", name] = body


def test_what_an_older_run_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    cluster = FakeCluster()
    foreign(cluster, "acceptance-server-old", labels("20250101T000000Z-site-000000", "server", "gpu-node-01"))
    foreign(cluster, "somebody-elses", {"app.kubernetes.io/managed-by": "Helm", RUN: "20250101"})
    foreign(cluster, "acceptance-look-alike", {"app": OWNER})
    evidence = collect("kube-flows", cluster, tmp_path)
    assert evidence.one("kube-flows", "swept").document == {"objects": ["acceptance/pods/acceptance-server-old"]}
    assert left(cluster) == ["acceptance/pods/somebody-elses", "acceptance/pods/acceptance-look-alike"]


@pytest.mark.parametrize("name", sorted(COLLECT))
def test_every_collector_sweeps_what_any_other_left(name: str, tmp_path: Path) -> None:
    cluster = FakeCluster()
    for space, kind in (("cv-team", "pods"), (K8S.probes.namespace, "services")):
        body: dict[str, Any] = {"metadata": {"name": "old", "uid": "u", "labels": labels("an-older-run", "server")},
                                "status": {"phase": "Running"}, "spec": {"containers": []}}
        cluster.objects[space, kind, "old"] = body
    collect(name, cluster, tmp_path)
    assert left(cluster) == []


@pytest.mark.parametrize("name", sorted(COLLECT))
@pytest.mark.parametrize("after", [1, 3, 9, 20, 30])
def test_nothing_is_left_when_the_api_fails_on_the_way(name: str, after: int, tmp_path: Path) -> None:
    cluster = FakeCluster()

    def fail(method: str, path: str) -> Answer | None:
        if method == "POST" and cluster.number >= after:
            return Answer("POST", path, 500, "", {"message": "boom"}, (Attempt(500, "boom", 0.0),))
        return None

    cluster.before = fail
    evidence = collect(name, cluster, tmp_path)
    assert left(cluster) == []
    assert "boom" in evidence.one(name, "cluster").document["error"]
    for id in COLLECT[name]:
        check = load_catalogue(ROOT)[id]
        function = getattr(sys.modules[check.module], check.function)
        assert judge(check, function, id, None, SITE, evidence, FACTS).verdict is not Verdict.PASS


@pytest.mark.parametrize("name", sorted(COLLECT))
@pytest.mark.parametrize("after", [2, 7, 15, 29])
def test_nothing_is_left_when_the_time_is_over_or_the_run_interrupted(name: str, after: int, tmp_path: Path) -> None:
    cluster, stop = FakeCluster(), threading.Event()

    def interrupt(method: str, path: str) -> Answer | None:
        del method, path
        if cluster.number >= after:
            stop.set()
        return None

    cluster.before = interrupt
    recorder = Recorder(tmp_path / "evidence.jsonl")
    turn = Turn(cluster, K8S.probes.namespace, RUN_ID)
    session = Session(SITE, LocalShell(), LocalShell(), recorder, name, lambda *_: None, stop, cluster, RUN_ID, turn)
    with pytest.raises(Exception, match="stopped before its end"):
        COLLECTORS[name].collect(session)
    turn.end()
    recorder.close()
    assert left(cluster) == []


def test_ctrl_c_waits_until_what_was_made_is_removed(tmp_path: Path) -> None:
    program = f"""
import _thread, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may have been told to ignore it
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from selftests.test_owned import FakeCluster, collect, left
import threading
cluster = FakeCluster()
def interrupt(method, path):
    if cluster.number == 12 and not done:
        done.append(1)
        _thread.interrupt_main()
    if method == "DELETE":
        time.sleep(0.02)  # a real cluster takes its time too
done = []
cluster.before = interrupt
try:
    collect("kube-flows", cluster, Path({str(tmp_path)!r}))
except KeyboardInterrupt:
    print("interrupted, left", left(cluster))
"""
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, timeout=300, check=False)
    assert done.stdout == "interrupted, left []\n", done.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def run_probe(what: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, *probe_command()[1:]]
    return subprocess.Popen(command, env={"PROBE": json.dumps(what), "PATH": "/usr/bin:/bin"}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_probe_program_serves_and_tries() -> None:
    tcp, udp, closed = free_port(), free_port(), free_port()
    server = run_probe({"serve": {"name": "gpu-node-01", "tcp": [tcp], "udp": udp}})
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "serving\n"
        client = run_probe({"try": {
            "tcp": {"open": ["127.0.0.1", tcp], "closed": ["127.0.0.1", closed]}, "timeout_s": 2,
            "udp": {"small": ["127.0.0.1", udp, 1400], "too long": ["127.0.0.1", udp, 65507 + 100]},
            "dns": {"short": "localhost"}}})
        found = result(client.communicate(timeout=60)[0])
    finally:
        server.kill()
        server.communicate()
    assert found["tcp"] == {"open": {"end": "connected", "name": "gpu-node-01"}, "closed": {"end": "refused"}}
    assert found["udp"] == {"small": {"end": "echoed"}, "too long": {"end": "Message too long"}}
    assert found["dns"]["short"] == {"code": 0, "addresses": ["127.0.0.1"]}


def test_dns_answers_are_read() -> None:
    space: dict[str, Any] = {"__name__": "probe"}
    exec(compile(probe_command()[-1], "probe", "exec"), space)
    read: Callable[[bytes], dict[str, Any]] = space["addresses"]
    head = bytes.fromhex("1234 8180 0001 0002 0000 0000".replace(" ", ""))
    question = b"\x01a\x02bc\x00\x00\x01\x00\x01"
    alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02\xc0\x0c"
    address = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x07"
    assert read(head + question + alias + address) == {"code": 0, "addresses": ["10.0.0.7"]}
    assert read(bytes.fromhex("123481830001000000000000") + question) == {"code": 3, "addresses": []}
    with pytest.raises((IndexError, Exception)):
        read(head + question + alias[:5])


@pytest.mark.parametrize("log", ["", "ACCEPTANCE ", "ACCEPTANCE {\"tcp\": {", "ACCEPTANCE []", "Traceback"])
def test_a_log_without_a_whole_result_is_none(log: str) -> None:
    with pytest.raises(ParseError):
        result(log)


def test_the_gpu_program_tells_that_there_is_no_nvidia_smi(tmp_path: Path) -> None:
    from tests_gpu.test_gpu_pods import uuids

    done = subprocess.run(gpu_command(), env={"PATH": str(tmp_path), "HOLD_S": "0"}, text=True, capture_output=True,
                          check=False, executable="/bin/sh")
    assert uuids(done.stdout) == []
    assert "exit 127" in done.stdout


def test_a_gpu_that_nobody_gets_is_found_and_the_pod_without_one_named(tmp_path: Path) -> None:
    cluster = FakeCluster(lost=("GPU-gpu-node-03-2",))
    evidence = collect("kube-gpu-pods", cluster, tmp_path)
    findings = judge_check("gpu-scheduling", FACTS, "gpu-node-03", evidence)
    assert findings.verdict() is Verdict.FAIL
    assert subjects(reds(findings)) == {"acceptance-one-032", "cluster", "one pod more"}
    assert any("missing: GPU-gpu-node-03-2" in one.sentence() for one in reds(findings))
    assert left(cluster) == []


BY_NODE = {"pod-network": "kube-probes", "dns": "kube-probes", "network-policy": "kube-flows",
           "gpu-isolation": "kube-gpu-pods"}
AWAY = "gpu-node-05"


MANY_LOOKS = 60  # a wait for a pod that does not come looks more often


def looks(asked: list[str]) -> int:
    """How often some namespace's pods were looked at."""
    return max(Counter(path for path in asked if path.endswith("/pods")).values())


def note(asked: list[str], method: str, path: str) -> None:
    if method == "GET":
        asked.append(path)


def everything(cluster: FakeCluster, tmp_path: Path) -> Evidence:
    """What all collectors find that make pods, without having waited for a pod in vain."""
    found: list[Record] = []
    for name in COLLECT:
        asked: list[str] = []
        cluster.before = partial(note, asked)
        (tmp_path / name).mkdir()
        found += collect(name, cluster, tmp_path / name).all
        assert looks(asked) < MANY_LOOKS, name
    return Evidence(tuple(found))


@pytest.mark.parametrize(("away", "reason"), [
    ("down", f"node {AWAY} is not Ready: NodeStatusUnknown: Kubelet stopped posting status."),
    ("absent", f"the cluster has no node {AWAY}")])
def test_nobody_waits_for_pods_of_a_node_that_is_not_there(away: str, reason: str, tmp_path: Path) -> None:
    cluster = FakeCluster(**{away: (AWAY,)})  # type: ignore[arg-type]
    evidence = everything(cluster, tmp_path)
    assert left(cluster) == []
    for check, collector in BY_NODE.items():
        named = [one for one in reds(judge_check(check, FACTS, AWAY, evidence)) if reason in one.reason]
        assert {one.verdict for one in named} == {Verdict.BLOCKED}, check
        assert all(AWAY in one.subject for one in named), check
        assert not [one for one in evidence.records(collector) if one.subject == "cluster"]
    for check in ("pod-network", "dns", "gpu-isolation", "storage"):
        assert all(AWAY in one.subject for one in reds(judge_check(check, FACTS, AWAY, evidence))), check
    assert judge_check("storage", FACTS, AWAY, evidence).verdict() is Verdict.PASS
    scheduling = subjects(reds(judge_check("gpu-scheduling", FACTS, AWAY, evidence)))
    assert scheduling == {*(f"acceptance-one-0{number}" for number in range(29, 33)), "cluster", "one pod more"}


def test_the_first_node_being_away_costs_the_names_of_no_other(tmp_path: Path) -> None:
    first = SITE.hosts[0].name
    evidence = collect("kube-probes", FakeCluster(down=(first,)), tmp_path)
    assert subjects(reds(judge_check("dns", FACTS, first, evidence))) == {first}


@pytest.mark.parametrize("name", sorted(COLLECT))
def test_a_node_that_goes_away_meanwhile_is_waited_for_no_longer(
        name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "AGAIN_S", 0.0)
    cluster, asked = FakeCluster(), list[str]()

    def goes_away(method: str, path: str) -> Answer | None:
        if method == "POST" and "/pods" in path and not cluster.stuck:
            cluster.stuck = (AWAY,)  # its kubelet starts nothing any more; the cluster notices a little later
            asked.clear()
        elif method == "GET":
            asked.append(path)
            cluster.down = (AWAY,) if cluster.stuck and looks([*asked, "/pods"]) > 3 else ()
        return None

    cluster.before = goes_away
    evidence = collect(name, cluster, tmp_path)
    assert looks(asked) < MANY_LOOKS
    assert left(cluster) == []
    text = json.dumps([one.document for one in evidence.records(name)])
    assert f"node {AWAY} is not Ready" in text
