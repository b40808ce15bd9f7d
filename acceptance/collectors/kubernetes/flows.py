"""The matrix of flows between namespaces, tried by pods: into every GPU node, from the same node and from another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.in_pod import probe_command
from acceptance.collectors.kubernetes.objects import labels, pod
from acceptance.collectors.kubernetes.owned import Owned
from acceptance.collectors.kubernetes.probes import LIFE_S, address_of, serving, started, tried

if TYPE_CHECKING:
    from acceptance.collect import Session

SERVER, CLIENT = "flow-server", "flow-client"
Places = dict[str, dict[str, dict[str, str]]]  # namespace → node → address, problem


def following(nodes: list[str], node: str) -> str:
    """The next node round the ring."""
    return nodes[(nodes.index(node) + 1) % len(nodes)]


def key(destination: str, port: int, node: str) -> str:
    """How a target is called in a client's results."""
    return f"{destination} {port} {node}"


@collector("kube-flows", purpose="trying which namespaces reach which, on every GPU node", intrusive=True,
           deadline_s=300, kube=True)
def collect(session: Session) -> None:
    """Records "servers", with the address of each, and one "SOURCE/NODE" a client with how its connections ended."""
    contract = session.contract.kubernetes
    flows, nodes = contract.flows, [host.name for host in session.hosts("gpu_nodes")]
    with Owned(session) as own:
        for space in flows.destinations:
            serving(session, own, space, SERVER, nodes, flows.ports)
        pods = started(session, own, SERVER, *flows.destinations)
        servers: Places = {space: {} for space in flows.destinations}
        for space in flows.destinations:
            for node in nodes:
                address, problem = address_of(pods.get((space, f"acceptance-{SERVER}-{node}")))
                servers[space][node] = {"address": address, "problem": problem}
        session.record("servers", document={"servers": servers})
        session.progress(1, 2, "servers are up")
        for source in flows.sources:
            for node in nodes:
                wanted = {"tcp": targets(servers, flows.ports, [node, following(nodes, node)]),
                          "timeout_s": contract.probes.connect_seconds}
                own.create(source, "pods", pod(
                    f"acceptance-{CLIENT}-{node}", labels(session.run_id, CLIENT, node), contract.probes.image,
                    probe_command(), node=node, env={"PROBE": json.dumps({"try": wanted})}, life_s=LIFE_S))
        for (source, node), document in tried(session, own, CLIENT, *flows.sources).items():
            session.record(f"{source}/{node}", document=document)
        session.progress(2, 2, "clients are done")


def targets(servers: Places, ports: list[int], nodes: list[str]) -> dict[str, list[Any]]:
    """Every port of every destination's servers on some nodes."""
    return {key(space, port, node): [places[node]["address"], port]
            for space, places in servers.items() for node in dict.fromkeys(nodes) if places[node]["address"]
            for port in ports}
