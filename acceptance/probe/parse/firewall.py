"""The kernel's packet filter as ufw fills it: `iptables-save -t filter` and `ip6tables-save -t filter`.

Not `ufw status`, which tells what ufw was told, whatever the kernel does, and takes a host twenty times as long.
"""

from __future__ import annotations

import re
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import lines, short

_CHAIN = re.compile(r":(\S+) (\S+) \[[0-9]+:[0-9]+\]")
_RULE = re.compile(r"-A (\S+) (\S.*)")
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
_ENABLED = re.compile(r"^ENABLED=[\"']?(\w+)[\"']?\s*$", re.MULTILINE)
# what ufw itself accepts before its users' rules: loopback, answers, ICMP, DHCP, multicast name and service discovery
_SHIPPED = re.compile(
    r"(?:-i lo|-m conntrack --ctstate RELATED,ESTABLISHED|(?:-s fe80::/10 )?-p (?:ipv6-)?icmp .*|"
    r"-p udp -m udp --sport 67 --dport 68|-s fe80::/10 -d fe80::/10 -p udp -m udp --sport 547 --dport 546|"
    r"-d (?:224\.0\.0\.251/32|ff02::fb/128) -p udp -m udp --dport 5353|"
    r"-d (?:239\.255\.255\.250/32|ff02::f/128) -p udp -m udp --dport 1900) -j ACCEPT")
_POLICIES = {"ACCEPT": "allow", "DROP": "deny"}
_ACTIONS = {"ACCEPT": "allow", "DROP": "deny", "REJECT": "reject"}
_FIELDS = {"-s": "source", "-d": "destination", "-p": "protocol", "-j": "action", "--dport": "port",
           "--dports": "port", "--sport": "sent_from", "--sports": "sent_from", "-i": "into", "-o": "out_of"}
_HARMLESS = {"deny", "reject", "LOG", "NFLOG", "RETURN"}
_SILENT = {"--comment", "--reject-with"}  # say nothing about what is let in
_MATCHES = {"tcp", "udp", "multiport", "comment"}  # of `-m`: those that only carry the options above
USER_CHAINS = {"input": "in", "forward": "fwd", "output": "out"}

Table = tuple[dict[str, str], dict[str, list[str]]]


def table(text: str, source: str) -> Table:
    """Policy by built-in chain, and the rules of each chain as they are printed behind its name."""
    body = _without_remarks(lines(text, source))
    if body[:1] != ["*filter"] or body[-1:] != ["COMMIT"]:
        raise ParseError(f"{source}: expected one table filter from *filter to COMMIT, found {short(text)}")
    policies: dict[str, str] = {}
    rules: dict[str, list[str]] = {}
    for line in body[1:-1]:
        chain, rule = _CHAIN.fullmatch(line), _RULE.fullmatch(line)
        if chain:
            policies[chain[1]] = chain[2]
            rules[chain[1]] = []
        elif rule and rule[1] in rules:
            rules[rule[1]].append(rule[2])
        else:
            raise ParseError(f"{source}: a line that is not understood: {short(line)}")
    for name in ("INPUT", "FORWARD", "OUTPUT"):
        if policies.get(name) not in _POLICIES:
            raise ParseError(f"{source}: chain {name}: expected policy ACCEPT or DROP, found {policies.get(name)}")
    return policies, rules


def _without_remarks(body: list[str]) -> list[str]:
    """Remarks stand before and behind the table; one within would be a rule that was damaged."""
    ends = [number for number, line in enumerate(body) if line and not line.startswith("#")]
    return body[ends[0]:ends[-1] + 1] if ends else []


def firewall(v4: str, v6: str | None, settings: str) -> dict[str, Any]:
    """What is in force, `v6` None where the kernel has no IPv6, and whether /etc/ufw/ufw.conf turns it on at boot."""
    enabled = _ENABLED.findall(settings)
    if len(enabled) != 1:
        raise ParseError(f"ufw.conf: expected one line ENABLED=, found {len(enabled)}")
    policies, rules = table(v4, "iptables-save")
    found: dict[str, Any] = {
        "active": _leads_to_users_rules(rules), "at_boot": enabled[0].lower() == "yes",
        "ipv6": v6 is not None,
        **_defaults(policies, rules, "ufw", ""), "default_incoming_v6": None, "default_routed_v6": None,
        "rules": _rules(rules, "ufw", v6=False)}
    if v6 is not None:
        policies, rules = table(v6, "ip6tables-save")
        found.update(_defaults(policies, rules, "ufw6", "_v6"))
        found["rules"] += _rules(rules, "ufw6", v6=True)
    return found


def _leads_to_users_rules(rules: dict[str, list[str]]) -> bool:
    return "-j ufw-before-input" in rules["INPUT"] and "-j ufw-user-input" in rules.get("ufw-before-input", ())


def _defaults(policies: dict[str, str], rules: dict[str, list[str]], ufw: str, suffix: str) -> dict[str, str]:
    """Of ufw's three words, as the kernel knows them: "reject" is policy DROP behind a rule that rejects everything."""
    words = {}
    for chain, name in (("INPUT", "incoming"), ("FORWARD", "routed")):
        rejects = any(rule.startswith("-j REJECT") for rule in rules.get(f"{ufw}-reject-{chain.lower()}", ()))
        words[f"default_{name}{suffix}"] = "reject" if rejects else _POLICIES[policies[chain]]
    return words


def _rules(rules: dict[str, list[str]], ufw: str, v6: bool) -> list[dict[str, Any]]:
    """The users' rules, and whatever is accepted ahead of them that ufw does not bring along."""
    found = []
    for chain in ("INPUT", f"{ufw}-before-input"):
        ahead = [_rule(text, "in", v6, f"ahead of ufw's rules, in {chain}") for text in rules.get(chain, ())
                 if not _SHIPPED.fullmatch(text)]
        found += [rule for rule in ahead if rule["action"] not in rules and rule["action"] not in _HARMLESS]
    for chain, direction in USER_CHAINS.items():
        found += [_rule(rule, direction, v6) for rule in rules.get(f"{ufw}-user-{chain}", ())
                  if " -m recent " not in rule and f"{ufw}-user-logging-" not in rule]
    return found


def _rule(text: str, direction: str, v6: bool, *remarks: str) -> dict[str, Any]:
    """One rule; words that have no field of their own are kept, so that none passes for a simpler rule."""
    fields: dict[str, str] = {}
    others: list[str] = []
    words = iter(_WORD.findall(text))
    for word in words:
        if word in _FIELDS and _FIELDS[word] not in fields and others[-1:] != ["!"]:
            fields[_FIELDS[word]] = next(words, "")
        elif word == "-m":
            match = next(words, "")
            others += [] if match in _MATCHES else [word, match]
        elif word in _SILENT:
            next(words, "")
        else:
            others.append(word)
    ends = {end: re.sub(r"/(?:32|128)$", "", fields.get(end, "any")) for end in ("source", "destination")}
    sent_from = fields.get("sent_from")  # a port of the sender: seldom meant, and no plain network
    interfaces = [fields[name] for name in ("into", "out_of") if name in fields]
    target = fields.get("action", "nothing")
    return {
        "port": fields.get("port", "any"), "protocol": fields.get("protocol", "any"),
        "destination": ends["destination"], "source": f"{ends['source']} port {sent_from}" if sent_from
        else ends["source"], "action": "limit" if target.endswith("-user-limit-accept") else
        _ACTIONS.get(target, target), "direction": direction, "interface": " to ".join(interfaces) or None, "v6": v6,
        "remark": " ".join([*others, *remarks]),
    }
