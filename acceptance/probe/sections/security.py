"""sshd, firewall, accounts, limits of a login session."""

from __future__ import annotations

import grp
import os
import re
from typing import Any

from acceptance.errors import Unmeasured
from acceptance.probe.parse import firewall as packet_filter
from acceptance.probe.parse import kernel, security
from acceptance.probe.run import Context, read

IPV6 = "/proc/net/if_inet6"  # not there in a kernel without IPv6


def sshd(context: Context) -> dict[str, Any]:
    return {"options": security.sshd_options(context.run(["sshd", "-T"]))}


def firewall(context: Context) -> dict[str, Any]:
    v6 = context.run(["ip6tables-save", "-t", "filter"]) if os.path.exists(IPV6) else None
    return packet_filter.firewall(context.run(["iptables-save", "-t", "filter"]), v6, read("/etc/ufw/ufw.conf"))


def accounts(context: Context) -> dict[str, Any]:
    users = security.passwd(context.run(["getent", "passwd"]))
    locked = security.shadow_locked(read("/etc/shadow"))
    found = [
        {"name": user["name"], "uid": user["uid"], "shell": user["shell"], "login": user["login"],
         "password_locked": user["in_shadow"] and locked.get(user["name"], False)} for user in users
    ]
    named = security.sudo_principals(context.run(["cvtsudoers", "-e", "-f", "json", "/etc/sudoers"]))
    local_groups = groups_are_local(read("/etc/nsswitch.conf"))
    sudoers = {name for principal in named for name in _people(principal, users, local_groups)}
    return {"users": found, "sudoers": sorted(sudoers)}


def groups_are_local(nsswitch: str) -> bool:
    """Whether groups come from this host's files alone: then a group that is not there has no members."""
    found = re.findall(r"^\s*group:\s*([^#\n]*)", nsswitch, re.MULTILINE)
    return len(found) == 1 and set(found[0].split()) <= {"files", "systemd", "compat"}


def _people(principal: dict[str, Any], users: list[dict[str, Any]], local_groups: bool) -> list[str]:
    """Who is meant by a name in sudoers. What cannot be resolved stays as it is written, to be seen."""
    kind, name = principal["kind"], principal["name"]
    if kind == "username":
        return [name]
    if kind == "userid":
        return [user["name"] for user in users if user["uid"] == int(name)] or [f"#{name}"]
    if kind not in ("usergroup", "usergid"):
        return [f"{kind} {name}"]
    try:
        group = grp.getgrnam(name) if kind == "usergroup" else grp.getgrgid(int(name))
    except KeyError:
        return [] if local_groups else [f"%{name}"]
    return [*group.gr_mem, *(user["name"] for user in users if user["gid"] == group.gr_gid)]


def limits(_: Context) -> dict[str, Any]:
    """Of the session that sshd opened for the user, not of root: sudo's own session has limits of its own."""
    return kernel.memlock(read(f"/proc/{session_process()}/limits"))


def session_process() -> int:
    """The topmost ancestor that runs as the user who called sudo; without sudo, the parent of the probe."""
    user = os.environ.get("SUDO_UID")
    pid, found = os.getppid(), None
    while pid > 1:
        status = read(f"/proc/{pid}/status")
        uid, parent = (re.search(rf"^{key}:\s+([0-9]+)", status, re.MULTILINE) for key in ("Uid", "PPid"))
        if not uid or not parent:
            raise Unmeasured(f"/proc/{pid}/status: no Uid or PPid")
        if user is None or uid.group(1) == user:
            found = pid
        if user is None:
            break
        pid = int(parent.group(1))
    if found is None:
        raise Unmeasured(f"no process of the login session of uid {user} among the probe's ancestors")
    return found
