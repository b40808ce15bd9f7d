"""Collectors of the API against a server that misbehaves: trouble is bounded and shown, and never an empty cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceptance.collect import run_collectors
from acceptance.collectors import register
from acceptance.collectors.kubernetes.reviews import Right, review
from acceptance.collectors.kubernetes.state import KINDS
from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence, Recorder
from acceptance.facts.kubernetes import KubeFacts
from acceptance.findings import Verdict
from acceptance.transport.kube_live import LiveKube
from acceptance.transport.local import LocalShell
from selftests.fake_api import TOKEN, Asked, Reply, fake_api, page, status
from selftests.synthetic import SITE, judge_check
from selftests.synthetic_kubernetes import FACTS

register()

NODE: dict[str, Any] = {
    "metadata": {"name": "gpu-node-01", "labels": {"a": "b"}},
    "spec": {"unschedulable": True, "taints": [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "k", "value": "v", "effect": "X"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "3"},
               "capacity": {"nvidia.com/gpu": "4"}, "addresses": [{"type": "InternalIP", "address": "10.100.0.101"},
                                                                  {"type": "Hostname", "address": "gpu-node-01"}],
               "nodeInfo": {"kubeletVersion": "v1.34.4", "containerRuntimeVersion": "containerd://1.7"}}}
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "ownerReferences": [{"kind": "Job", "name": "j", "controller": True}]},
    "spec": {"nodeName": "gpu-node-01", "containers": [{"resources": {"limits": {"nvidia.com/gpu": "2"}}}, {}]},
    "status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [
        {"restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}


def answers(asked: Asked) -> Reply:
    if asked.path == "/version":
        return Reply(200, {"gitVersion": "v1.34.4"})
    return page({"/api/v1/nodes": [NODE], "/api/v1/pods": [POD]}.get(asked.path, []))


def collect(tmp_path: Path, behave: Callable[[Asked], Reply], *ids: str) -> Evidence:
    with fake_api(tmp_path, behave) as api:
        kube = LiveKube(api.kubeconfig, wait=lambda _: None)
        recorder = Recorder(tmp_path / "evidence.jsonl", kube.secrets)
        run_collectors(dict.fromkeys(ids or ["kube-state"], ()), SITE, LocalShell(), LocalShell(), recorder,
                       lambda *_: None, kube, "run")
        recorder.close()
    return recorder.evidence()


def test_every_kind_is_listed_once_and_projected(tmp_path: Path) -> None:
    evidence = collect(tmp_path, answers)
    assert {record.subject for record in evidence.all} == {"version", *KINDS}
    facts = KubeFacts(evidence)
    node, [pod] = facts.nodes["gpu-node-01"], facts.pods
    assert (node.unschedulable, node.allocatable_gpus, node.capacity_gpus) == (True, 3, 4)
    assert (node.taints, node.addresses) == (["node.kubernetes.io/unschedulable:NoSchedule", "k=v:X"], ["10.100.0.101"])
    assert (pod.gpus, pod.restarts, pod.waiting, pod.owner, pod.ready) == (2, 7, ["CrashLoopBackOff"], "Job/j", False)
    assert facts.version == "v1.34.4"


@pytest.mark.parametrize("trouble", [
    status(429, "slow down", Retry_After="1"), status(500, "boom"), Reply(200, page([NODE]).body, cut=30)])
def test_trouble_that_passes_is_shown_in_the_evidence(trouble: Reply, tmp_path: Path) -> None:
    met: list[str] = []

    def behave(asked: Asked) -> Reply:
        if asked.path == "/api/v1/nodes" and not met:
            met.append(asked.path)
            return trouble
        return answers(asked)

    document = collect(tmp_path, behave).one("kube-state", "nodes").document
    assert [bool(attempt["error"]) for attempt in document["attempts"]] == [True, False]
    assert len(document["items"]) == 1


@pytest.mark.parametrize("trouble", [
    status(429, "slow down"), status(500, "boom"), status(403, 'User "x" cannot list resource "nodes"'),
    Reply(200, page([NODE]).body, cut=30), Reply(200, {"kind": "NodeList", "metadata": {}}), page([]),
    Reply(200, page([{"metadata": {}}]).body), Reply(200, "")])
def test_trouble_that_lasts_blocks_and_is_never_an_empty_cluster(trouble: Reply, tmp_path: Path) -> None:
    evidence = collect(tmp_path, lambda asked: trouble if asked.path == "/api/v1/nodes" else answers(asked))
    with pytest.raises(Unmeasured, match="nodes"):
        _ = KubeFacts(evidence).nodes
    for check in ("nodes", "versions", "gpu-allocatable"):
        assert judge_check(check, FACTS, "gpu-node-03", evidence).verdict() is Verdict.BLOCKED
    assert KubeFacts(evidence).pods


def test_the_token_is_nowhere_in_the_evidence_even_when_the_server_repeats_it(tmp_path: Path) -> None:
    collect(tmp_path, lambda asked: status(401, f"invalid bearer token {TOKEN}"), "kube-state", "kube-rights")
    text = (tmp_path / "evidence.jsonl").read_text()
    assert "invalid bearer token [secret]" in text
    assert TOKEN not in text


def reviewed(tmp_path: Path, reply: Reply) -> dict[str, Any]:
    with fake_api(tmp_path, lambda _: reply) as api:
        right = Right("get", "pods/log", "n")
        found = review(LiveKube(api.kubeconfig, wait=lambda _: None), right, "u", ["g"])
        assert api.asked[0].body["spec"] == {"user": "u", "groups": ["g"], "resourceAttributes": {
            "verb": "get", "resource": "pods", "subresource": "log", "namespace": "n"}}
        return found


@pytest.mark.parametrize(("body", "expected"), [
    ({"status": {"allowed": True}}, {"allowed": True}), ({"status": {"allowed": False}}, {"allowed": False}),
    ({"status": {}}, {"error": "the review came back without an answer"}),
    ({}, {"error": "the review came back without an answer"}),
    ({"status": {"allowed": "yes"}}, {"error": "the review came back without an answer"}),
    ({"status": {"allowed": False, "evaluationError": "webhook timeout"}}, {"error": "not decided: webhook timeout"}),
])
def test_a_review_is_yes_no_or_not_known(body: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    assert reviewed(tmp_path, Reply(201, body)) == expected


def test_a_review_that_is_refused_is_no_no(tmp_path: Path) -> None:
    found = reviewed(tmp_path, status(403, "cannot create subjectaccessreviews"))
    assert "allowed" not in found
    assert "cannot create" in json.dumps(found)
