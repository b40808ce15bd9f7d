"""Phase 2, networking: the fabric ports themselves, and whether full-size packets pass between all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.checks import check
from acceptance.errors import Unmeasured
from acceptance.measure.pairs import ARROW, flow, flows
from acceptance.measure.suspects import suspects
from acceptance.parse.ping import parse_ping

if TYPE_CHECKING:
    from acceptance.evidence import Evidence, Record
    from acceptance.facts import NodeFacts
    from acceptance.facts.sections import Interface
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract
    from acceptance.site.load import Site


def fabric_port(node: NodeFacts, contract: Contract) -> Interface | None:
    """The fabric port's facts, or None when the node has no such interface. Raises Unmeasured."""
    return node.net.interfaces.get(contract.network.fabric.interface)


@check("link", phase=2, layer="networking", area="infra", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / Network Configuration",
       criterion="The fabric port of every GPU node is up at its contracted speed, full duplex, and does not flap",
       remedy="ethtool PORT on the node; reseat cable and transceiver; compare with the switch port's log")
def test_link(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    fabric, port = contract.network.fabric, fabric_port(node, contract)
    findings.equal("fabric port is there", measured=port is not None, required=True,
                   reason=f"the node has no interface {fabric.interface}")
    if port is None:
        return
    findings.equal("state", measured=port.operstate, required="up")
    findings.equal("speed", measured=port.speed_mbps, required=fabric.speed_mbps, unit="Mb/s")
    findings.equal("duplex", measured=port.duplex, required="full")
    findings.at_most("carrier changes since boot", measured=port.carrier_changes, required=fabric.max_carrier_changes)


@check("mtu", phase=2, layer="networking", area="infra", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / Network Configuration",
       criterion="The fabric port of every GPU node has the contracted MTU",
       remedy="ip link show PORT on the node; set the MTU where the port is configured, so that it survives a boot")
def test_mtu(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    port = fabric_port(node, contract)
    findings.equal("MTU", measured=None if port is None else port.mtu, required=contract.network.fabric.mtu,
                   unit="bytes", reason="the node has no such port" if port is None else "")


@check("vlan", phase=2, layer="networking", area="infra", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / Network Configuration",
       criterion="The fabric port of every GPU node is in the VLAN of the GPU traffic",
       remedy="access mode: lldpcli show neighbors details on the node, then the switch port; tagged mode: "
              "/proc/net/vlan/config")
def test_vlan(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    fabric = contract.network.fabric
    if fabric.vlan_mode == "tagged":
        ids = [vlan.id for vlan in node.net.vlans.values() if vlan.parent == fabric.interface]
        findings.equal("VLAN devices on the fabric port carry the contracted id", measured=fabric.vlan_id in ids,
                       required=True, reason=f"ids found: {sorted(ids) or 'none'}, contracted: {fabric.vlan_id}")
        return
    told = [neighbour for neighbour in node.net.lldp if neighbour.interface == fabric.interface]
    if not told:
        raise Unmeasured(f"no switch announces itself on {fabric.interface} by LLDP: its VLAN is not known")
    findings.same_set("VLAN ids that the switch port announces", required=[fabric.vlan_id],
                      measured=[number for neighbour in told for number in neighbour.vlan_ids])


@check("jumbo-path", phase=2, layer="networking", area="infra", needs=("jumbo-ping",), daily=True,
       clause="Infrastructure Deployment / Network Configuration",
       criterion="Packets that fill the contracted MTU pass unfragmented between every two GPU nodes, in both orders",
       remedy="MTU of the switch port that is named (a switch needs more than the host: 9216), then of the node's port")
def test_jumbo_path(site: Site, evidence: Evidence, findings: Findings) -> None:
    names = [host.name for host in site.group("gpu_nodes")]
    passed: dict[tuple[str, str], bool] = {}
    ids: dict[tuple[str, str], str] = {}
    for source, target in flows(names):
        subject = flow(source, target)
        try:
            lost, reason, record = _jumbo(evidence, subject)
        except Unmeasured as error:
            findings.blocked("full-size packets lost", str(error), subject=subject, required=0)
            continue
        passed[source, target], ids[source, target] = lost == 0, record.id
        findings.equal("full-size packets lost", subject=subject, measured=lost, required=0, reason=reason,
                       unit="packets", evidence=(record.id,))
    for suspect in suspects(passed):
        findings.cause("where the packets are lost", suspect.sentence(), subject=suspect.subject,
                       evidence=[ids[pair] for pair, fine in passed.items() if not fine and suspect.explains(*pair)])


def _jumbo(evidence: Evidence, subject: str) -> tuple[int, str, Record]:
    record = evidence.one("jumbo-ping", subject)
    outcome = record.outcome
    if outcome is None:
        raise Unmeasured("no outcome recorded")
    if outcome.status != "exited":
        raise Unmeasured(f"{subject.partition(ARROW)[0]}: {outcome.reason()}")
    ping = parse_ping(outcome.stdout, outcome.stderr)
    return ping.lost, ping.trouble, record
