"""Whole collectors through a proxy that misbehaves: retries are bounded and shown, no pass comes of nothing."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from acceptance.collect import run_collectors
from acceptance.collectors import register
from acceptance.collectors.kubernetes import owned
from acceptance.collectors.kubernetes.state import KINDS
from acceptance.evidence import Evidence, Recorder
from acceptance.facts.kubernetes import KubeFacts
from acceptance.findings import Verdict
from acceptance.transport.kube_live import LiveKube
from acceptance.transport.local import LocalShell
from selftests.api_proxy import Handler, Proxy, Rule, main, proxy
from selftests.fake_api import fake_api, write_kubeconfig
from selftests.fake_cluster import FakeCluster
from selftests.synthetic import SITE, judge_check, reds
from selftests.synthetic_kubernetes import FACTS
from selftests.test_collectors_kubernetes import answers
from selftests.test_owned import collect, left
from selftests.test_turn import bridge

register()

Start = Callable[..., tuple[Proxy, LiveKube]]
# Python's ssl leaves a socket to the garbage collector that is reset between connecting and the handshake
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
PASSING = ["429", "500", "503", "cut", "close", "restart"]


@pytest.fixture
def through(tmp_path: Path) -> Iterator[Start]:
    """Starts a proxy in front of an API server on the loopback, and who asks it, until the test's end.

    Before it tries again it waits until the proxy listens, if it is away, and else not at all.
    """
    with ExitStack() as stack:
        def start(behave: Any, *rules: Rule) -> tuple[Proxy, LiveKube]:
            api = stack.enter_context(fake_api(tmp_path, behave))
            found = stack.enter_context(proxy(tmp_path / "proxy", api.kubeconfig, rules))
            kube = LiveKube(found.kubeconfig, wait=lambda _: found.up.wait(60))
            return found, stack.enter_context(closing(kube))

        yield start


def state(kube: LiveKube, tmp_path: Path) -> Evidence:
    """What kube-state records."""
    recorder = Recorder(tmp_path / "evidence.jsonl")
    run_collectors({"kube-state": ()}, SITE, LocalShell(), LocalShell(), recorder, lambda *_: None, kube, "run")
    recorder.close()
    return recorder.evidence()


def tried_again(evidence: Evidence, collector: str) -> dict[str, list[dict[str, Any]]]:
    """Attempts by request, of the requests that took more than one."""
    document = evidence.one(collector, "tried again").document
    return {one["request"]: one["attempts"] for one in document["requests"]}


@pytest.mark.parametrize("do", PASSING)
def test_trouble_that_passes_costs_attempts_and_no_fact(do: str, tmp_path: Path, through: Start) -> None:
    rule = Rule(do, "/api/v1/nodes", away_s=0.3)
    evidence = state(through(answers, rule)[1], tmp_path)
    assert rule.met == 1
    facts = KubeFacts(evidence)
    assert set(facts.nodes) == {"gpu-node-01"}
    assert {record.subject for record in evidence.all} == {"version", "tried again", *KINDS}
    attempts = evidence.one("kube-state", "nodes").document["attempts"]
    assert [bool(one["error"]) for one in attempts] == [True] * (len(attempts) - 1) + [False]
    assert 2 <= len(attempts) <= 5
    assert tried_again(evidence, "kube-state")["GET /api/v1/nodes"] == attempts


@pytest.mark.parametrize("do", ["429", "500", "503", "cut", "close"])
def test_trouble_that_lasts_blocks_what_needs_it_and_nothing_else(do: str, tmp_path: Path, through: Start) -> None:
    rule = Rule(do, "/api/v1/nodes", times=99)
    evidence = state(through(answers, rule)[1], tmp_path)
    assert rule.met == len(evidence.one("kube-state", "nodes").document["attempts"]) == 5
    for check in ("nodes", "versions", "gpu-allocatable"):
        assert judge_check(check, FACTS, "gpu-node-03", evidence).verdict() is Verdict.BLOCKED, check
    assert KubeFacts(evidence).pods


def test_a_server_that_does_not_come_back_passes_nothing(tmp_path: Path, through: Start) -> None:
    found, kube = through(answers)
    found.stop()
    evidence = state(kube, tmp_path)
    assert all(document["error"] for document in (record.document for record in evidence.all) if "items" in document
               or "error" in document)
    assert not [record for record in evidence.all if "items" in record.document]
    for check in ("nodes", "versions", "gpu-allocatable", "pods", "cni", "gpu-operator", "metrics", "tenants"):
        assert judge_check(check, FACTS, "gpu-node-03", evidence).verdict() is Verdict.BLOCKED, check


TROUBLE = [
    Rule("429", "/api/v1/namespaces/.*/pods", "POST", skip=2, times=3), Rule("500", ".*/pods", skip=1, times=2),
    Rule("cut", ".*/log", times=2), Rule("503", ".*/pods/.*", "DELETE", skip=3, times=2),
    Rule("close", ".*/leases", "POST"), Rule("restart", ".*/pods/.*", "DELETE", skip=6, away_s=0.3)]


@pytest.mark.parametrize(("name", "checks"), [
    ("kube-probes", ("pod-network", "dns", "storage")), ("kube-flows", ("network-policy",)),
    ("kube-gpu-pods", ("gpu-scheduling", "gpu-isolation"))])
def test_pods_are_made_tried_and_removed_in_spite_of_trouble(
        name: str, checks: tuple[str, ...], tmp_path: Path, through: Start) -> None:
    cluster, rules = FakeCluster(), [Rule(**vars(rule)) for rule in TROUBLE]
    evidence = collect(name, through(bridge(cluster), *rules)[1], tmp_path)
    assert all(rule.met for rule in rules), [rule for rule in rules if not rule.met]
    assert cluster.objects == {}
    for check in checks:
        findings = judge_check(check, FACTS, "gpu-node-03", evidence)
        assert findings.verdict() is Verdict.PASS, [one.sentence() for one in reds(findings)][:5]
    shown = tried_again(evidence, name)
    assert any(request.startswith("POST ") for request in shown)
    assert any(request.startswith("DELETE ") for request in shown)
    assert all(len(attempts) <= 5 for attempts in shown.values())


def test_a_server_that_is_away_longer_than_a_request_waits_is_waited_for(tmp_path: Path, through: Start) -> None:
    """As long as pods may take to start: thirty answers in a row are worth nothing."""
    cluster, rule = FakeCluster(), Rule("close", "/api/v1/namespaces/acceptance/pods", skip=3, times=30)
    evidence = collect("kube-probes", through(bridge(cluster), rule)[1], tmp_path)
    assert rule.met == 30
    assert cluster.objects == {}
    assert judge_check("pod-network", FACTS, "gpu-node-03", evidence).verdict() is Verdict.PASS
    assert len(tried_again(evidence, "kube-probes")["GET /api/v1/namespaces/acceptance/pods"]) <= 5


def test_when_the_server_goes_for_good_in_the_middle_nothing_passes(tmp_path: Path, through: Start,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owned, "GONE_S", 1.0)
    monkeypatch.setattr(Proxy, "restart", lambda self, away_s: threading.Thread(target=self.stop).start())
    cluster = FakeCluster()
    _, kube = through(bridge(cluster), Rule("restart", ".*/pods", "POST", skip=12))
    evidence = collect("kube-probes", kube, tmp_path)
    assert "refused" in evidence.one("kube-probes", "cluster").document["error"]
    for check in ("pod-network", "dns", "storage"):
        assert judge_check(check, FACTS, "gpu-node-03", evidence).verdict() is not Verdict.PASS
    assert left(cluster)
    collect("kube-flows", cluster, tmp_path)
    assert left(cluster) == []


def test_a_connection_that_ends_in_the_handshake_is_tried_again(
        through: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a load balancer whose servers are all away."""
    real, calls = Handler.setup, list[int]()

    def setup(self: Handler) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionAbortedError
        real(self)

    _, kube = through(answers)
    monkeypatch.setattr(Handler, "setup", setup)
    answer = kube.request("GET", "/version", deadline_s=10)
    assert [one.error.partition(":")[0] for one in answer.attempts] == ["TLS", "TLS", ""]
    assert answer.ok


