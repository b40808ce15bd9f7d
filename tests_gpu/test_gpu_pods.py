"""Phase 5: GPUs as pods get them: each once, all of them, and none to a pod that asks for none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acceptance.checks import check
from acceptance.errors import ParseError, Unmeasured

if TYPE_CHECKING:
    from acceptance.facts import Cluster
    from acceptance.facts.kubernetes import KubeFacts
    from acceptance.findings import Findings
    from acceptance.site.load import Site

COLLECTOR = "kube-gpu-pods"
CLAUSE = "Integration Testing / GPU Scheduling Test"
INSUFFICIENT = "Insufficient nvidia.com/gpu"
_UUID = re.compile(r"^GPU \d+: .*\(UUID: (\S+)\)$")
_EXIT = re.compile(r"^exit (\d+)$")


def uuids(log: str) -> list[str]:
    """GPUs that a pod's nvidia-smi listed. Raises ParseError unless the pod has said everything."""
    lines = log.splitlines()
    exits = [match for line in lines if (match := _EXIT.match(line))]
    if "begin" not in lines or "end" not in lines or len(exits) != 1:
        raise ParseError(f"the pod has not said which GPUs it sees: {log.strip()[-100:]!r}")
    found = [match[1] for line in lines if (match := _UUID.match(line))]
    if exits[0][1] == "0" or found:
        return found
    if any(line.startswith("GPU ") for line in lines):
        raise ParseError(f"nvidia-smi listed GPUs in a way that is not known: {log.strip()[:100]!r}")
    return []


def devices(log: str) -> list[str]:
    """Device files of GPUs that a pod sees."""
    return [line for line in log.splitlines() if line.startswith("/dev/nvidia")]


def _tries(kube: KubeFacts, subject: str) -> dict[str, Any]:
    found = kube.record(subject, COLLECTOR).document.get("tries")
    if not isinstance(found, dict):
        raise Unmeasured(f"{subject}: nothing was tried")
    return found


def _others(kube: KubeFacts) -> list[str]:
    """Pods of others that hold GPUs or wait for some. Raises Unmeasured."""
    pods = kube.record("holders", COLLECTOR).document.get("pods")
    if not isinstance(pods, list) or not all(isinstance(one, dict) for one in pods):
        raise Unmeasured("holders: who else holds GPUs was not read")
    return [f"{one.get('namespace')}/{one.get('name')}" for one in pods]


@check("gpu-scheduling", phase=5, layer="acceptance", area="gpu", needs=("facts", COLLECTOR), intrusive=True,
       clause=CLAUSE,
       criterion="A pod gets as many GPUs as it asks for on one node, or waits; as many one-GPU pods as there are GPUs "
                 "hold each a GPU of its own; one more waits, and starts when one is free",
       remedy="kubectl describe pod of the pod named; logs of the device plugin on its node; kubectl describe node")
def test_gpu_scheduling(site: Site, kube: KubeFacts, cluster: Cluster, findings: Findings) -> None:
    others, count = _others(kube), site.contract.gpu.count
    if others:
        findings.blocked("free GPUs", f"others hold or want GPUs: {', '.join(others[:5])}; run this when none do")
        return
    inventory = _inventory(cluster, findings)
    findings.evidence = kube.id("sizes", COLLECTOR)
    sizes = _tries(kube, "sizes")
    for gpus in (1, count):
        _judge_size(findings, f"pod with {gpus} GPUs" if gpus > 1 else "pod with 1 GPU", sizes.get(str(gpus)), gpus,
                    inventory)
    _judge_waiting(findings, f"pod with {count + 1} GPUs", sizes.get(str(count + 1)))
    findings.evidence = kube.id("many", COLLECTOR)
    many = _tries(kube, "many")
    total = count * len(site.group("gpu_nodes"))
    findings.equal("one-GPU pods that were tried", measured=len(many), required=total)
    held: dict[str, list[str]] = {}
    for name, one in many.items():
        for uuid in _judge_size(findings, name, one, 1, inventory):
            held.setdefault(uuid, []).append(name)
    for uuid, names in held.items():
        if len(names) > 1:
            findings.fail("pods that hold it", f"also {', '.join(names[1:])}", subject=uuid, measured=len(names),
                          required=1)
    findings.equal("GPUs held by one-GPU pods", measured=len(held), required=total)
    findings.same_set("GPUs held, as NVML lists", measured=held, required=inventory.nodes)
    if len(held) == total:
        _judge_next(findings, kube, inventory)
    else:
        findings.blocked("one pod more", "not every GPU was taken before it", subject="one pod more")


@dataclass(frozen=True)
class Inventory:
    """Nodes by the UUIDs that NVML lists there; `silent` are GPU nodes that did not tell."""

    nodes: dict[str, set[str]]
    silent: frozenset[str]


def _inventory(cluster: Cluster, findings: Findings) -> Inventory:
    """What the GPU nodes told; a finding for each that did not."""
    found: dict[str, set[str]] = {}
    silent = set()
    for node in cluster.of("gpu_nodes"):
        try:
            for gpu in node.gpus:
                if gpu.uuid:
                    found.setdefault(gpu.uuid, set()).add(node.name)
        except Unmeasured as problem:
            silent.add(node.name)
            findings.blocked("GPUs that NVML lists", str(problem), subject=node.name)
    return Inventory(found, frozenset(silent))


