"""sshd, ufw, accounts, sudoers."""

from __future__ import annotations

import re
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import from_json, integer, lines, listing, mapping, short, string

SSHD_KEYS = ("port", "permitrootlogin", "passwordauthentication", "kbdinteractiveauthentication",
             "pubkeyauthentication", "permitemptypasswords", "usepam")
NO_LOGIN = ("nologin", "false", "sync", "true", "halt", "shutdown")

_UFW_RULE = re.compile(r"(?P<to>\S.*?)\s+(?P<action>ALLOW|DENY|REJECT|LIMIT) (?P<direction>IN|OUT|FWD)\s+"
                       r"(?P<source>\S.*?)(?:\s+\((?:log|log-all)\))?(?:\s+\(out\))?(?:\s+#.*)?\s*")
_UFW_DEFAULT = re.compile(r"Default: (allow|deny|reject) \(incoming\), (allow|deny|reject) \(outgoing\), "
                          r"(allow|deny|reject|disabled) \(routed\)")
_ADDRESS = r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*)(?:/[0-9.]{1,15})?"
_PORTS = r"[0-9]{1,5}(?::[0-9]{1,5})?(?:,[0-9]{1,5}(?::[0-9]{1,5})?)*"
_UFW_END = re.compile(rf"(?:Anywhere|(?P<address>{_ADDRESS})|(?P<ports>{_PORTS})|"
                      rf"(?P<address2>{_ADDRESS}) (?P<ports2>{_PORTS}))(?:/(?P<protocol>[a-z][a-z0-9]*))?"
                      r"(?: \((?!v6\))[^()]+(?: \(v6\))?\))?(?: \(v6\))?(?: on (?P<interface>\S+))?")


def sshd_options(text: str) -> dict[str, str]:
    """`sshd -T`: options by name in lower case; values of repeated ones joined by blanks."""
    options: dict[str, str] = {}
    for line in lines(text, "sshd -T"):
        key, _, value = line.partition(" ")
        if not re.fullmatch("[a-z0-9]+", key):
            raise ParseError(f"sshd -T: expected an option and its value, found {short(line)}")
        options[key] = f"{options[key]} {value}" if key in options else value
    missing = [key for key in SSHD_KEYS if not options.get(key)]
    if missing:
        raise ParseError(f"sshd -T: not told: {', '.join(missing)}")
    return options


def ufw_status(text: str) -> dict[str, Any]:
    """`ufw status verbose`. ufw ends the list of rules with an empty line; without it the list was cut off."""
    body = lines(text, "ufw")
    if body == ["Status: inactive"]:
        return {"active": False, "default_incoming": None, "default_outgoing": None, "default_routed": None,
                "rules": []}
    if body[0] != "Status: active" or len(body) < 4:
        raise ParseError(f"ufw: expected Status: active or inactive, and defaults; found {short(text)}")
    defaults = [m.groups() for m in (_UFW_DEFAULT.fullmatch(line) for line in body) if m]
    if len(defaults) != 1 or not body[1].startswith("Logging: ") or not body[3].startswith("New profiles: "):
        raise ParseError(f"ufw: expected logging, defaults and new profiles; found {short(' / '.join(body[:4]))}")
    incoming, outgoing, routed = defaults[0]
    return {"active": True, "default_incoming": incoming, "default_outgoing": outgoing, "default_routed": routed,
            "rules": _ufw_rules(body[4:])}


def _ufw_rules(body: list[str]) -> list[dict[str, Any]]:
    if not any(line.strip() for line in body):
        return []
    if len(body) < 4 or body[0].strip() or body[-1].strip():
        raise ParseError("ufw: the list of rules is cut off")
    header, dashes = body[1].split(), body[2].split()
    if header != ["To", "Action", "From"] or dashes != ["--", "------", "----"]:
        raise ParseError(f"ufw: expected the heading of the rules, found {short(body[1])}")
    return [_ufw_rule(line) for line in body[3:] if line.strip()]


def _ufw_rule(line: str) -> dict[str, Any]:
    rule = _UFW_RULE.fullmatch(line)
    to, source = (_UFW_END.fullmatch(rule[side]) if rule else None for side in ("to", "source"))
    if not rule or not to or not source:
        raise ParseError(f"ufw: a rule that is not understood: {short(line)}")
    addresses = [end["address"] or end["address2"] or "any" for end in (to, source)]
    ports = source["ports"] or source["ports2"]  # a port of the sender: seldom meant, and no plain network
    return {
        "port": to["ports"] or to["ports2"] or "any", "protocol": to["protocol"] or source["protocol"] or "any",
        "destination": addresses[0], "source": f"{addresses[1]} port {ports}" if ports else addresses[1],
        "action": rule["action"].lower(), "direction": rule["direction"].lower(),
        "interface": to["interface"] or source["interface"],
        "v6": "(v6)" in rule["to"] + rule["source"] or any(":" in address for address in addresses),
    }


def passwd(text: str) -> list[dict[str, Any]]:
    """/etc/passwd, or accounts in its form."""
    users = []
    for line in lines(text, "passwd"):
        parts = line.split(":")
        if len(parts) != 7 or not parts[0]:
            raise ParseError(f"passwd: expected seven fields, found {short(line)}")
        shell = parts[6] or "/bin/sh"  # passwd(5): an empty field means /bin/sh
        users.append({"name": parts[0], "uid": integer(parts[2], f"passwd: {parts[0]}: uid"),
                      "gid": integer(parts[3], f"passwd: {parts[0]}: gid"), "shell": shell,
                      "login": shell.rsplit("/", 1)[-1] not in NO_LOGIN, "in_shadow": parts[1] == "x"})
    return users


def shadow_locked(text: str) -> dict[str, bool]:
    """/etc/shadow: whether no password fits, by user. An empty field means that none is needed: not locked."""
    locked = {}
    for line in lines(text, "shadow"):
        parts = line.split(":")
        if len(parts) != 9 or not parts[0]:
            raise ParseError("shadow: expected nine fields, found another number")
        locked[parts[0]] = parts[1] != "" and not re.match(r"\$[0-9a-z]|[./0-9A-Za-z]{13}$|_", parts[1])
    return locked


def sudo_principals(text: str) -> list[dict[str, Any]]:
    """`cvtsudoers -e -f json`: who is named by any rule, as {"kind": "username"|"usergroup"|..., "name": ...}."""
    document = mapping(from_json(text, "cvtsudoers"), "cvtsudoers")
    found = []
    for spec in listing(document.get("User_Specs"), "cvtsudoers: User_Specs"):
        users = listing(mapping(spec, "cvtsudoers: User_Specs").get("User_List"), "cvtsudoers: User_List")
        for entry in users:
            fields = mapping(entry, "cvtsudoers: User_List")
            kinds = [key for key in fields if key != "negated"]
            if len(kinds) != 1 or type(fields.get("negated", False)) is not bool:
                raise ParseError(f"cvtsudoers: a user that is not understood: {short(str(entry))}")
            if not fields.get("negated", False):
                name = fields[kinds[0]]
                text_name = str(name) if type(name) is int else string(name, "cvtsudoers: user")
                found.append({"kind": kinds[0], "name": text_name})
    return found
