"""Evidence: everything that was recorded in a run, one JSON line each, on disk before the next is written."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acceptance.errors import Unmeasured, WrongUse
from acceptance.transport.shell import Outcome

HIDDEN = "[secret]"


@dataclass(frozen=True)
class Record:
    """One thing recorded: who collected it, about what, the command and its outcome, or a document, or both.

    `at` is UTC in ISO 8601. The id is unique in its run ("e0001") and is what findings refer to.
    """

    id: str
    at: str
    collector: str
    subject: str
    command: tuple[str, ...] | None
    outcome: Outcome | None
    document: Any


@dataclass(frozen=True)
class Evidence:
    """What a run recorded, in order. `torn` says that the last line was cut off by a crash and is not counted."""

    all: tuple[Record, ...]
    torn: bool = False

    def records(self, collector: str) -> list[Record]:
        """What one collector recorded, in order."""
        return [record for record in self.all if record.collector == collector]

    def of(self, collector: str, subject: str) -> list[Record]:
        """What one collector recorded about one subject, in order."""
        return [record for record in self.records(collector) if record.subject == subject]

    def one(self, collector: str, subject: str) -> Record:
        """The last record of it. Raises Unmeasured when there is none."""
        found = self.of(collector, subject)
        if not found:
            raise Unmeasured(f"{subject}: nothing was recorded by collector {collector}")
        return found[-1]


def in_ranges(ids: Iterable[str]) -> list[str]:
    """Ids of records in order; those that follow one another as "e0190 to e0245"."""
    runs: list[list[str]] = []
    for id in sorted(set(ids)):
        follows = runs and id[1:].isdecimal() and runs[-1][-1][1:].isdecimal() and int(id[1:]) == int(
            runs[-1][-1][1:]) + 1
        if follows:
            runs[-1].append(id)
        else:
            runs.append([id])
    return [text for run in runs for text in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else run)]


class Recorder:
    """Appends records to a file, each flushed to disk, from any thread. Secrets are replaced before writing."""

    def __init__(self, path: Path, secrets: Iterable[str] = ()) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._secrets = [secret for secret in secrets if secret]
        self._lock = threading.Lock()
        self._records: list[Record] = []

    def record(self, collector: str, subject: str, *, command: Sequence[str] | None = None,
               outcome: Outcome | None = None, document: Any = None) -> Record:
        """Write one record. `document` must be plain JSON data."""
        with self._lock:
            entry = Record(f"e{len(self._records) + 1:04}", datetime.now(UTC).isoformat(timespec="milliseconds"),
                           collector, subject, None if command is None else tuple(command), outcome, document)
            plain = vars(entry) | {"outcome": None if outcome is None else asdict(outcome)}  # asdict would copy all
            line = self._hide(json.dumps(plain, ensure_ascii=True))
            self._file.write(line + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            entry = _record(json.loads(line))
            self._records.append(entry)
            return entry

    def evidence(self) -> Evidence:
        """Everything recorded so far, as it will be read again: judged live and replayed alike."""
        with self._lock:
            return Evidence(tuple(self._records))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _hide(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(json.dumps(secret)[1:-1], HIDDEN)
        return line


def read_evidence(path: Path) -> Evidence:
    """Read a file of records. A torn last line is left out; damage anywhere else raises WrongUse."""
    return parse_evidence(path, read_records(path))


def read_records(path: Path) -> bytes:
    """The bytes of a file of records. Raises WrongUse."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongUse(f"{path}: cannot be read: {error.strerror}; expected the evidence.jsonl of a run") from None


def parse_evidence(path: Path, raw: bytes) -> Evidence:
    """What the bytes of a file of records say; see `read_evidence`."""
    *lines, rest = raw.split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WrongUse(f"{path}: line {number} is damaged ({error}); the evidence cannot be judged") from None
    return Evidence(tuple(records), torn=bool(rest))


def _record(data: Any) -> Record:
    outcome, command = data["outcome"], data["command"]
    return Record(str(data["id"]), str(data["at"]), str(data["collector"]), str(data["subject"]),
                  None if command is None else tuple(str(word) for word in command),
                  None if outcome is None else Outcome(**outcome), data["document"])
