"""Tries to log in to every host by password and as root; a well hardened host refuses all of it."""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from acceptance.checks import collector
from acceptance.collect import Session
from acceptance.site.contract import Ssh
from acceptance.site.inventory import Host


@dataclass(frozen=True)
class Attempt:
    """One login that must be refused: `method` is "password" (also keyboard-interactive) or "key"."""

    user: str
    method: str


def attempts(probe_user: str) -> tuple[Attempt, ...]:
    """All that is tried on a host: passwords as the contract's user and as root, the operator's key as root."""
    users = dict.fromkeys((probe_user, "root"))
    return (*(Attempt(user, "password") for user in users), Attempt("root", "key"))


def ssh_command(ssh: Ssh, address: str, attempt: Attempt, askpass: Path) -> list[str]:
    """OpenSSH for one attempt. SSH_ASKPASS answers a password prompt, should there be one, so nothing can wait."""
    options = [
        "ControlPath=none", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={Path(ssh.known_hosts).expanduser()}",
        "GlobalKnownHostsFile=/dev/null",
        f"ConnectTimeout={max(1, round(ssh.connect_timeout_s))}", "NumberOfPasswordPrompts=1", "LogLevel=INFO",
    ]
    if attempt.method == "key":
        key = str(Path(ssh.private_key).expanduser())
        options += ["BatchMode=yes", "IdentitiesOnly=yes", f"IdentityFile={key}", "PreferredAuthentications=publickey"]
    else:
        options += ["BatchMode=no", "PubkeyAuthentication=no", "PreferredAuthentications=password,keyboard-interactive"]
    flags = [part for option in options for part in ("-o", option)]
    environment = ["env", f"SSH_ASKPASS={askpass}", "SSH_ASKPASS_REQUIRE=force", "LC_ALL=C"]
    return [*environment, "ssh", "-F", "none", "-p", str(ssh.port), *flags, f"{attempt.user}@{address}", "true"]


@collector("ssh-password", purpose="trying password and root logins that must be refused", deadline_s=90)
def collect(session: Session) -> None:
    """Records one outcome for each attempt and host; a host that does not answer the first is not tried again.

    The password is random, so that no attempt can succeed by luck.
    """
    ssh = session.contract.ssh
    with tempfile.TemporaryDirectory(prefix="acceptance-") as folder:
        askpass = Path(folder) / "askpass"
        askpass.write_text(f"#!/bin/sh\necho {secrets.token_hex(16)}\n")
        askpass.chmod(0o700)

        def try_all(host: Host) -> None:
            for attempt in attempts(session.contract.security.ssh_probe_user):
                command = ssh_command(ssh, host.address, attempt, askpass)
                outcome = session.local.run(host.name, command, deadline_s=ssh.connect_timeout_s + 10)
                session.record(host.name, command=command, outcome=outcome,
                               document={"user": attempt.user, "method": attempt.method})
                if outcome.exit_code != 0 and "Permission denied" not in outcome.stderr:
                    return

        session.each(session.hosts("all"), try_all)
