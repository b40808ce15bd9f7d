"""Phase 2, networking: what the fabric carries under load, and what it loses on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from acceptance.checks import check
from acceptance.errors import ParseError, Unmeasured
from acceptance.measure.ceilings import roce_payload_gbps, tcp_goodput_gbps
from acceptance.measure.counters import compare
from acceptance.measure.pairs import flow, flows
from acceptance.measure.suspects import suspects
from acceptance.parse.iperf3 import parse_iperf3
from acceptance.parse.perftest import parse_perftest_text

if TYPE_CHECKING:
    from acceptance.evidence import Evidence
    from acceptance.facts import NodeFacts
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract
    from acceptance.site.load import Site

CLAUSE = "Infrastructure Deployment / Network Validation"


@check("pair-bandwidth", phase=2, layer="networking", area="infra", needs=("pair-bandwidth",), intrusive=True,
       clause=CLAUSE,
       criterion="Every pair of GPU nodes reaches the contracted TCP bandwidth, each way",
       remedy="the suspect named first says where to look: a node (its port, cable, NUMA node, power setting) or one "
              "link; then iperf3 by hand between the two, with several processes")
def test_pair_bandwidth(site: Site, contract: Contract, evidence: Evidence, findings: Findings) -> None:
    fabric = contract.network.fabric
    ceiling = tcp_goodput_gbps(fabric.speed_mbps / 1000, fabric.mtu, tagged=fabric.vlan_mode == "tagged")
    names = [host.name for host in site.group("gpu_nodes")]

    def rate(document: Any) -> tuple[float, float]:
        return tcp_rate(document, fabric.bandwidth_processes, fabric.bandwidth_seconds)

    rates = _judge_flows(findings, evidence, "pair-bandwidth", names, fabric.pair_min_gbps, ceiling, rate)
    for first, second in flows(names):
        there, back = rates.get((first, second)), rates.get((second, first))
        if first < second and there and back:
            difference = 100 * abs(there - back) / max(there, back)
            findings.at_most("difference between the two ways", subject=f"{first}↔{second}", unit="%",
                             measured=round(difference, 1), required=fabric.pair_symmetry_percent)


def tcp_rate(document: Any, processes: int, seconds: float) -> tuple[float, float]:
    """What all clients of one flow received, in Gb/s, and the factor by which it may be too high. Raises ParseError.

    The data of all is divided by the longest of their times, and by the contracted time at least: on a busy host one
    end's clock for the test may run short. Clients that end at different times each had the port to themselves for a
    while, so the sum may still exceed what the port carried, by that time's share of the measurement.
    """
    clients = document["clients"]
    if len(clients) != processes:
        raise ParseError(f"{len(clients)} clients ran, expected {processes}")
    gbit, longest = 0.0, seconds
    for client in clients:
        if client["exit_code"] is None:
            raise ParseError(f"{document['client']}: iperf3 did not end in time; did {document['server']} go away?")
        if not client["stdout"].strip():
            raise ParseError(f"{document['client']}: {client['stderr'].strip()[-200:] or 'iperf3 printed nothing'}")
        result = parse_iperf3(client["stdout"])
        if result.seconds < 0.5 * seconds:
            raise ParseError(f"iperf3 measured {result.seconds:.1f} s of {seconds} s")
        gbit, longest = gbit + result.received_gbps * result.seconds, max(longest, result.seconds)
    ends = [client["end_s"] for client in clients]
    return gbit / longest, 1 + (max(ends) - min(ends)) / seconds


@check("rdma-bandwidth", phase=2, layer="networking", area="infra", needs=("rdma-bandwidth",), intrusive=True,
       clause=CLAUSE,
       criterion="Every pair of GPU nodes reaches the contracted RDMA bandwidth, each way",
       remedy="rdma-device and roce-qos first; then ib_write_bw by hand between the two, on the NUMA node of the card")
def test_rdma_bandwidth(site: Site, contract: Contract, evidence: Evidence, findings: Findings) -> None:
    fabric, mtu = contract.network.fabric, contract.network.rdma.active_mtu
    names = [host.name for host in site.group("gpu_nodes")]

    def rate(document: Any) -> tuple[float, float]:
        return rdma_rate(document, mtu), 1.0

    _judge_flows(findings, evidence, "rdma-bandwidth", names, fabric.rdma_pair_min_gbps,
                 roce_payload_gbps(fabric.speed_mbps / 1000, mtu), rate)


def rdma_rate(document: Any, mtu: int) -> float:
    """Average of one ib_write_bw run in Gb/s; 0 when no data moved. Raises ParseError."""
    [client] = document["clients"]
    if client["exit_code"] is None:
        raise ParseError(f"{document['client']}: ib_write_bw did not end in time; did {document['server']} go away?")
    if client["exit_code"]:
        raise ParseError(f"{document['client']}: {client['stderr'].strip()[-200:] or 'ib_write_bw failed'}")
    result = parse_perftest_text(client["stdout"])
    if result.mtu != mtu or result.link_type != "Ethernet":
        raise ParseError(f"measured with MTU {result.mtu} on {result.link_type}, expected {mtu} on Ethernet")
    return result.average_gbps if result.iterations else 0.0


def _judge_flows(findings: Findings, evidence: Evidence, collector: str, names: list[str], least: float, ceiling: float,
                 rate: Callable[[Any], tuple[float, float]]) -> dict[tuple[str, str], float]:
    """A finding for each ordered pair, then who is to blame for those that are slow."""
    rates: dict[tuple[str, str], float] = {}
    for source, target in flows(names):
        named: dict[str, Any] = {"subject": flow(source, target), "unit": "Gb/s"}
        try:
            record = evidence.one(collector, flow(source, target))
            named["evidence"] = (record.id,)
            document = record.document or {"failed": source, "reason": "nothing was recorded"}
            if "failed" in document:
                raise Unmeasured(f"{document['failed']}: {document['reason']}")
            measured, excess = rate(document)
        except Unmeasured as error:
            findings.blocked("bandwidth", str(error), required=least, **named)
            continue
        rates[source, target] = measured
        findings.at_least("bandwidth", measured=measured, required=least, **named)
        if measured > ceiling * excess:
            findings.fail("bandwidth beyond what the line can carry", "the measurement is wrong, not the line fast",
                          measured=measured, required=ceiling, **named)
    for suspect in suspects({pair: value >= least for pair, value in rates.items()}):
        findings.cause("cause of slow flows", suspect.sentence(), subject=suspect.subject,
                       evidence=[evidence.one(collector, flow(*pair)).id for pair, value in rates.items()
                                 if value < least and suspect.explains(*pair)])
    return rates


@check("fabric-errors", phase=2, layer="networking", area="infra", hosts="gpu_nodes", needs=("pair-bandwidth",),
       intrusive=True, clause=CLAUSE,
       criterion="No error, discard or retry counter of a fabric port grows during the bandwidth run",
       remedy="CRC or symbol errors: cable or transceiver; discards: PFC and buffers at the switch; retries: packets "
              "lost on the way")
def test_fabric_errors(node: NodeFacts, evidence: Evidence, findings: Findings) -> None:
    snapshots: dict[str, Any] = {}
    for record in evidence.of("pair-bandwidth", node.name):
        findings.evidence += (record.id,)
        if "error" in record.document:
            raise Unmeasured(f"counters {record.document.get('phase', 'around')} the load: {record.document['error']}")
        snapshots[record.document["phase"]] = record.document
    if set(snapshots) != {"before", "after"}:
        raise Unmeasured("the counters were not read both before and after the load")
    growth = compare(snapshots["before"], snapshots["after"])
    for name, by in growth.grew.items():
        findings.equal(f"{name} grew by", measured=by, required=0)
    if growth.missing:
        findings.blocked("counters", f"not there before or after: {', '.join(growth.missing)}")
    if growth.fell:
        findings.blocked("counters", f"reset in between: {', '.join(growth.fell)}")
    findings.equal("counters that grew", measured=len(growth.grew), required=0)
