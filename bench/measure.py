"""Running a program and measuring it; medians, ratios and the table."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One run of a program: wall time, and the memory peak of its largest process."""

    seconds: float
    peak_mib: float


@dataclass
class Series:
    """Repeats of one thing."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def peak_mib(self) -> float:
        return max(sample.peak_mib for sample in self.samples)


@dataclass(frozen=True)
class Target:
    """What is to be reached: so many times faster than another series, or less than so many seconds."""

    text: str
    measured: float
    required: float
    at_least: bool
    unit: str

    @property
    def met(self) -> bool:
        return self.measured >= self.required if self.at_least else self.measured < self.required

    def sentence(self) -> str:
        relation = "≥" if self.at_least else "<"
        return (f"{self.text}: {self.measured:.3g} {self.unit}, required {relation} {self.required:g}: "
                f"{'met' if self.met else 'NOT MET'}")


class BenchError(Exception):
    """A program that was to be measured failed; nothing is to be concluded from its time."""


def measure(argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None,
            limit_s: float = 1800) -> Sample:
    """Run a program to its end, its output in a file. Raises BenchError when it fails or does not end."""
    with log.open("wb") as file:
        started = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                   env={**os.environ, **(environment or {})})
        timer = _kill_after(process, limit_s)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="backslashreplace").strip().splitlines()[-8:]
        raise BenchError(f"{argv[0]}: exit status {process.returncode}: " + "\n  ".join(said))
    return Sample(seconds, usage.ru_maxrss / 1024)


def _kill_after(process: subprocess.Popen[bytes], limit_s: float) -> threading.Timer:
    timer = threading.Timer(limit_s, process.kill)
    timer.daemon = True
    timer.start()
    return timer


def table(rows: Sequence[Series], base: Series) -> str:
    """A Markdown table: medians, spread, how many times the base's median, memory."""
    lines = ["| what | repeats | median | fastest … slowest | × this suite | memory peak |", "|" + "---|" * 6]
    for row in rows:
        times = sorted(sample.seconds for sample in row.samples)
        ratio = "" if row is base else f"{row.median_s / base.median_s:.1f}"
        spread = f"{times[0]:.2f} … {times[-1]:.2f} s"
        peak = f"{row.peak_mib:.0f} MiB"
        lines.append(f"| {row.name} | {len(times)} | {row.median_s:.2f} s | {spread} | {ratio} | {peak} |")
    return "\n".join(lines)


def missing_facts(own: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> list[str]:
    """Facts, as section.name, that one side read of a host and the other did not; notes on errors aside."""
    def names(facts: Mapping[str, Sequence[str]]) -> set[str]:
        return {f"{section}.{name}" for section, found in facts.items() for name in found if name != "errors"}

    return sorted(names(own) ^ names(other))
