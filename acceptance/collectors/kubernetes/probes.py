"""Pods of the suite's own on every host: pod network with full-size packets, services, names, and storage."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.in_pod import probe_command, result
from acceptance.collectors.kubernetes.objects import NODE, ROLE, claim, labels, pod, service
from acceptance.collectors.kubernetes.owned import Key, Owned, Raw, phase, why_not
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
    with Owned(session) as own:
        _network(session, own, space)
        _storage(session, own, space)


def serving(session: Session, own: Owned, space: str, role: str, nodes: list[str], ports: list[int]) -> None:
    """Create a serving pod on each node."""
    contract = session.contract.kubernetes.probes
    for node in nodes:
        what = {"serve": {"name": node, "tcp": ports, "udp": UDP}}
        own.create(space, "pods", pod(f"acceptance-{role}-{node}", labels(session.run_id, role, node), contract.image,
                                      probe_command(), node=node, env={"PROBE": json.dumps(what)}, life_s=LIFE_S))


def started(session: Session, own: Owned, role: str, *spaces: str) -> dict[Key, Raw]:
    """The pods of a role, once all run and have an address, or the time for that is over."""
    def all_run(pods: dict[Key, Raw]) -> bool:
        mine = [one for one in pods.values() if one["metadata"]["labels"].get(ROLE) == role]
        return bool(mine) and all(phase(one) == "Running" and one["status"].get("podIP") for one in mine)

    found = own.wait(all_run, session.contract.kubernetes.probes.start_seconds, *spaces)
    return {key: one for key, one in found.items() if one["metadata"]["labels"].get(ROLE) == role}


def address_of(one: Raw | None) -> tuple[str, str]:
    """A running pod's address, or why it has none."""
    if phase(one) == "Running" and one is not None and one["status"].get("podIP"):
        return str(one["status"]["podIP"]), ""
    return "", why_not(one)


def tried(session: Session, own: Owned, role: str, *spaces: str) -> dict[Key, dict[str, Any]]:
    """What the pods of a role printed, by namespace and node, once all have ended or the time is over."""
    def mine(pods: dict[Key, Raw]) -> dict[Key, Raw]:
        return {key: one for key, one in pods.items() if one["metadata"]["labels"].get(ROLE) == role}

    seconds = session.contract.kubernetes.probes.start_seconds + 60
    ended = own.wait(lambda pods: all(phase(one) in ENDED for one in mine(pods).values()), seconds, *spaces)
    found: dict[Key, dict[str, Any]] = {}
    for (space, name), one in mine(ended).items():
        node = one["metadata"]["labels"].get(NODE, "")
        if phase(one) not in ENDED:
            found[space, node] = {"error": f"the probe did not end: {why_not(one)}"}
            continue
        try:
            found[space, node] = {"result": result(own.log(space, name))}
        except (ApiFailed, ParseError) as problem:
            found[space, node] = {"error": str(problem)}
    return found


def _network(session: Session, own: Owned, space: str) -> None:
    nodes = [host.name for host in session.hosts("all")]
    own.create(space, "services", service(HEADLESS, labels(session.run_id, SERVER), labels(session.run_id, SERVER),
                                          [TCP], headless=True))
    services = {}
    for node in nodes:
        marks = labels(session.run_id, SERVER, node)
        made = own.create(space, "services", service(f"acceptance-{node}", marks, marks, [TCP]))
        services[node] = str(made["spec"]["clusterIP"])
    serving(session, own, space, SERVER, nodes, [TCP])
    pods = started(session, own, SERVER, space)
    servers = {}
    for node in nodes:
        address, problem = address_of(pods.get((space, f"acceptance-{SERVER}-{node}")))
        servers[node] = Server(node, address, services[node], problem)
    asked = names(session, space, nodes[0])
    session.record("servers", document={"servers": {node: one.as_json() for node, one in servers.items()},
                                        "names": asked, "named": nodes[0]})
    session.progress(1, 3, "servers are up")
    wanted = {"try": targets(session, servers, asked)}
    for node in nodes:
        own.create(space, "pods", pod(
            f"acceptance-{CLIENT}-{node}", labels(session.run_id, CLIENT, node),
            session.contract.kubernetes.probes.image, probe_command(), node=node, env={"PROBE": json.dumps(wanted)},
            life_s=LIFE_S))
    for (_, node), document in tried(session, own, CLIENT, space).items():
        session.record(f"client/{node}", document=document)
    session.progress(2, 3, "clients are done")


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
