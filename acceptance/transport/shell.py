"""What running a command somewhere means: the request, and the three distinct ways in which it can end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

Status = Literal["exited", "timed-out", "unreachable"]


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `exit_code` is None unless it exited; `detail` says why it did not. Times in seconds."""

    status: Status
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    detail: str = ""

    @property
    def ok(self) -> bool:
        """It ran to its end and exited with 0."""
        return self.status == "exited" and self.exit_code == 0

    def reason(self) -> str:
        """Why it is not ok, in one line."""
        if self.status != "exited":
            return f"{self.status.replace('-', ' ')}: {self.detail}"
        last = self.stderr.strip().splitlines() or self.stdout.strip().splitlines() or ["no output"]
        return f"exit status {self.exit_code}: {last[-1][:200]}"

    def as_json(self) -> dict[str, Any]:
        """Plain data for the evidence."""
        return asdict(self)


class Shell(Protocol):
    """Runs a command on a host of the inventory, under a deadline. Never raises for what the host does."""

    def run(self, host: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float,
            sudo: bool = False) -> Outcome:
        """The outcome; `argv` is not given to a shell of the operator's host."""
        ...
