"""Pods of the suite's own on every host: pod network with full-size packets, services, names, and storage."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.in_pod import probe_command, result
from acceptance.collectors.kubernetes.objects import NODE, ROLE, claim, labels, pod, service
from acceptance.collectors.kubernetes.owned import Key, Owned, Raw, at_once, phase, why_not
from acceptance.errors import ApiFailed, ParseError

if TYPE_CHECKING:
    from acceptance.collect import Session

TCP, UDP = 8080, 9091
IP_AND_UDP_HEADERS = 28
SERVER, CLIENT, HEADLESS = "server", "client", "acceptance-all"
ENDED = ("Succeeded", "Failed")
LIFE_S = 300


@dataclass(frozen=True)
class Server:
    """A pod that serves: its node, its address and its service's, or why it does not."""

    node: str
    address: str
    service: str
    problem: str

    def as_json(self) -> dict[str, str]:
        """Plain data for the evidence."""
        return {"address": self.address, "service": self.service, "problem": self.problem}


@collector("kube-probes", purpose="running small pods on every host: network, names, storage", intrusive=True,
           deadline_s=240, kube=True)
def collect(session: Session) -> None:
    """Records "servers", one "client/HOST" a host with what it reached, and "storage"."""
    space = session.contract.kubernetes.probes.namespace
    with Owned(session) as own, ThreadPoolExecutor(1) as beside:
        storage = beside.submit(_storage, session, own, space)
        _network(session, own, space)
        storage.result()


def serving(session: Session, own: Owned, spaces: list[str], role: str, nodes: list[str], ports: list[int]) -> None:
    """Create a serving pod on each node in each namespace."""
    def body(node: str) -> Raw:
        return probe(session, role, node, {"serve": {"name": node, "tcp": ports, "udp": UDP}})

    own.create_all("pods", [(space, body(node)) for space in spaces for node in nodes])


def probe(session: Session, role: str, node: str, what: dict[str, Any]) -> Raw:
    """A probe pod on a node, which serves or tries what its variable says."""
    return pod(f"acceptance-{role}-{node}", labels(session.run_id, role, node),
               session.contract.kubernetes.probes.image, probe_command(), node=node, env={"PROBE": json.dumps(what)},
               life_s=LIFE_S)


def started(session: Session, own: Owned, role: str, *spaces: str) -> dict[Key, Raw]:
    """The pods of a role, once all run and have an address or are lost, or the time for that is over."""
    def all_run(pods: dict[Key, Raw]) -> bool:
        mine = [one for one in pods.values() if one["metadata"]["labels"].get(ROLE) == role]
        return all((phase(one) == "Running" and one["status"].get("podIP")) or own.lost(one) for one in mine)

    found = own.wait(all_run, session.contract.kubernetes.probes.start_seconds, *spaces)
    return {key: one for key, one in found.items() if one["metadata"]["labels"].get(ROLE) == role}


def address_of(own: Owned, one: Raw | None) -> tuple[str, str]:
    """A running pod's address, or why it has none."""
    if own.lost(one):
        return "", own.lost(one)
    if phase(one) == "Running" and one is not None and one["status"].get("podIP"):
        return str(one["status"]["podIP"]), ""
    return "", why_not(one)


def tried(session: Session, own: Owned, role: str, *spaces: str) -> dict[Key, dict[str, Any]]:
    """What the pods of a role printed, by namespace and node, once all have ended or are lost, or the time is over."""
    def mine(pods: dict[Key, Raw]) -> dict[Key, Raw]:
        return {key: one for key, one in pods.items() if one["metadata"]["labels"].get(ROLE) == role}

    seconds = session.contract.kubernetes.probes.start_seconds + 60
    ended = own.wait(lambda pods: all(phase(one) in ENDED or own.lost(one) for one in mine(pods).values()), seconds,
                     *spaces)

    def told(one: tuple[Key, Raw]) -> tuple[Key, dict[str, Any]]:
        (space, name), pod = one
        at = (space, pod["metadata"]["labels"].get(NODE, ""))
        if phase(pod) not in ENDED:
            return at, {"error": own.lost(pod) or f"the probe did not end: {why_not(pod)}"}
        try:
            return at, {"result": result(own.log(space, name))}
        except (ApiFailed, ParseError) as problem:
            return at, {"error": str(problem)}

    return dict(at_once(told, mine(ended).items()))


