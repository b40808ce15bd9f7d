"""What NVIDIA's nccl-tests print: the table on standard output, and the JSON of `-J`.

After NVIDIA/nccl-tests src/util.cu and src/common.cu (versions 2.10 to 2.17 of the tests). Rows of the table have one
group of columns for out of place and one for in place; `#wrong` is N/A where nothing was verified (-c 0, and alltoall
in place); old versions print `error` instead, which counts no elements. "Avg bus bandwidth" averages small sizes in, so
it is read only to see that no row is missing or damaged. Nothing here judges speed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acceptance.errors import ParseError
from acceptance.measure.collectives import CollectiveRow, bus_factor, contradiction

_TAG = re.compile(r"^\[\d+,\d+\]<\w+>:")  # mpirun --tag-output
_INT = r"(\d{1,18})"
_CONFIG = re.compile(rf"# nThread \d+ nGpus \d+ minBytes {_INT} maxBytes {_INT} step: {_INT}\((factor|bytes)\) "
                     rf"warmup iters: \d+ iters: {_INT}\b.*? valid\w*: {_INT}")
_REDUCED = re.compile(rf"# Reducing maxBytes to {_INT} due to memory limitation")
_DEVICE = re.compile(rf"#\s+Rank\s+{_INT}(?:\s+Group\s+\d+)?\s+Pid\s+\d+\s+on\s+(\S+)\s+device\s+{_INT}\s+"
                     r"\[(\S+)\]\s+(.+)")
_HEADER = re.compile(r"#\s+size\s+count\s+type\b")
_ROW = re.compile(r"\s*\d{1,18}\s+\d+\s+[a-z]\w*\s")
_FOOTER = re.compile(rf"# Out of bounds values\s*: {_INT} (OK|FAILED)")
_AVERAGE = re.compile(r"# Avg bus bandwidth\s*: (\S+)(?: (OK|FAILED))?\s*$")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_FAILURE = re.compile(r".*(?:Test NCCL failure|Test CUDA failure|NCCL failure|Test failure|# error:).*")
_MOST_SIZES = 10_000
_COARSE_US = 1e7  # from here on the table has two digits of a time
_EXACT = ("all_reduce", "broadcast")  # the others round sizes to multiples of the ranks


@dataclass(frozen=True)
class Device:
    """One rank, as the tests list it."""

    rank: int
    host: str
    device: int
    bus: str
    name: str


@dataclass(frozen=True)
class NcclTests:
    """One run of one collective. `iterations` is what the tests average over; `verified` whether they were to check.

    `out_of_bounds` is the tests' own count of failed verifications.
    """

    collective: str
    devices: tuple[Device, ...]
    rows: tuple[CollectiveRow, ...]
    iterations: int
    verified: bool
    out_of_bounds: int
    average_busbw_gbyte_s: float
    last_error: str = ""


@dataclass(frozen=True)
class _Plan:
    first: int
    last: int
    step: int
    factor: bool

    def sizes(self) -> list[int]:
        """Sizes that the tests go through. Raises ParseError for a plan that does not end."""
        shortest = 2 if self.factor else max(1, (self.last - self.first) // _MOST_SIZES)
        if self.step < shortest or self.last < self.first or (self.factor and self.first < 1):
            raise ParseError(f"nccl-tests: senseless sizes: {self.first} to {self.last}, step {self.step}")
        if not self.factor:
            return list(range(self.first, self.last + 1, self.step))
        found = [self.first]
        while found[-1] * self.step <= self.last:
            found.append(found[-1] * self.step)
        return found


def parse_text(text: str, collective: str, *, repeat: int = 0) -> NcclTests:
    """The table on standard output, NCCL's own log lines in between or not. Raises ParseError."""
    lines = [_TAG.sub("", line) for line in text.splitlines()]
    found = [match for line in lines if (match := _CONFIG.match(line))]
    footers = [match for line in lines if (match := _FOOTER.match(line))]
    averages = [match for line in lines if (match := _AVERAGE.match(line))]
    headers = [line for line in lines if _HEADER.match(line)]
    if len(found) != 1 or len(headers) != 1:
        raise ParseError(f"nccl-tests printed {len(found)} settings and {len(headers)} tables, expected one of each"
                         + _last(lines))
    if len(footers) != 1 or len(averages) != 1:
        raise ParseError("nccl-tests did not come to its end: no single result line" + _last(lines))
    config = found[0]
    reduced = [int(match[1]) for line in lines if (match := _REDUCED.match(line))]
    plan = _Plan(int(config[1]), min([int(config[2]), *reduced]), int(config[3]), config[4] == "factor")
    devices = [Device(int(m[1]), m[2], int(m[3]), m[4], m[5].strip()) for line in lines if (m := _DEVICE.match(line))]
    columns = headers[0].lstrip("# ").split()
    rows = [row for line in lines if _ROW.match(line) for row in _text_rows(line, columns, len(devices), repeat)]
    if (footers[0][2] == "OK") != (int(footers[0][1]) == 0):
        raise ParseError(f"nccl-tests contradicts itself: {footers[0][0]}")
    errors = [line.partition("# error:")[2].strip() for line in lines if line.startswith("# error:")]
    return _whole(NcclTests(collective, tuple(devices), tuple(rows), int(config[5]), int(config[6]) > 0,
                            int(footers[0][1]), _number(averages[0][1]), "; ".join(errors)), plan, 0.005)


