"""The matrix of flows between namespaces, tried by pods: into every GPU node, from the same node and from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.kubernetes.owned import Owned, Raw
from acceptance.collectors.kubernetes.probes import address_of, probe, serving, started, tried

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
    flows, nodes = session.contract.kubernetes.flows, [host.name for host in session.hosts("gpu_nodes")]
    with Owned(session) as own:
        well, lost = own.nodes.split(nodes)
        serving(session, own, flows.destinations, SERVER, well, flows.ports)
        pods = started(session, own, SERVER, *flows.destinations)
        servers: Places = {space: {} for space in flows.destinations}
        for space in flows.destinations:
            for node in nodes:
                address, problem = ("", lost[node]) if node in lost else address_of(
                    own, pods.get((space, f"acceptance-{SERVER}-{node}")))
                servers[space][node] = {"address": address, "problem": problem}
        session.record("servers", document={"servers": servers})
        session.progress(1, 2, "servers are up")
        bodies = {node: client(session, servers, node, following(nodes, node)) for node in well}
        own.create_all("pods", [(source, body) for source in flows.sources for body in bodies.values()])
        met = tried(session, own, CLIENT, *flows.sources)
        for source in flows.sources:
            for node in nodes:
                session.record(f"{source}/{node}", document=met.get((source, node)) or {
                    "error": lost.get(node) or "its client pod is not there any more"})
        session.progress(2, 2, "clients are done")


def client(session: Session, servers: Places, node: str, other: str) -> Raw:
    """The pod that tries every server on its own node and on another."""
    contract = session.contract.kubernetes
    reached = targets(servers, contract.flows.ports, [node, other])
    return probe(session, CLIENT, node, {"try": {"tcp": reached, "timeout_s": contract.probes.connect_seconds}})


def targets(servers: Places, ports: list[int], nodes: list[str]) -> dict[str, list[Any]]:
    """Every port of every destination's servers on some nodes."""
    return {key(space, port, node): [places[node]["address"], port]
            for space, places in servers.items() for node in dict.fromkeys(nodes) if places[node]["address"]
            for port in ports}