def _network(session: Session, own: Owned, space: str) -> None:
    everyone = [host.name for host in session.hosts("all")]
    nodes, lost = own.nodes.split(everyone)
    servers = {name: Server(name, "", "", problem) for name, problem in lost.items()} | _servers(
        session, own, space, nodes)
    named = next((name for name in everyone if servers[name].address), everyone[0])
    asked = names(session, space, named)
    session.record("servers", document={"servers": {name: servers[name].as_json() for name in everyone},
                                        "names": asked, "named": named})
    session.progress(1, 3, "servers are up")
    wanted = {"try": targets(session, servers, asked)}
    own.create_all("pods", [(space, probe(session, CLIENT, node, wanted)) for node in nodes])
    results = {node: document for (_, node), document in tried(session, own, CLIENT, space).items()}
    for name in everyone:
        session.record(f"client/{name}", document=results.get(name) or {
            "error": lost.get(name) or "its client pod is not there any more"})
    session.progress(2, 3, "clients are done")


def _servers(session: Session, own: Owned, space: str, nodes: list[str]) -> dict[str, Server]:
    """Services, the pods behind them, and how these started."""
    marks = labels(session.run_id, SERVER)
    own.create(space, "services", service(HEADLESS, marks, marks, [TCP], headless=True))
    each = {node: labels(session.run_id, SERVER, node) for node in nodes}
    made = own.create_all("services", [(space, service(f"acceptance-{node}", mark, mark, [TCP]))
                                       for node, mark in each.items()])
    serving(session, own, [space], SERVER, nodes, [TCP])
    pods = started(session, own, SERVER, space)
    found = {}
    for node, one in zip(nodes, made, strict=True):
        address, problem = address_of(own, pods.get((space, f"acceptance-{SERVER}-{node}")))
        found[node] = Server(node, address, str(one["spec"]["clusterIP"]), problem)
    return found


def names(session: Session, space: str, node: str) -> dict[str, str]:
    """Names that every pod asks for, by what they stand for."""
    dns, mark = session.contract.kubernetes.dns, secrets.token_hex(4)
    return {
        "service": f"acceptance-{node}.{space}.svc.{dns.domain}.", "headless": f"{HEADLESS}.{space}.svc.{dns.domain}.",
        "short": f"acceptance-{node}.{space}", "no such service": f"no-such-{mark}.{space}.svc.{dns.domain}.",
        "no such host": f"no-such-{mark}.invalid.", **{f"external {name}": f"{name}." for name in dns.external_names}}


def targets(session: Session, servers: dict[str, Server], wanted: dict[str, str]) -> dict[str, Any]:
    """What every client tries."""
    contract, up = session.contract.kubernetes, [one for one in servers.values() if one.address]
    tcp = {f"pod {one.node}": [one.address, TCP] for one in up}
    tcp |= {f"service {one.node}": [one.service, TCP] for one in up}
    udp = {one.node: [one.address, UDP, contract.cni.pod_mtu - IP_AND_UDP_HEADERS] for one in up}
    return {"tcp": tcp, "udp": udp, "dns": wanted, "timeout_s": contract.probes.connect_seconds}


def _storage(session: Session, own: Owned, space: str) -> None:
    """A claim, a pod that writes to it and is deleted, and another that reads."""
    contract, token, marks = session.contract.kubernetes, secrets.token_hex(16), labels(session.run_id, "storage")
    made = own.create(space, "persistentvolumeclaims", claim("acceptance-claim", marks, contract.storage.claim_mib))
    document: dict[str, Any] = {"token": token, "phase": "Pending", "read": None, "problem": ""}

    def run(name: str, script: str) -> str | None:
        body = pod(f"acceptance-{name}", labels(session.run_id, name), contract.probes.image,
                   ["python3", "-I", "-c", script], claim="acceptance-claim", life_s=LIFE_S)
        own.create(space, "pods", body)
        key = (space, f"acceptance-{name}")
        pods = own.wait(lambda found: phase(found.get(key)) in ENDED, contract.probes.start_seconds, space)
        one = pods.get(key)
        if phase(one) != "Succeeded" or one is None:
            document["problem"] = f"the pod that should {name} did not: {why_not(one)}"
            return None
        text = own.log(space, key[1])
        own.delete(space, "pods", one)
        own.wait(lambda found: key not in found, contract.probes.start_seconds, space)
        return text

    write = f"import os; f = open('/data/token', 'w'); f.write('{token}'); f.flush(); os.fsync(f.fileno())"
    if run("write", write) is not None:
        document["read"] = run("read", "print(open('/data/token').read(), end='')")
    path = f"/api/v1/namespaces/{space}/persistentvolumeclaims/{made['metadata']['name']}"
    answer = session.kube.request("GET", path, deadline_s=15)
    if answer.ok:
        document["phase"] = str((answer.object().get("status") or {}).get("phase"))
    session.record("storage", document=document)
    session.progress(3, 3, "storage is tried")
