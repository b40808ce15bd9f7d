"""Everything that this package raises on purpose.

AcceptanceError
├── WrongUse            the user's mistake: one line, exit code 4
│   ├── ContractError       site.yaml is missing, unreadable or does not say what it must
│   └── InventoryError      the inventory is, or disagrees with the contract
├── Unmeasured          a fact could not be had: the verdict is BLOCKED, never PASS
│   ├── ApiFailed           the Kubernetes API gave no usable answer: the verdict is BLOCKED
│   └── Busy                another run is trying things on the cluster
└── ParseError          a tool's output is not what the tool prints: the verdict is BLOCKED
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AcceptanceError(Exception):
    """Base of every error raised on purpose."""


class WrongUse(AcceptanceError):
    """The command cannot be carried out as given. The message is one line: what, expected, found, what to do."""


class ContractError(WrongUse):
    """The contract cannot be used. The message names file, key, what was expected and what was found."""


class InventoryError(WrongUse):
    """The inventory cannot be used, or names other hosts than the contract. Mend the file that is wrong."""


class Unmeasured(AcceptanceError):
    """A fact was asked for that nobody could measure; the message says why (host down, section failed, ...)."""


class ParseError(Unmeasured):
    """Text from a tool could not be understood. Never a default value: what cannot be parsed is not evidence."""


class ApiFailed(Unmeasured):
    """The Kubernetes API did not answer, refused, or answered with something incomplete; `evidence` shows each attempt.

    The message names the request and how its last attempt ended. A refusal (403) is mended by a right.
    """

    def __init__(self, message: str, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence: dict[str, Any] = dict(evidence or {})


class Busy(Unmeasured):
    """Another run is trying things on the cluster; the message names it. Wait for its end."""