def _judge_size(findings: Findings, subject: str, one: Any, gpus: int, inventory: Inventory) -> list[str]:
    """Judge a pod that should run, and what it sees; its GPUs."""
    if not isinstance(one, dict):
        findings.blocked("GPUs seen", "was not tried", subject=subject, required=gpus)
        return []
    if one.get("phase") != "Running":
        findings.equal("phase", measured=one.get("phase"), required="Running", subject=subject,
                       reason=str(one.get("why")))
        return []
    try:
        seen = uuids(str(one.get("log") or ""))
    except ParseError as problem:
        findings.blocked("GPUs seen", str(one.get("why") or problem), subject=subject, required=gpus)
        return []
    findings.equal("GPUs seen", measured=len(set(seen)), required=gpus, subject=subject)
    away = [uuid for uuid in seen if one.get("node") not in inventory.nodes.get(uuid, {one.get("node")})]
    findings.empty(f"GPUs of other nodes than {one.get('node')}", measured=away, subject=subject)
    for uuid in dict.fromkeys(seen):
        if uuid not in inventory.nodes:
            _judge_unknown(findings, uuid, subject, str(one.get("node")), inventory)
    return seen


def _judge_unknown(findings: Findings, uuid: str, pod: str, node: str, inventory: Inventory) -> None:
    """A GPU that no node listed: of its pod's own node, if that did not tell; else of nobody knows where."""
    quantity, where = "node whose NVML lists it", f"seen by {pod} on {node}"
    if node in inventory.silent:
        findings.blocked(quantity, f"{where}, whose GPUs are not known", subject=uuid, required=node)
    else:
        findings.fail(quantity, where, subject=uuid, measured="none", required=node)


def _judge_waiting(findings: Findings, subject: str, one: Any) -> None:
    found = one if isinstance(one, dict) else {}
    findings.equal("phase", measured=found.get("phase"), required="Pending", subject=subject)
    findings.holds("why it waits", INSUFFICIENT in str(found.get("why")), measured=found.get("why"),
                   required=INSUFFICIENT, relation="says", subject=subject)


def _judge_next(findings: Findings, kube: KubeFacts, inventory: Inventory) -> None:
    document = kube.record("next", COLLECTOR).document
    findings.evidence = kube.id("next", COLLECTOR)
    subject = "one pod more"
    findings.equal("waits while every GPU is taken", measured=document.get("waited"), required=True, subject=subject,
                   reason=str(document.get("why")))
    if document.get("waited") is not True:
        return
    findings.holds("why it waits", INSUFFICIENT in str(document.get("why")), measured=document.get("why"),
                   required=INSUFFICIENT, relation="says", subject=subject)
    if not document.get("freed"):
        findings.blocked("starts when one is free", "no pod was running that could be ended", subject=subject)
        return
    _judge_size(findings, f"{subject}, after {document['freed']} ended", document.get("after"), 1, inventory)


@check("gpu-isolation", phase=5, layer="acceptance", area="gpu", needs=(COLLECTOR,), intrusive=True, clause=CLAUSE,
       criterion="A pod that asks for no GPU sees none, on any node, also when it sets NVIDIA_VISIBLE_DEVICES=all",
       remedy="accept-nvidia-visible-devices-envvar-when-unprivileged = false in the container toolkit's config.toml; "
              "the device plugin must hand out devices by volume mounts or CDI")
def test_gpu_isolation(site: Site, kube: KubeFacts, findings: Findings) -> None:
    findings.evidence = kube.id("sizes", COLLECTOR)
    one = _tries(kube, "sizes").get("1")
    try:
        proof = len(uuids(str(one.get("log") or ""))) if isinstance(one, dict) else None
    except ParseError as problem:
        findings.blocked("a pod with a GPU sees it", str(problem), subject="proof")
    else:
        findings.equal("GPUs that a pod with one sees in the same way", measured=proof, required=1, subject="proof")
    findings.evidence = kube.id("free", COLLECTOR)
    free = _tries(kube, "free")
    for host in site.group("gpu_nodes"):
        for kind, text in (("plain", "asks for none"), ("all", "NVIDIA_VISIBLE_DEVICES=all")):
            pods = free.get(host.name)
            _judge_free(findings, host.name, text, pods.get(kind) if isinstance(pods, dict) else None)


def _judge_free(findings: Findings, subject: str, text: str, one: Any) -> None:
    log = str(one.get("log") or "") if isinstance(one, dict) else ""
    try:
        if not isinstance(one, dict) or one.get("phase") != "Running":
            why = one.get("why") if isinstance(one, dict) else None
            raise ParseError(f"the pod did not run: {why or 'was not tried'}")
        findings.empty(f"GPUs seen by a pod that {text}", measured=[*uuids(log), *devices(log)], subject=subject)
    except ParseError as problem:
        findings.blocked(f"GPUs seen by a pod that {text}", str(problem), subject=subject, required=[])