def _text_rows(line: str, columns: Sequence[str], ranks: int, repeat: int) -> list[CollectiveRow]:
    times = [at for at, name in enumerate(columns) if name in ("time", "cputime")]
    words = line.split()
    length = len(columns) + ("timestamp" in columns)  # a date and a time of day
    if len(times) != 2 or columns[times[0]:times[0] + 3] != columns[times[1]:times[1] + 3]:
        raise ParseError(f"nccl-tests: unknown columns: {' '.join(columns)}")
    if len(words) != length:
        raise ParseError(f"nccl-tests: a row has {len(words)} columns, expected {length}: {line.strip()[:120]!r}")
    rows = []
    for in_place, at in ((False, times[0]), (True, times[1])):
        if columns[at + 1:at + 3] != ["algbw", "busbw"] or columns[at + 3] not in ("#wrong", "error"):
            raise ParseError(f"nccl-tests: unknown columns: {' '.join(columns)}")
        time, algbw, busbw = (_number(word) for word in words[at:at + 3])
        checked = words[at + 3]
        wrong = None if checked == "N/A" else _number(checked)
        if columns[at + 3] == "error":
            wrong = None  # a deviation, whose limit only the tests know
        rows.append(_row(int(words[0]), in_place, time, algbw, busbw, wrong, ranks, repeat))
    return rows


