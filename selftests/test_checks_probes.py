"""Checks by behaviour in the cluster: green when healthy, each defect red at its subject, blocked when not tried."""

from __future__ import annotations

from typing import Any

import pytest

from acceptance.checks import CHECKS
from acceptance.findings import Verdict
from acceptance.selection import load_catalogue
from selftests.synthetic import ROOT, SITE, Broken, reds, subjects
from selftests.synthetic_kubernetes import K8S, Change, Recorded, gpu_log, healthy, judge
from selftests.synthetic_network import network_sections
from selftests.test_checks_kubernetes import at, items, of

NODE, OTHER, CONTROL = "gpu-node-03", "gpu-node-04", "k8s-cp-01"
TRIED = sorted(check.id for check in load_catalogue(ROOT).values()
               if check.intrusive and not check.performance  # those are in test_gate.py
               and any(need.startswith("kube-") for need in check.needs))
PROBES, FLOWS, GPUS = "kube-probes", "kube-flows", "kube-gpu-pods"


def client(name: str) -> Any:
    return lambda d: d[PROBES][f"client/{name}"]["result"]


def apart(documents: Recorded, *names: str) -> None:
    """Gives clients results of their own; the healthy ones share one."""
    import copy

    for name in names or [host.name for host in SITE.hosts]:
        documents[PROBES][f"client/{name}"] = copy.deepcopy(documents[PROBES][f"client/{name}"])


def no_route(documents: Recorded) -> None:
    """Pods of one node reach no other, and are reached by none."""
    apart(documents)
    for host in SITE.hosts:
        result = documents[PROBES][f"client/{host.name}"]["result"]
        for target in SITE.hosts:
            if host is not target and NODE in (host.name, target.name):
                result["udp"][target.name] = {"end": "timed out"}
                for kind in ("pod", "service"):
                    result["tcp"][f"{kind} {target.name}"] = {"end": "timed out"}


def resolver(answer: dict[str, Any], *names: str) -> Change:
    """One answer of the name server, to the pods of one node or of all."""
    def change(documents: Recorded) -> None:
        apart(documents)
        for host in SITE.hosts:
            dns = documents[PROBES][f"client/{host.name}"]["result"]["dns"]
            for key in dns if not names or host.name in names else ():
                dns[key] = answer
    return change


def reached(source: str, node: str, destination: str, on: str, end: dict[str, Any]) -> Change:
    return lambda d: [d[FLOWS][f"{source}/{node}"]["result"]["tcp"].update({f"{destination} {port} {on}": end})
                      for port in K8S.flows.ports]


def opened(documents: Recorded, on: str | None = None, only: str | None = None) -> None:
    """A namespace, or a node, whose pods let everybody in."""
    for source in K8S.flows.sources:
        for host in SITE.group("gpu_nodes"):
            for key, end in documents[FLOWS][f"{source}/{host.name}"]["result"]["tcp"].items():
                space, _, target = key.split()
                if only in (None, space) and on in (None, target):
                    end.update(end="connected", name=target)


def pods(**values: Any) -> Change:
    return lambda d: d[GPUS]["many"]["tries"]["acceptance-one-009"].update(values)


