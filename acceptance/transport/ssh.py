"""OpenSSH: one connection a host, kept open by a control master, pinned host keys, batch mode."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acceptance.errors import WrongUse
from acceptance.site.contract import Ssh
from acceptance.site.inventory import Host
from acceptance.transport.local import run_process
from acceptance.transport.shell import Outcome

# ssh exits with 255 for its own errors, but a remote command may do so too: its own messages tell them apart
_SSH_FAILED = re.compile(
    r"^(ssh: |kex_exchange_identification|Connection (closed|reset|timed out)|Host key verification failed|"
    r"No .* host key is known|.*Permission denied \(|@@@@@@@|client_loop: |Timeout, server|mux_client|"
    r"Connection to \S+ (closed|timed out)|.*: Connection refused|Received disconnect|banner exchange)", re.MULTILINE)


def check_key_file(path: Path) -> None:
    """Raises WrongUse unless the private key is there, readable and nobody else's to read."""
    try:
        mode = path.stat().st_mode
        path.read_bytes()
    except OSError as error:
        raise WrongUse(f"ssh.private_key: {path}: cannot be read: {error.strerror}; "
                       "expected the ed25519 key of the operator") from None
    if stat.S_IMODE(mode) & 0o077:
        raise WrongUse(f"ssh.private_key: {path}: mode {stat.S_IMODE(mode):04o}, expected 0600; run: chmod 600 {path}")


@dataclass
class SshShell:
    """Runs commands on hosts of the inventory as `settings.user`. Close it to end the control masters."""

    settings: Ssh
    hosts: dict[str, Host]
    _folder: tempfile.TemporaryDirectory[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="acceptance-")

    def options(self, *, control: bool = True) -> list[str]:
        """ssh's options, none of which come from the user's own configuration."""
        s = self.settings
        pairs = {
            "BatchMode": "yes", "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes",
            "UserKnownHostsFile": os.path.expanduser(s.known_hosts), "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": f"{max(1, round(s.connect_timeout_s))}", "LogLevel": "ERROR",
            "ServerAliveInterval": "5", "ServerAliveCountMax": "2", "ForwardAgent": "no",
            # offered first, the others after it: OpenSSH 8.9 to 9.8 would take sntrup761, whose keys cost the operator
            # 70 ms of processor time a host and each host 8 ms. That one withstands quantum computers, this not.
            "KexAlgorithms": "^curve25519-sha256",
        }
        if control:
            pairs |= {"ControlMaster": "auto", "ControlPath": f"{self._folder.name}/%C", "ControlPersist": "60"}
        return ["-F", "none", "-i", os.path.expanduser(s.private_key), "-p", str(s.port), "-l", s.user,
                *(word for key, value in pairs.items() for word in ("-o", f"{key}={value}"))]

    def run(self, host: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float,
            sudo: bool = False) -> Outcome:
        """See `Shell.run`. ssh's own failures are "unreachable", a remote exit status of 255 is not."""
        remote = shlex.join([*(("sudo", "-n", "--") if sudo else ()), *argv])
        command = ["ssh", *self.options(), self.hosts[host].address, remote]
        outcome = run_process(command, stdin, deadline_s * self.settings.deadline_factor)
        if outcome.exit_code == 255 and _SSH_FAILED.search(outcome.stderr):
            lines = [line for line in outcome.stderr.strip().splitlines() if line.strip("@ ")]
            return Outcome("unreachable", None, outcome.stdout, outcome.stderr, outcome.seconds, lines[-1][:200])
        return outcome

    def close(self) -> None:
        """End the control masters and remove their sockets."""
        ending = [subprocess.Popen(["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "none"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                  for socket in Path(self._folder.name).iterdir()]
        deadline = time.monotonic() + 5
        for process in ending:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()
