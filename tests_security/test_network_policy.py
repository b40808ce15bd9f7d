"""Phase 5: who reaches whom between namespaces, tried by pods into every GPU node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from acceptance.checks import check
from acceptance.collectors.kubernetes.flows import following
from acceptance.errors import Unmeasured
from acceptance.measure.pairs import ARROW

if TYPE_CHECKING:
    from acceptance.facts.kubernetes import KubeFacts
    from acceptance.findings import Findings
    from acceptance.site.access import FlowCell
    from acceptance.site.load import Site

COLLECTOR = "kube-flows"
Ends = dict[tuple[str, str, str, int, str], tuple[str | None, tuple[str, ...]]]  # source, from, destination, port, on


@check("network-policy", phase=5, layer="security", area="security", needs=(COLLECTOR,), intrusive=True,
       clause="Security Validation / Network Policy Test",
       criterion="Between the namespaces exactly the contracted flows work, into every GPU node; each that must be "
                 "refused goes to a pod that its own namespace reaches",
       remedy="kubectl get networkpolicy -n NAMESPACE; an allowed flow that fails or a denied one that works into one "
              "node only: the policy engine on that node; everywhere: the policies of the destination")
def test_network_policy(site: Site, kube: KubeFacts, findings: Findings) -> None:
    flows, nodes = site.contract.kubernetes.flows, [host.name for host in site.group("gpu_nodes")]
    ends = _ends(kube, findings, list(flows.sources), nodes)
    cells = flows.cells()
    _judge_servers(kube, findings, flows.destinations, nodes)
    proven = {(cell.destination, cell.port, node) for cell in cells if cell.allowed for node in nodes
              for origin in origins(nodes, node)
              if ends.get((cell.source, origin, cell.destination, cell.port, node), (None,))[0] == "connected"}
    for cell in cells:
        for node in nodes:
            for origin in origins(nodes, node):
                at = (cell.source, origin, cell.destination, cell.port, node)
                end, evidence = ends.get(at, (None, ()))
                _judge(findings, cell, origin, node, end, evidence, (cell.destination, cell.port, node) in proven,
                       flows.denied_ends)


def origins(nodes: list[str], node: str) -> list[str]:
    """Nodes from which a node is tried: itself, and the one before it in the ring."""
    return list(dict.fromkeys([node, *(other for other in nodes if following(nodes, other) == node)]))


def _ends(kube: KubeFacts, findings: Findings, sources: list[str], nodes: list[str]) -> Ends:
    """How every connection ended that was tried; a finding for each client that gave no result."""
    found: Ends = {}
    for source in sources:
        for node in nodes:
            subject = f"{source}/{node}"
            try:
                result = kube.record(subject, COLLECTOR).document.get("result")
                tries = result.get("tcp") if isinstance(result, dict) else None
                if not isinstance(tries, dict):
                    raise Unmeasured("the client pod gave no result")
            except Unmeasured as problem:
                findings.blocked("client pod", str(problem), subject=subject)
                continue
            for name, one in tries.items():
                words = name.split(" ")
                if len(words) == 3 and words[1].isdigit() and isinstance(one, dict):
                    found[source, node, words[0], int(words[1]), words[2]] = (
                        _end(one, words[2]), kube.id(subject, COLLECTOR))
    return found


def _end(one: dict[str, Any], node: str) -> str | None:
    end = one.get("end")
    if end == "connected" and one.get("name") != node:
        return f"connected to {one.get('name') or 'somebody else'}"
    return end if isinstance(end, str) else None


def _judge_servers(kube: KubeFacts, findings: Findings, destinations: list[str], nodes: list[str]) -> None:
    found = kube.record("servers", COLLECTOR).document.get("servers")
    for space in destinations:
        for node in nodes:
            places = found.get(space) if isinstance(found, dict) else None
            one = places.get(node) if isinstance(places, dict) else None
            if not isinstance(one, dict) or not one.get("address"):
                why = one.get("problem") if isinstance(one, dict) else None
                findings.blocked("server pod", str(why or "was not started"), subject=f"{space}/{node}")


def _judge(findings: Findings, cell: FlowCell, origin: str, node: str, end: str | None, evidence: tuple[str, ...],
           proven: bool, denied: Sequence[str]) -> None:
    named: dict[str, Any] = {"subject": f"{cell.source}{ARROW}{cell.destination}:{cell.port} on {node}",
                             "evidence": evidence}
    quantity = f"from {origin}"
    if end is None:
        findings.blocked(quantity, "was not tried", required="connected" if cell.allowed else "refused", **named)
    elif cell.allowed:
        findings.equal(quantity, measured=end, required="connected", **named)
    elif not proven and not end.startswith("connected"):
        findings.blocked(quantity, "no allowed peer reached this pod: that it refuses others proves nothing",
                         required="refused", **named)
    else:
        findings.one_of(quantity, measured=end, required=denied, **named)