PAIR = f"gpu-node-01→{NODE}"
DEFECTS: list[tuple[str, Change, set[str]]] = [
    ("pod-network", no_route, {NODE, PAIR, f"{NODE}→{OTHER}"}),
    ("dns", lambda d: (of("deployments", K8S.dns.deployment.name, desired=0, available=0, updated=0)(d),
                       resolver({"error": "10.96.0.10: timed out"})(d)), {K8S.dns.deployment.subject, NODE, CONTROL}),
    ("dns", resolver({"error": "10.9.9.9: timed out"}, NODE), {NODE}),
    ("dns", resolver({"code": 0, "addresses": ["10.1.1.1"]}, NODE), {NODE}),
    ("storage", of("storageclasses", K8S.storage.default_class, default=False), {"StorageClass"}),
    ("storage", at(PROBES, "storage", "read", value="something else"), {"claim"}),
    ("storage", lambda d: d[PROBES]["storage"].update(phase="Pending", problem="the pod that should write did not"),
     {"claim"}),
    ("network-policy", lambda d: opened(d, only="cv-team"), {f"nlp-team→cv-team:8080 on {NODE}"}),
    ("network-policy", lambda d: opened(d, on=NODE), {f"acceptance→cv-team:9090 on {NODE}"}),
    ("network-policy", reached("nlp-team", NODE, "cv-team", OTHER, {"end": "connected", "name": OTHER}),
     {f"nlp-team→cv-team:8080 on {OTHER}", f"nlp-team→cv-team:9090 on {OTHER}"}),
    ("network-policy", reached("cv-team", NODE, "cv-team", NODE, {"end": "refused"}),
     {f"cv-team→cv-team:8080 on {NODE}"}),
    ("gpu-scheduling", pods(log=gpu_log(["GPU-gpu-node-01-0"])), {"GPU-gpu-node-01-0", "cluster"}),
    ("gpu-scheduling", pods(log=gpu_log(["GPU-of-nobody"])), {"GPU-of-nobody", "cluster"}),
    ("gpu-scheduling", at(GPUS, "sizes", "tries", "1", "log", value=gpu_log(["GPU-of-nobody"])), {"GPU-of-nobody"}),
    ("gpu-scheduling", pods(phase="Pending", why="Unschedulable: Insufficient nvidia.com/gpu", log=""),
     {"acceptance-one-009", "cluster"}),
    ("gpu-scheduling", at(GPUS, "sizes", "tries", "5", "phase", value="Running"), {"pod with 5 GPUs"}),
    ("gpu-scheduling", at(GPUS, "sizes", "tries", "5", "why", value="Unschedulable: untolerated taint"),
     {"pod with 5 GPUs"}),
    ("gpu-scheduling", at(GPUS, "sizes", "tries", "4", "log", value=gpu_log(["GPU-gpu-node-01-0"])),
     {"pod with 4 GPUs"}),
    ("gpu-scheduling", at(GPUS, "next", "waited", value=False), {"one pod more"}),
    ("gpu-scheduling", at(GPUS, "next", "after", "phase", value="Pending"),
     {"one pod more, after acceptance-one-001 ended"}),
    ("gpu-isolation", at(GPUS, "free", "tries", NODE, "all", "log", value=gpu_log([f"GPU-{NODE}-0"])), {NODE}),
    ("gpu-isolation", at(GPUS, "free", "tries", NODE, "plain", "log",
                         value="begin\nNo devices were found\nexit 6\n/dev/nvidia0\nend\n"), {NODE}),
]
BLOCKED: list[tuple[str, Change, set[str]]] = [
    ("pod-network", lambda d: d[PROBES]["servers"]["servers"][NODE].update(address="", problem="ErrImagePull"), {NODE}),
    ("pod-network", lambda d: d[PROBES].update({f"client/{NODE}": {"error": "did not end"}}), {NODE}),
    ("pod-network", lambda d: d[PROBES].pop(f"client/{NODE}"), {NODE}),
    ("dns", lambda d: d[PROBES].pop(f"client/{NODE}"), {NODE}),
    ("storage", lambda d: d[PROBES].pop("storage"), {"claim"}),
    ("network-policy", lambda d: d[FLOWS].pop(f"acceptance/{NODE}"), {f"acceptance/{NODE}"}),
    ("network-policy", lambda d: d[FLOWS]["servers"]["servers"]["cv-team"].pop(NODE), {f"cv-team/{NODE}"}),
    ("gpu-scheduling", lambda d: d[GPUS]["holders"]["pods"].append({"namespace": "a", "name": "b"}), {"cluster"}),
    ("gpu-scheduling", pods(log="begin\nGPU 0: NV"), {"acceptance-one-009"}),
    ("gpu-isolation", at(GPUS, "free", "tries", NODE, "all", "phase", value="Failed"), {NODE}),
    ("gpu-isolation", at(GPUS, "free", "tries", NODE, "plain", "log", value="begin\nexit 127\n"), {NODE}),
    ("gpu-isolation", lambda d: d[GPUS]["free"]["tries"].pop(NODE), {NODE}),
]


def dropped(collector: str, subject: str) -> Change:
    return lambda documents: documents[collector].pop(subject)


def test_every_check_by_behaviour_is_among_them() -> None:
    assert {check for check, *_ in DEFECTS} == {check for check, *_ in BLOCKED} == set(TRIED)


