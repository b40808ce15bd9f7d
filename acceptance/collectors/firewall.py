"""Proves the firewall by behaviour: an unlisted listener cannot be reached, every contracted TCP port can.

On each host a listener is started on every port to be judged where nobody listens yet, and proven up from the host
itself. Then the operator's host and one other node connect. A listener ends itself after a while, whatever happens
to the operator, and is ended at once when the connections are made.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from acceptance.checks import collector
from acceptance.collect import Session
from acceptance.collectors.on_node import answer, with_argument
from acceptance.errors import ParseError
from acceptance.site.contract import Contract
from acceptance.site.inventory import Host

OPERATOR = "operator"
COMMAND = ("python3", "-I", "-")  # with no further word: the sudoers file of the checks permits just this
LIFE_S = 60
CONNECT_S = 2.0
STEP_S = 15.0  # one host that hangs must not use up the time in which the others are judged


def judged_ports(contract: Contract, groups: tuple[str, ...]) -> list[int]:
    """TCP ports that are judged on a host: the contracted single ones, and the one that must be closed."""
    listed = [p.port for p in contract.ports_of(groups) if p.protocol == "tcp" and isinstance(p.port, int)]
    return sorted({*listed, contract.security.firewall.probe_closed_port})


def peer_of(host: str, listening: Sequence[str]) -> str | None:
    """The next host in order that answers, round the ring; None where there is no other."""
    others = [name for name in listening if name != host]
    return next((name for name in others if name > host), others[0] if others else None)


@collector("firewall-probe", intrusive=True, deadline_s=90,
           purpose="opening ports on every host for seconds, to see what the firewall lets through")
def collect(session: Session) -> None:
    """Records for each host the steps "listen", "connect" (from two origins) and "stop"."""
    mark = f"gca-{secrets.token_hex(4)}"  # a process name has at most 15 bytes
    hosts = session.hosts("all")
    up: set[str] = set()

    def listen(host: Host) -> None:
        argument = {"address": host.address, "ports": judged_ports(session.contract, host.groups)}
        if _run(session, host, "listen", argument | {"life_s": session.patient(LIFE_S), "mark": mark}):
            up.add(host.name)

    def connect(host: Host) -> None:
        argument = {"address": host.address, "ports": judged_ports(session.contract, host.groups)}
        for origin in (OPERATOR, peer_of(host.name, sorted(up))):
            if origin:
                _run(session, host, "connect", argument | {"timeout_s": session.patient(CONNECT_S)}, origin)

    def stop(host: Host) -> None:
        _run(session, host, "stop_listening", {"mark": mark})

    try:
        session.each(hosts, listen)
        session.each([host for host in hosts if host.name in up], connect)
    finally:
        session.each(hosts, stop)


def _run(session: Session, host: Host, step: str, argument: dict[str, Any], origin: str | None = None) -> bool:
    """One step about `host`, run on `origin` or on the host itself; whether it answered."""
    shell = session.local if origin == OPERATOR else session.shell
    outcome = shell.run(origin or host.name, COMMAND, stdin=with_argument(step, argument), sudo=origin is None,
                        deadline_s=min(STEP_S, session.contract.ssh.command_timeout_s))
    document: dict[str, Any] = {"step": step, "origin": origin, "argument": argument, "answer": None}
    try:
        document["answer"] = answer(outcome)
    except ParseError as problem:
        document["error"] = str(problem)
    session.record(host.name, command=COMMAND, outcome=outcome, document=document)
    return document["answer"] is not None