def test_a_wrong_certificate_is_said_at_once(tmp_path: Path, through: Start) -> None:
    found, _ = through(answers)
    other = write_kubeconfig(tmp_path / "other", f"https://127.0.0.1:{found.port}")
    with closing(LiveKube(other)) as kube:
        answer = kube.request("GET", "/version", deadline_s=10)
    assert (answer.status, len(answer.attempts)) == (None, 1)
    assert "certificate verify failed" in answer.reason()


def test_as_a_program_it_runs_a_command_and_tells_what_was_met(tmp_path: Path) -> None:
    asks = ("import sys; from pathlib import Path; from acceptance.transport.kube_live import LiveKube; "
            "found = LiveKube(Path(sys.argv[1])).request('GET', '/version', deadline_s=9); "
            "sys.exit(len(found.attempts) if found.ok else 99)")
    with fake_api(tmp_path, answers) as api:
        rules = json.dumps([{"do": "500", "path": "/version", "times": 2}, {"do": "cut", "path": "/nowhere"}])
        code = main([rules, str(api.kubeconfig), str(tmp_path / "p"), sys.executable, "-c", asks,
                     str(tmp_path / "p/kubeconfig")])
    assert code == 3
    assert json.loads((tmp_path / "p/met.json").read_text()) == [2, 0]