@pytest.mark.parametrize("check", TRIED)
def test_a_healthy_cluster_is_green(check: str) -> None:
    findings = judge(check)
    assert findings.verdict() is Verdict.PASS, [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize(("check", "change", "expected"), DEFECTS)
def test_each_defect_is_red_at_its_subject(check: str, change: Change, expected: set[str]) -> None:
    findings = judge(check, change)
    assert findings.verdict() is Verdict.FAIL, [f.sentence() for f in reds(findings)]
    assert expected <= subjects(reds(findings)), [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize(("check", "change", "expected"), DEFECTS)
def test_no_defect_turns_another_check_red(check: str, change: Change, expected: set[str]) -> None:
    del expected
    for other in TRIED:
        if other != check:
            assert judge(other, change).verdict() is Verdict.PASS, other


@pytest.mark.parametrize(("check", "change", "expected"), BLOCKED)
def test_what_was_not_tried_is_blocked_at_its_subject(check: str, change: Change, expected: set[str]) -> None:
    findings = judge(check, change)
    assert findings.verdict() is not Verdict.PASS
    assert expected <= subjects(reds(findings)), [f.sentence() for f in reds(findings)]


@pytest.mark.parametrize("check", TRIED)
@pytest.mark.parametrize("subject", ["servers", "sizes", "free", "many", "next", "holders"])
def test_a_record_that_is_missing_or_empty_never_passes(check: str, subject: str) -> None:
    for collector in set(CHECKS[check].needs) & {PROBES, FLOWS, GPUS}:
        if subject in healthy()[collector] and (check, subject) not in {
                ("gpu-isolation", "many"), ("gpu-isolation", "next"), ("gpu-isolation", "holders"),
                ("gpu-scheduling", "free"), ("storage", "servers")}:
            assert judge(check, dropped(collector, subject)).verdict() is not Verdict.PASS
            assert judge(check, at(collector, subject, value={})).verdict() is not Verdict.PASS


def test_a_cut_off_node_is_told_from_a_broken_link() -> None:
    named = [f for f in judge("pod-network", no_route).found if f.quantity == "where it fails"]
    assert subjects(named) == {NODE}


def test_exactly_the_cells_of_an_open_node_are_named() -> None:
    found = subjects(reds(judge("network-policy", lambda d: opened(d, on=NODE))))
    denied = {f"{cell.source}→{cell.destination}:{cell.port} on {NODE}" for cell in K8S.flows.cells()
              if not cell.allowed}
    assert found == denied


def test_a_closed_port_proves_nothing_until_an_allowed_peer_has_reached_it() -> None:
    def dead(documents: Recorded) -> None:
        for source in K8S.flows.sources:
            for host in SITE.group("gpu_nodes"):
                for key, end in documents[FLOWS][f"{source}/{host.name}"]["result"]["tcp"].items():
                    if key.endswith(NODE):
                        end.clear()
                        end["end"] = "refused"

    found = reds(judge("network-policy", dead))
    assert {f.verdict for f in found if f.subject == f"nlp-team→cv-team:8080 on {NODE}"} == {Verdict.BLOCKED}
    assert {f.verdict for f in found if f.subject == f"cv-team→cv-team:8080 on {NODE}"} == {Verdict.FAIL}


def test_somebody_elses_answer_is_not_the_pods() -> None:
    def foreign(documents: Recorded) -> None:
        apart(documents)
        documents[PROBES]["client/gpu-node-01"]["result"]["tcp"][f"pod {NODE}"]["name"] = OTHER

    assert PAIR in subjects(reds(judge("pod-network", foreign)))


def test_the_healthy_documents_are_there() -> None:
    assert items(healthy(), "nodes")


def test_a_gpu_that_no_inventory_lists_is_named_with_its_pod_and_node() -> None:
    found = reds(judge("gpu-scheduling", at(GPUS, "sizes", "tries", "1", "log", value=gpu_log(["GPU-of-nobody"]))))
    assert [one.sentence() for one in found] == [
        "GPU-of-nobody: node whose NVML lists it: measured none, required = gpu-node-01 "
        "(seen by pod with 1 GPU on gpu-node-01)"]


def test_a_gpu_of_a_node_that_did_not_tell_is_blocked_and_of_one_that_did_is_not() -> None:
    silent = Broken(breaks={host.name: [network_sections(host)] for host in SITE.hosts}, failed={NODE: {"nvml": "x"}})
    found = reds(judge("gpu-scheduling", pods(log=gpu_log(["GPU-of-nobody"])), silent.cluster()))
    own = {one.subject: one.verdict for one in found if one.quantity == "node whose NVML lists it"}
    assert own == {**{f"GPU-{NODE}-{n}": Verdict.BLOCKED for n in range(4) if n != 0}, "GPU-of-nobody": Verdict.BLOCKED}
    elsewhere = pods(node="gpu-node-01", log=gpu_log(["GPU-of-nobody"]))
    found = reds(judge("gpu-scheduling", elsewhere, silent.cluster()))
    assert {one.verdict for one in found if one.subject == "GPU-of-nobody"} == {Verdict.FAIL}