def parse_json(text: str, collective: str, *, repeat: int = 0) -> NcclTests:
    """The file of `-J`. Raises ParseError.

    A run that fails still closes its braces, so a document that parses is not yet a finished run: that has `end_time`.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ParseError(f"nccl-tests' JSON is none, or cut short: {text.strip()[-100:]!r}") from None
    try:
        return _from_json(document, collective, repeat)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ParseError(f"nccl-tests' JSON lacks what a finished run has: {error}") from None


def _from_json(document: Any, collective: str, repeat: int) -> NcclTests:
    if document["version"] not in (1, 2):
        raise ParseError(f"nccl-tests' JSON is of version {document['version']}, expected 1 or 2")
    if "end_time" not in document:
        raise ParseError("nccl-tests did not come to its end: its JSON has no end_time")
    config = document["config"]
    factor = "step_factor" in config
    plan = _Plan(_count(config["minimum_bytes"]), _count(config["maximum_bytes"]),
                 _count(config["step_factor" if factor else "step_bytes"]), factor)
    devices = tuple(Device(_count(one["rank"]), str(one["hostname"]), _count(one["device"]), str(one["device_hex"]),
                           str(one["device_info"])) for one in config["devices"])
    rows = []
    for result in document["results"]:
        for key, in_place in (("out_of_place", False), ("in_place", True)):
            body = result[key]
            wrong = None if body["nwrong"] is None else _number(body["nwrong"])
            time = body["cpu_time"] if "cpu_time" in body else body["time"]
            rows.append(_row(_count(result["size"]), in_place, _number(time), _number(body["alg_bw"]),
                             _number(body["bus_bw"]), wrong, len(devices), repeat))
    bounds = document["out_of_bounds"]
    # the first versions with -J misspelt the key and its field
    average = document.get("average_bus_bandwidth") or document["average_bus_bandwidith"]
    if (str(bounds["okay"]).lower() == "true") != (_count(bounds["count"]) == 0):
        raise ParseError(f"nccl-tests' JSON contradicts itself: {bounds}")
    value = average["bandwidth"] if "bandwidth" in average else average["bandwidith"]
    errors = "; ".join(str(error) for error in document.get("errors", []) if error)
    return _whole(NcclTests(collective, devices, tuple(rows), _count(config["iterations"]),
                            _count(config["validation"]) > 0, bounds["count"], _number(value), errors), plan, 1e-6)


def _row(size: int, in_place: bool, time: float, algbw: float, busbw: float, wrong: float | None, ranks: int,
         repeat: int) -> CollectiveRow:
    if wrong is not None and wrong != int(wrong):
        raise ParseError(f"nccl-tests: {wrong} wrong elements at {size} bytes")
    return CollectiveRow(size, in_place, time, algbw, busbw, None if wrong is None else int(wrong), ranks, repeat)


def _whole(run: NcclTests, plan: _Plan, rounding: float) -> NcclTests:
    """The run, if nothing of it is missing, out of order or contradictory. Raises ParseError."""
    if [device.rank for device in run.devices] != list(range(len(run.devices))) or not run.devices:
        raise ParseError(f"nccl-tests lists the ranks {[device.rank for device in run.devices]}, expected each once, "
                         "from 0 on")
    for in_place in (False, True):
        measured, wanted = [row.size_bytes for row in run.rows if row.in_place is in_place], plan.sizes()
        if len(measured) != len(wanted):
            raise ParseError(f"nccl-tests has {len(measured)} sizes, expected {len(wanted)} from {plan.first} to "
                             f"{plan.last} bytes")
        if measured != sorted(measured):
            raise ParseError("nccl-tests: the sizes are not in order")
        if run.collective in _EXACT and measured != wanted:
            raise ParseError(f"nccl-tests has other sizes than it was to measure, first "
                             f"{next(one for one, other in zip(measured, wanted, strict=True) if one != other)}")
    for row in run.rows:
        relative = 0.07 if rounding > 1e-3 and row.time_us >= _COARSE_US else 0.01
        if row.size_bytes and (wrong := contradiction(row, run.collective, rounding, relative)):
            raise ParseError(f"nccl-tests: the row of {row.size_bytes} bytes contradicts itself: {wrong}")
    if any(row.wrong for row in run.rows) and not run.out_of_bounds:
        raise ParseError("nccl-tests contradicts itself: wrong elements in a row, and none in its result line")
    mean = math.fsum(row.busbw_gbyte_s for row in run.rows) / len(run.rows)
    if not math.isclose(mean, run.average_busbw_gbyte_s, rel_tol=1e-3, abs_tol=rounding):
        raise ParseError(f"nccl-tests: the rows' mean busbw is {mean:.6g} GB/s, its result line says "
                         f"{run.average_busbw_gbyte_s:g}: a row is missing or damaged")
    bus_factor(run.collective, len(run.devices))
    return run


def ranks_by_host(run: NcclTests) -> Mapping[str, list[int]]:
    """Which ranks ran on which host, as the hosts call themselves."""
    found: dict[str, list[int]] = {}
    for device in run.devices:
        found.setdefault(device.host, []).append(device.rank)
    return found


def _number(value: Any) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ParseError(f"nccl-tests: expected a number from 0 up, found {value!r}")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ParseError(f"nccl-tests: expected a count, found {value!r}")
    return value


def _last(lines: Sequence[str]) -> str:
    failures = [line.strip() for line in lines if _FAILURE.match(line)]
    said = failures[:1] or [line.strip() for line in lines if line.strip(" #-")][-1:]
    return f": {said[0][:160]}" if said else ": it printed nothing"
