"""Collectives as NCCL's own tests count them: rows of time and bandwidth by size, and what busbw is to algbw.

algbw = size / time. busbw = algbw · f, which is what each link of a ring carries: f is 2(n − 1)/n for all_reduce,
(n − 1)/n for all_gather, reduce_scatter and alltoall, and 1 for broadcast (nccl-tests, doc/PERFORMANCE.md). The size of
all_gather and reduce_scatter is the total over all ranks. 1 GB/s is 10⁹ bytes a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall")


@dataclass(frozen=True)
class CollectiveRow:
    """One size measured once, in place or out of place, over `ranks` ranks.

    `wrong` counts wrong elements over all ranks, None when nobody verified the result; `wrong_ranks` are the ranks
    whose result was wrong, where known; `silent_ranks` those that did not tell theirs.
    """

    size_bytes: int
    in_place: bool
    time_us: float
    algbw_gbyte_s: float
    busbw_gbyte_s: float
    wrong: int | None
    ranks: int
    repeat: int = 0
    wrong_ranks: tuple[int, ...] = ()
    silent_ranks: tuple[int, ...] = ()


def bus_factor(collective: str, ranks: int) -> float:
    """busbw over algbw. Raises ValueError for an unknown collective or no rank."""
    if ranks < 1:
        raise ValueError(f"{collective} over {ranks} ranks")
    if collective == "all_reduce":
        return 2 * (ranks - 1) / ranks
    if collective in ("all_gather", "reduce_scatter", "alltoall"):
        return (ranks - 1) / ranks
    if collective == "broadcast":
        return 1.0
    raise ValueError(f"unknown collective {collective!r}, expected one of {', '.join(COLLECTIVES)}")


def contradiction(row: CollectiveRow, collective: str, rounding_gbyte_s: float = 0.005,
                  relative: float = 0.01) -> str:
    """How a row's figures contradict each other, "" when they do not.

    Figures count as equal within `relative`, and within half of the last digit that is printed of a bandwidth.
    """
    figures = (row.time_us, row.algbw_gbyte_s, row.busbw_gbyte_s)
    if not all(math.isfinite(figure) and figure >= 0 for figure in figures):
        return f"not all are finite numbers from 0 up: {figures}"
    if row.size_bytes and not row.time_us:
        return f"{row.size_bytes} bytes in no time"
    algbw = row.size_bytes / row.time_us / 1000 if row.time_us else 0.0
    if not _near(row.algbw_gbyte_s, algbw, rounding_gbyte_s, relative):
        return f"algbw {row.algbw_gbyte_s:g} GB/s, but size over time is {algbw:.4g}"
    factor = bus_factor(collective, row.ranks)
    if not _near(row.busbw_gbyte_s, row.algbw_gbyte_s * factor, rounding_gbyte_s * (1 + factor), relative):
        return (f"busbw {row.busbw_gbyte_s:g} GB/s, but algbw · {factor:g} over {row.ranks} ranks is "
                f"{row.algbw_gbyte_s * factor:.4g}")
    return ""


def _near(one: float, other: float, absolute: float, relative: float) -> bool:
    return math.isclose(one, other, rel_tol=relative, abs_tol=absolute * 1.2)


def size_text(size: int) -> str:
    """A size as people write it: 1 GiB, 512 KiB, 8 B."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.4g} {unit}"
    return f"{size} B"
