"""Shells whose answers are evidence: one asks the host and records, one answers from what was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence, Record, Recorder
from acceptance.transport.shell import Outcome, Shell


class Answers(Protocol):
    """Answers commands with records of the evidence. `item` is the test that asks."""

    def ask(self, item: str, host: str, argv: Sequence[str]) -> tuple[str, Outcome]:
        """Id of the record, and the outcome. Raises Unmeasured where a recorded run has no such answer."""
        ...


@dataclass(frozen=True)
class LiveAnswers:
    """Asks the host, under a deadline, and records what comes before anybody sees it."""

    shell: Shell
    recorder: Recorder
    collector: str
    deadline_s: float

    def ask(self, item: str, host: str, argv: Sequence[str]) -> tuple[str, Outcome]:
        """See `Answers.ask`. The outcome is the one read back from the evidence, so that a replay sees the same."""
        outcome = self.shell.run(host, argv, deadline_s=self.deadline_s)
        record = self.recorder.record(self.collector, host, command=argv, outcome=outcome, document={"item": item})
        assert record.outcome is not None
        return record.id, record.outcome


@dataclass(frozen=True)
class RecordedAnswers:
    """Answers the nth question of a test with its nth recorded answer.

    A test may ask what only another one asked when it was recorded, because the two shared a cache: the first answer
    of that host to that command then serves. What was never asked of that host has no answer.
    """

    evidence: Evidence
    collector: str
    _asked: dict[tuple[str, str, tuple[str, ...]], int] = field(default_factory=lambda: defaultdict(int))

    def ask(self, item: str, host: str, argv: Sequence[str]) -> tuple[str, Outcome]:
        """See `Answers.ask`."""
        command = tuple(argv)
        same = [record for record in self.evidence.of(self.collector, host)
                if record.command == command and record.outcome is not None]
        own = [record for record in same if _item(record) == item]
        number = self._asked[item, host, command]
        self._asked[item, host, command] += 1
        found = own[number:number + 1] or [record for record in same if _item(record) != item][:1]
        if not found:
            many = f" more than {len(own)} times" if own else ""
            raise Unmeasured(f"{host}: not in the evidence{many}: {command[-1]!r}; record it by a run on the cluster, "
                             "without --evidence")
        outcome = found[0].outcome
        assert outcome is not None
        return found[0].id, outcome


def _item(record: Record) -> str | None:
    return record.document.get("item") if isinstance(record.document, dict) else None
