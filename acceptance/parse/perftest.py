"""What ib_write_bw of perftest prints: its table, and its `--out_json` file, which in 6.06 is not quite JSON."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from acceptance.errors import ParseError

_HEADER = re.compile(r"^\s*#bytes\s+#iterations\s+BW peak\[(\S+?)\]\s+BW average\[(\S+?)\]\s+MsgRate\[Mpps\]\s*$")
_FIELD = re.compile(r"(Mtu|Link type|GID index|Number of qps)\s*:\s*(\w+)")
_PAIR = re.compile(r'^\s*"?([\w #\[\]/.-]+?)"?\s*:\s*"?([^",]*?)"?\s*,?\s*$')


@dataclass(frozen=True)
class Perftest:
    """One run: settings that both ends agreed on, and the average rate. `iterations` 0 means no data moved.

    The peak is left out: with a time limit (`-D`) perftest prints 0 for it.
    """

    mtu: int
    link_type: str
    gid_index: int
    message_bytes: int
    iterations: int
    average_gbps: float


def parse_perftest_text(text: str) -> Perftest:
    """The table on standard output, of a run with `--report_gbits`. Raises ParseError."""
    lines = text.splitlines()
    headers = [(place, found) for place, line in enumerate(lines) if (found := _HEADER.match(line))]
    if len(headers) != 1:
        raise ParseError(f"ib_write_bw printed {len(headers)} tables, expected one" + _last(lines))
    place, header = headers[0]
    if header[2] != "Gb/sec":
        raise ParseError(f"ib_write_bw reports in {header[2]}, expected Gb/sec: run it with --report_gbits")
    rows = [line.split() for line in lines[place + 1:] if re.match(r"\s*\d", line)]
    if len(rows) != 1 or len(rows[0]) < 5:
        raise ParseError(f"ib_write_bw's table has {len(rows)} rows, expected one whole one" + _last(lines))
    fields = {found[1]: found[2] for line in lines[:place] for found in _FIELD.finditer(line)}
    return _result(fields, ("Mtu", "Link type", "GID index"), rows[0][0], rows[0][1], rows[0][3])


def parse_perftest_json(text: str) -> Perftest:
    """The `--out_json_file`, whose keys 6.06 leaves unquoted and whose lists end in commas. Raises ParseError."""
    fields = {found[1]: found[2] for line in text.splitlines() if (found := _PAIR.match(line))}
    if "BW_average" not in fields:
        raise ParseError("ib_write_bw's JSON holds no result: no data moved, or it was cut short")
    if not text.rstrip().endswith("}"):
        raise ParseError("ib_write_bw's JSON is cut short")
    try:
        size, count, average = fields["MsgSize"], fields["n_iterations"], fields["BW_average"]
    except KeyError as error:
        raise ParseError(f"ib_write_bw's JSON lacks {error}") from None
    return _result(fields, ("Mtu", "Link_type", "GID_index"), size, count, average)


def _result(fields: dict[str, str], names: tuple[str, str, str], size: str, count: str, average: str) -> Perftest:
    try:
        rate = float(average)
        if not math.isfinite(rate) or rate < 0:
            raise ValueError(average)
        mtu, link, gid = (fields[name] for name in names)
        result = Perftest(int(mtu), link, int(gid), int(size), int(count), rate)
    except (KeyError, ValueError) as error:
        raise ParseError(f"ib_write_bw's output lacks a setting or a number: {error}") from None
    if result.iterations and not rate:
        raise ParseError(f"ib_write_bw moved {count} messages and tells no rate: it could not calibrate the "
                         "processor's cycle counter, as on a busy or virtual machine; run it again")
    return result


def _last(lines: list[str]) -> str:
    said = [line.strip() for line in lines if line.strip(" -")]
    return f": {said[-1][:100]}" if said else ": it printed nothing"
