"""pytest-testinfra on this suite's shell: `host` asks through the pinned connection, recorded and replayable.

    testinfra_hosts = ["acceptance://gpu_nodes"]    # a group or a host of the inventory; default: acceptance://all

    @pytest.mark.phase2
    def test_message_of_the_day(host):
        assert host.file("/etc/motd").contains("Authorised use only")

Registered as the connection `acceptance`; testinfra's own connections and options stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import testinfra.backend
from testinfra.backend.base import BaseBackend, CommandResult

from acceptance.errors import Unmeasured
from acceptance.transport.recorded import Answers

SCHEME = "acceptance"
SUDO = "sudo -n "
# what sudo says when it does not run the command at all; a test must not take that for the command's answer
_SUDO_REFUSED = re.compile(r"^sudo: |^Sorry, user .* is not allowed|is not in the sudoers file", re.MULTILINE)


@dataclass
class Trail:
    """What one test has asked of one host: ids of the evidence, and what could not be answered."""

    item: str
    answers: Answers
    evidence: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)


class AcceptanceBackend(BaseBackend):  # type: ignore[misc]
    """Runs testinfra's commands on one host of the inventory, for the test that `begin` named."""

    NAME = SCHEME

    def __init__(self, hostname: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(hostname, *args, **kwargs)
        self.trail: Trail | None = None

    def __repr__(self) -> str:
        return f"{SCHEME}://{self.hostname}"

    def begin(self, trail: Trail | None) -> None:
        """From now on every command belongs to this test, or, with None, to no test."""
        self.trail = trail

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """The command's result. Raises Unmeasured: host unreachable, no end in time, sudo refused, not in evidence."""
        del kwargs
        if self.trail is None:
            raise Unmeasured(f"{self.hostname}: `host` asks outside of a test that this run judges")
        text = self.get_command(command, *args)
        try:
            id, outcome = self.trail.answers.ask(self.trail.item, self.hostname, ["sh", "-c", text])
            self.trail.evidence.append(id)
            if outcome.status != "exited" or outcome.exit_code is None:
                raise Unmeasured(f"{self.hostname}: {outcome.reason()}: {text}")
            if text.startswith(SUDO) and outcome.exit_code == 1 and _SUDO_REFUSED.search(outcome.stderr):
                raise Unmeasured(f"{self.hostname}: sudo refused: {outcome.stderr.strip().splitlines()[-1]}: {text}")
        except Unmeasured as error:
            self.trail.unmeasured.append(str(error))
            raise
        return self.result(outcome.exit_code, text.encode(), outcome.stdout, outcome.stderr)

    def get_pytest_id(self) -> str:
        """The bare name, as for the checks of this suite: test_x[gpu-node-03]."""
        return str(self.hostname)

    def get_encoding(self) -> str:
        """What the shell decodes with."""
        return "utf-8"

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        """sudo that never asks for a password: nobody would answer."""
        user = f"-u {self.quote('%s', sudo_user)} " if sudo_user else ""
        return str(f"{SUDO}{user}-- " + self.quote("/bin/sh -c %s", command))


def register() -> None:
    """Make `acceptance://` known to testinfra."""
    testinfra.backend.BACKENDS[SCHEME] = f"{__name__}.{AcceptanceBackend.__name__}"
