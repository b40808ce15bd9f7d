"""sshd, accounts, sudoers."""

from __future__ import annotations

import re
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import from_json, integer, lines, listing, mapping, short, string

SSHD_KEYS = ("port", "permitrootlogin", "passwordauthentication", "kbdinteractiveauthentication",
             "pubkeyauthentication", "permitemptypasswords", "usepam")
NO_LOGIN = ("nologin", "false", "sync", "true", "halt", "shutdown")


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
