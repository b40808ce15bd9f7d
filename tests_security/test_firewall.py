"""The firewall lets in exactly what the contract lists: its rules, and what connections meet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from acceptance.checks import check
from acceptance.collectors.firewall import OPERATOR, judged_ports
from acceptance.evidence import Evidence, Record
from acceptance.facts import NodeFacts
from acceptance.facts.sections import FirewallRule
from acceptance.findings import Findings
from acceptance.site.contract import Contract

ANYWHERE = IPv4Network("0.0.0.0/0")
CLOSED = ("timed out", "refused")
CLAUSE = "Infrastructure Deployment / Firewall Configuration"


@check("firewall", phase=2, layer="security", area="security", hosts="all", daily=True, clause=CLAUSE,
       criterion="The firewall of each host is on, also after a reboot, denies by default, and exactly the contracted "
                 "rules are in force in the kernel",
       remedy="compare ufw status verbose with iptables-save on the host: ufw delete what is extra, add what is "
              "missing, ufw reload what is not in force, or list the port with its reason in security.firewall of the "
              "contract")
def test_firewall(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    firewall, required = node.firewall, contract.security.firewall
    findings.equal("firewall on", measured=firewall.active, required=True)
    if not firewall.active:
        return
    findings.equal("firewall on after a reboot", measured=firewall.at_boot, required=True)
    findings.equal("default, incoming", measured=firewall.default_incoming, required=required.default_incoming)
    findings.equal("default, routed", measured=firewall.default_routed, required=required.default_routed)
    if firewall.ipv6:
        findings.equal("default, incoming (IPv6)", measured=firewall.default_incoming_v6,
                       required=required.default_incoming)
        findings.equal("default, routed (IPv6)", measured=firewall.default_routed_v6, required=required.default_routed)
    ports = contract.ports_of(node.groups)
    twins = {f"{p.port}/{p.protocol}" for p in ports if p.source == ANYWHERE}  # ufw writes these for IPv6 too
    measured = [
        _text(rule) for rule in firewall.rules if not (rule.v6 and f"{rule.port}/{rule.protocol}" in twins)
    ]
    origins = {str(p.source): "any" if p.source == ANYWHERE else str(p.source) for p in ports}
    findings.same_set("rules", measured=measured,
                      required=[f"allow in {p.port}/{p.protocol} from {origins[str(p.source)]}" for p in ports])


def _text(rule: FirewallRule) -> str:
    text = f"{rule.action} {rule.direction} {rule.port}/{rule.protocol} from {rule.source}"
    to = "" if rule.destination == "any" else f" to {rule.destination}"
    remark = f" [{rule.remark}]" if rule.remark else ""
    return text + to + (f" on {rule.interface}" if rule.interface else "") + (" (IPv6)" if rule.v6 else "") + remark


@check("firewall-behaviour", phase=2, layer="security", area="security", hosts="all", intrusive=True, clause=CLAUSE,
       needs=("firewall-probe",),
       criterion="A listener on an unlisted port of any host cannot be reached; contracted TCP ports can",
       remedy="ufw status verbose and nft list ruleset on the host; a reachable unlisted port is a missing default "
              "deny, an unreachable contracted one a missing rule or a filter in between")
def test_firewall_behaviour(node: NodeFacts, contract: Contract, findings: Findings, evidence: Evidence) -> None:
    steps: dict[str, list[Record]] = {"listen": [], "connect": [], "stop_listening": []}
    problem = ""
    for record in evidence.of("firewall-probe", node.name):
        if "step" in record.document:
            steps[record.document["step"]].append(record)
        else:
            problem = record.document.get("error", "a record that no step of the probe makes")
    problem = problem or _unproven(steps, contract)
    if problem:
        findings.blocked("connections", problem)
        return
    listening = _answer(steps["listen"][0])["ports"]
    for record in steps["connect"]:
        for port in judged_ports(contract, node.groups):
            _judge(findings, contract, node.groups, record, port, listening.get(str(port)) or {})


def _answer(record: Record) -> dict[str, Any]:
    found = record.document["answer"]
    return found if isinstance(found, dict) else {}


def _unproven(steps: dict[str, list[Record]], contract: Contract) -> str:
    """Why what was seen proves nothing, or nothing."""
    for record in (*steps["listen"], *steps["connect"], *steps["stop_listening"]):
        if not _answer(record):
            where = record.document["origin"] or "the host"
            return f"step {record.document['step']} on {where} gave no answer: {record.document.get('error', '')}"
    if not steps["listen"] or not steps["stop_listening"]:
        return "the listener's start or end is not recorded"
    if not _answer(steps["stop_listening"][0]).get("stopped"):
        return "the listener had ended before the connections were over"
    origins = {record.document["origin"] for record in steps["connect"]}
    wanted = 2 if sum(contract.hosts.values()) > 1 else 1
    if OPERATOR not in origins or len(origins) < wanted:
        return f"connections were tried from {', '.join(sorted(origins)) or 'nowhere'} only"
    return ""


def _judge(findings: Findings, contract: Contract, groups: tuple[str, ...], record: Record, port: int,
           listener: dict[str, Any]) -> None:
    answer, origin = _answer(record), record.document["origin"]
    quantity = f"TCP port {port} from " + ("the operator's host" if origin == OPERATOR else str(origin))
    if not listener.get("up"):
        why = f"nothing listens there, and the check cannot: {listener.get('error', 'not tried')}"
        findings.blocked(quantity, why, evidence=[record.id])
        return
    measured = answer["ends"].get(str(port))
    allowed = any(IPv4Address(answer["origin"]) in p.source for p in contract.ports_of(groups)
                  if p.protocol == "tcp" and p.port == port) if answer["origin"] else False
    if allowed:
        findings.equal(quantity, measured=measured, required="connected", evidence=[record.id])
    elif measured != "connected" and not listener.get("ours"):
        findings.blocked(quantity, "another program listened there, and may have ended meanwhile", evidence=[record.id])
    elif "connected" not in answer["ends"].values():
        findings.blocked(quantity, "no port of the host can be reached from there: a closed one proves nothing",
                         evidence=[record.id])
    else:
        findings.one_of(quantity, measured=measured, required=CLOSED, evidence=[record.id])
