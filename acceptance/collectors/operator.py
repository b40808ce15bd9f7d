"""What the operator's host can see: its tools, names, the way to each host, and each host's clock."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector

if TYPE_CHECKING:
    from acceptance.collect import Session
    from acceptance.site.inventory import Host

OPERATOR = "operator"
VERSION_COMMANDS = {
    "kubectl": ["kubectl", "version", "--client", "-o", "json"],
    "helm": ["helm", "version", "--template", "{{.Version}}"],
    "ansible-core": ["ansible", "--version"],
}
CLOCK_READINGS = 3


@collector("tools", purpose="asking the operator's tools for their versions", deadline_s=60)
def tools(session: Session) -> None:
    """Each contracted tool's own statement; a tool that nobody knows how to ask is recorded without an outcome."""
    for tool in session.contract.tools:
        command = VERSION_COMMANDS.get(tool)
        outcome = session.local.run(OPERATOR, command, deadline_s=20) if command else None
        session.record(tool, command=command, outcome=outcome)


@collector("ping", purpose="pinging every host from here", deadline_s=60)
def ping(session: Session) -> None:
    """`contract.network.ping_count` echoes to each host, all hosts at once."""
    count = session.contract.network.ping_count

    def one(host: Host) -> None:
        words = ["env", "LC_ALL=C", "ping", "-n", "-c", str(count), "-i", "0.2", "-W", "1", host.address]
        outcome = session.local.run(OPERATOR, words, deadline_s=count * 0.2 + 10)
        session.record(host.name, command=words, outcome=outcome)

    session.each(session.hosts("all"), one)


@collector("operator-names", purpose="resolving the hosts' names here", deadline_s=60)
def operator_names(session: Session) -> None:
    """What each inventory name resolves to on the operator's host, through its ordinary resolver."""

    def one(host: Host) -> None:
        words = ["getent", "ahostsv4", host.name]
        session.record(host.name, command=words, outcome=session.local.run(OPERATOR, words, deadline_s=10))

    session.each(session.hosts("all"), one)


@collector("ssh-access", purpose="logging in to every host afresh", deadline_s=120)
def ssh_access(session: Session) -> None:
    """The key file, and one new connection a host (no shared one) that says who it is and tries sudo."""
    ssh = session.contract.ssh
    key = Path(ssh.private_key).expanduser()
    session.record(OPERATOR, document=key_file(key))
    words = ["ssh-keygen", "-l", "-f", str(key)]
    session.record("key", command=words, outcome=session.local.run(OPERATOR, words, deadline_s=10))

    def one(host: Host) -> None:
        words = login_command(session, host)
        outcome = session.local.run(OPERATOR, words, deadline_s=ssh.connect_timeout_s + 20)
        session.record(host.name, command=words, outcome=outcome)

    session.each(session.hosts("all"), one)


def key_file(path: Path) -> dict[str, Any]:
    """Whether the private key is there, and who may read it. The key itself is not read."""
    try:
        state = path.stat()
    except OSError as error:
        return {"path": str(path), "error": error.strerror or str(error)}
    return {"path": str(path), "mode": f"{stat.S_IMODE(state.st_mode):04o}", "file": stat.S_ISREG(state.st_mode)}


def login_command(session: Session, host: Host) -> list[str]:
    """ssh by key alone, host key pinned, sharing no connection; sudo ignores remembered passwords (-k)."""
    ssh = session.contract.ssh
    options = {
        "BatchMode": "yes", "ControlMaster": "no", "ControlPath": "none", "PreferredAuthentications": "publickey",
        "IdentitiesOnly": "yes", "StrictHostKeyChecking": "yes", "GlobalKnownHostsFile": "/dev/null",
        "UserKnownHostsFile": str(Path(ssh.known_hosts).expanduser()), "UpdateHostKeys": "no",
        "ConnectTimeout": f"{max(1, round(ssh.connect_timeout_s))}", "LogLevel": "ERROR",
    }
    key = str(Path(ssh.private_key).expanduser())
    words = ["env", "LC_ALL=C", "ssh", "-F", "none", "-T", "-p", str(ssh.port), "-i", key]
    words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [*words, f"{ssh.user}@{host.address}", "echo user=$(id -un); sudo -k -n true; echo sudo=$?"]


@collector("clock", purpose="comparing the hosts' clocks with this one", deadline_s=60)
def clock(session: Session) -> None:
    """Each host's clock between two readings of this one; of several tries the quickest says most."""
    words = ["date", "+%s.%N"]

    def one(host: Host) -> None:
        for _ in range(CLOCK_READINGS):
            before = time.time()
            outcome = session.shell.run(host.name, words, deadline_s=session.contract.ssh.command_timeout_s)
            after = time.time()
            session.record(host.name, command=words, outcome=outcome, document={"before_s": before, "after_s": after})
            if not outcome.ok:
                return

    session.each(session.hosts("all"), one)
