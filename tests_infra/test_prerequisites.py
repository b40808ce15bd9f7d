"""Phase 1: what must be there before anything is deployed."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import combinations
from typing import TYPE_CHECKING

from acceptance.checks import check
from acceptance.errors import ParseError, Unmeasured
from acceptance.parse.ping import parse_ping
from acceptance.parse.tools import PARSERS, parse_version

if TYPE_CHECKING:
    from acceptance.evidence import Evidence
    from acceptance.facts import Cluster, NodeFacts
    from acceptance.findings import Findings
    from acceptance.site.contract import Contract
    from acceptance.site.load import Site


@check("tool-versions", phase=1, layer="prerequisites", area="infra", daily=False, needs=("tools",),
       clause="Prerequisites / Required Tools Checklist",
       criterion="kubectl, Helm and Ansible on the operator's host are at least as new as contracted",
       remedy="run the recorded command by hand; install or upgrade the tool, and mind which one comes first on PATH")
def test_tool_versions(contract: Contract, evidence: Evidence, findings: Findings) -> None:
    for tool, least in contract.tools.items():
        record = evidence.one("tools", tool)
        named = {"subject": tool, "evidence": (record.id,)}
        if record.command is None or record.outcome is None:
            findings.blocked("version", f"no way is known to ask {tool} for its version", **named)
            continue
        if not record.outcome.ok:
            findings.fail("version", f"{' '.join(record.command)}: {record.outcome.reason()}", required=least,
                          relation="≥", **named)
            continue
        try:
            version = PARSERS[tool](record.outcome.stdout)
        except ParseError as error:
            findings.fail("version", str(error), required=least, relation="≥", **named)
            continue
        findings.holds("version", version >= parse_version(least), measured=version.text, required=least, relation="≥",
                       **named)


@check("inventory", phase=1, layer="prerequisites", area="infra", daily=True, needs=(),
       clause="Environment Setup / Ansible Inventory",
       criterion="The inventory names exactly the contracted hosts, each with an address of its own in the node range",
       remedy="mend the inventory file, or agree on another contract")
def test_inventory(site: Site, findings: Findings) -> None:
    contract = site.contract
    for group, count in contract.hosts.items():
        findings.equal(f"hosts in {group}", measured=len(site.group(group)), required=count)
    names = [host.name for host in site.hosts]
    findings.empty("names used twice", measured=sorted({name for name in names if names.count(name) > 1}))
    for host in site.hosts:
        if not set(host.groups) & set(contract.hosts):
            findings.fail("group", f"in none of the contracted groups {', '.join(contract.hosts)}", subject=host.name,
                          measured=list(host.groups))
        same = [other.name for other in site.hosts if other.address == host.address]
        findings.equal(f"hosts at {host.address}", subject=host.name, measured=same, required=[host.name])
        _inside(findings, contract, host.name, host.address)


def _inside(findings: Findings, contract: Contract, name: str, address: str) -> None:
    network = contract.network.node_range
    usable = IPv4Address(address) in network and address not in map(
        str, (network.network_address, network.broadcast_address)
    )
    findings.equal(f"address {address} in node range {network}", subject=name, measured=usable, required=True)


@check("address-plan", phase=1, layer="prerequisites", area="infra", daily=False, needs=(),
       clause="Environment Setup / Ansible Inventory",
       criterion="Node, pod and service address ranges do not overlap, and every host's address is in the nodes' range "
                 "alone",
       remedy="choose ranges that do not overlap; kubeadm's default service range 10.96.0.0/12 contains 10.100.0.0/24")
def test_address_plan(contract: Contract, site: Site, findings: Findings) -> None:
    network = contract.network
    ranges = {"node": network.node_range, "pod": network.pod_range, "service": network.service_range}
    for (one, first), (other, second) in combinations(ranges.items(), 2):
        findings.equal(f"{one} range {first} and {other} range {second} overlap", measured=first.overlaps(second),
                       required=False)
    for host in site.hosts:
        inside = [name for name, addresses in ranges.items() if IPv4Address(host.address) in addresses]
        findings.equal("ranges that hold its address", subject=host.name, measured=inside, required=["node"])


@check("reachability", phase=1, layer="prerequisites", area="infra", hosts="all", daily=True, needs=("ping",),
       clause="Prerequisites / Validation Checklist",
       criterion="Every host answers the operator's host, without loss",
       remedy="no answer at all: power, cable, switch port, address; some loss: port error counters, cable, an address "
              "used twice")
def test_reachability(node: NodeFacts, contract: Contract, evidence: Evidence, findings: Findings) -> None:
    record = evidence.one("ping", node.name)
    outcome = record.outcome
    if outcome is None or outcome.status != "exited":
        raise Unmeasured(f"ping: {outcome.reason() if outcome else 'no outcome recorded'}")
    ping = parse_ping(outcome.stdout, outcome.stderr)
    named = {"evidence": (record.id,), "unit": "packets"}
    findings.equal("packets sent", measured=ping.sent, required=contract.network.ping_count, **named)
    findings.equal("packets lost", measured=ping.lost, required=0, reason=ping.trouble, **named)
    findings.equal("packets answered twice", measured=ping.duplicates, required=0,
                   reason="another host may have the same address", **named)


@check("host-names", phase=1, layer="prerequisites", area="infra", daily=False, needs=("facts", "operator-names"),
       clause="Environment Setup / Ansible Inventory",
       criterion="Every host's name resolves to its inventory address, on every host and on the operator's",
       remedy="getent ahostsv4 NAME on the host named; mend its /etc/hosts or the DNS zone")
def test_host_names(cluster: Cluster, site: Site, evidence: Evidence, findings: Findings) -> None:
    required = {host.name: [host.address] for host in site.hosts}
    here: dict[str, list[str] | None] = {}
    ids = []
    for name in required:
        record = evidence.one("operator-names", name)
        ids.append(record.id)
        # getent exits with 2 when the name is not known, which is an answer
        outcome = record.outcome
        if outcome is None or outcome.status != "exited" or outcome.exit_code not in (0, 2):
            here[name] = None
        else:
            here[name] = sorted({line.split()[0] for line in outcome.stdout.splitlines() if line.split()})
    _judge_names(findings, "operator", here, required, tuple(ids))
    for node in cluster:
        try:
            _judge_names(findings, node.name, {name: node.resolve.get(name) for name in required}, required,
                         (node.evidence_id,))
        except Unmeasured as error:
            findings.blocked("names", str(error), subject=node.name)


def _judge_names(findings: Findings, subject: str, found: dict[str, list[str] | None], required: dict[str, list[str]],
                 evidence: tuple[str, ...] = ()) -> None:
    unread = [name for name, addresses in found.items() if addresses is None]
    if unread:
        findings.blocked("names", f"not looked up: {', '.join(unread)}", subject=subject, evidence=evidence)
    wrong = [f"{name} is {', '.join(addresses) or 'unknown'}, not {required[name][0]}"
             for name, addresses in found.items() if addresses is not None and sorted(set(addresses)) != required[name]]
    findings.empty("names that resolve wrongly", subject=subject, measured=wrong, evidence=evidence)


@check("clock", phase=1, layer="prerequisites", area="infra", hosts="all", daily=True, needs=("clock",),
       clause="Prerequisites / Prerequisite Validation",
       criterion="Every host's clock agrees with the operator's",
       remedy="chronyc tracking on the host and here; whichever is off by itself is the one to mend")
def test_clock(node: NodeFacts, contract: Contract, evidence: Evidence, findings: Findings) -> None:
    readings: list[tuple[float, float, str]] = []
    for record in evidence.of("clock", node.name):
        if record.outcome is None or not record.outcome.ok:
            reason = record.outcome.reason() if record.outcome else "no outcome recorded"
            raise Unmeasured(f"the clock could not be read: {reason}")
        before, after = float(record.document["before_s"]), float(record.document["after_s"])
        try:
            there = float(record.outcome.stdout)
        except ValueError:
            raise ParseError(f"date printed no time: {record.outcome.stdout[:40]!r}") from None
        readings.append(((after - before) / 2, there - (before + after) / 2, record.id))
    if not readings:
        raise Unmeasured("the clock was not read")
    bound, difference, record_id = min(readings)
    allowed = contract.time.max_host_difference_s
    named = {"unit": "s", "evidence": (record_id,)}
    if bound < 0:
        findings.blocked("difference", "the operator's clock went backwards while it was compared", **named)
    elif abs(difference) <= allowed < abs(difference) + bound or abs(difference) - bound <= allowed < abs(difference):
        findings.blocked("difference", f"{difference:.3f} s, but known to {bound:.3f} s only: the answer took too long",
                         required=allowed, **named)
    else:
        findings.within("difference", measured=round(difference, 4), required=0, tolerance=allowed, **named)

