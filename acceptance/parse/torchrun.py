"""How ranks ended, by what a pod of a workload printed: torchrun's summary of failures, and what ranks said themselves.

torchrun calls that failure the cause which it noticed first. When a rank is killed, all others fail at once with a
broken connection, and are as often noticed first; so all are read, and `causes` says which are no consequences.
After torch/distributed/elastic/multiprocessing/errors/__init__.py, v1.13 to v2.5.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

_ENDED = re.compile(r"^\s*rank\s*:\s*(\d+) \(local_rank: (\d+)\)\s*\n\s*exitcode\s*:\s*(-?\d+) \(pid: \d+\)",
                    re.MULTILINE)
_SAID = re.compile(r"^(?:\[\w+\]:)?(\w+: rank (\d+) on \S+: .*)$", re.MULTILINE)
# what is said of others: their connections broke, or they did not come
_OF_OTHERS = re.compile(
    r"closed by peer|reset by peer|connection refused|broken pipe|no result of ranks|time[d -]*out|wait timeout|"
    r"remote process|communicator was aborted|remote error|socket error", re.IGNORECASE)
TERMINATED = -int(signal.SIGTERM)


@dataclass(frozen=True)
class RankEnd:
    """A rank that failed. `exit_code` is negative for a signal, None where torchrun told none; `said` its own line."""

    rank: int
    local_rank: int | None
    exit_code: int | None
    said: str

    @property
    def killed(self) -> bool:
        """By a signal that is not the one with which torchrun ends the others."""
        return self.exit_code is not None and self.exit_code < 0 and self.exit_code != TERMINATED

    def sentence(self) -> str:
        """In words."""
        where = "" if self.local_rank is None else f" (local rank {self.local_rank})"
        if self.killed and self.exit_code is not None:
            number = -self.exit_code
            name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
            return f"rank {self.rank}{where} was killed by signal {number} ({name})"
        how = "failed" if self.exit_code is None else f"ended with exit status {self.exit_code}"
        return f"rank {self.rank}{where} {how}" + (f": {self.said}" if self.said else "")


def failed_ranks(log: str) -> tuple[RankEnd, ...]:
    """Every rank that a pod's log tells the end of, by number."""
    local = {int(rank): int(number) for rank, number, _ in _ENDED.findall(log)}
    codes = {int(rank): int(code) for rank, _, code in _ENDED.findall(log)}
    said: dict[int, str] = {}
    for line, rank in _SAID.findall(log):
        said.setdefault(int(rank), line.strip()[:300])
    return tuple(RankEnd(rank, local.get(rank), codes.get(rank), said.get(rank, ""))
                 for rank in sorted({*codes, *said}))


def causes(ranks: Iterable[RankEnd]) -> list[RankEnd]:
    """Those that ended by themselves; all, where each only tells of others."""
    found = list(ranks)
    own = [one for one in found if one.said and not _OF_OTHERS.search(one.said)]
    return [one for one in found if one.killed] or own or found
