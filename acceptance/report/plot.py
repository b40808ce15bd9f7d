"""Plots as shapes with places, which the template writes as SVG: they need no network, scale, and print.

Meaning is in shapes, labels and line styles; colour only repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from acceptance.findings import show
from acceptance.measure.collectives import size_text
from acceptance.measure.curve import Curve, CurveNeed, Point

WIDTH = 860
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 14, 40
RANGE = 190  # beside a strip, for its lowest and highest value with the unit
HEIGHT = 320
ROW, FIRST, SPREAD = 46, 18, 20  # of strips; over so much height a strip's marks are spread
NAMED = 3  # GPUs of a strip that are named beside it
CLOSE = 13  # labels nearer than this would cover each other


@dataclass(frozen=True)
class Line:
    """From a point to another; `kind` is its style."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class Mark:
    """One measurement: `shape` is circle, square or cross; `title` is told when one points at it."""

    x: float
    y: float
    shape: str
    title: str
    bad: bool = False


@dataclass(frozen=True)
class Label:
    """Text; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    kind: str = ""


@dataclass
class Plot:
    """Shapes in a frame of this size. `summary` says in words what it shows."""

    title: str
    summary: str
    width: float = WIDTH
    height: float = HEIGHT
    lines: list[Line] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)  # points, style
    marks: list[Mark] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def across(self, y: float, kind: str, text: str, start: float = LEFT) -> None:
        """A level with its name at the right."""
        self.lines.append(Line(start, y, self.width - RIGHT, y, kind))
        used = [label.y for label in self.labels if label.kind == "level"]
        place = y + 4
        while any(abs(place - other) < CLOSE for other in used):
            place += CLOSE / 2
        self.labels.append(Label(self.width - RIGHT + 6, place, text, kind="level"))


def busbw_plot(curve: Curve, need: CurveNeed) -> Plot:
    """busbw by message size, in place and out of place, with what is required and what is physically possible."""
    top = max([need.ceiling.value, *(point.highest_gbyte_s for point in curve.points)]) * 1.08
    sizes = sorted({*need.sizes, *(point.size_bytes for point in curve.points)})

    def x(size: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (sizes.index(size) + 0.5) / len(sizes)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    plot = Plot(f"Bus bandwidth of {need.collective} over {need.ranks} GPUs by message size",
                "GB/s. Circles: out of place; squares: in place; bars from the lowest to the highest repeat. "
                f"{_said(need)}")
    _axes(plot, sizes, top, x, y)
    judged = [size for size in sizes if size >= need.threshold_from_bytes]
    plot.across(y(need.ceiling.value), "limit", f"physical limit {need.ceiling.value:.4g}")
    if judged and need.min_busbw_gbyte_s is not None:
        start = x(judged[0]) - 8
        if need.target_busbw_gbyte_s is not None:
            plot.across(y(need.target_busbw_gbyte_s), "target", f"target {need.target_busbw_gbyte_s:g}", start)
        plot.across(y(need.min_busbw_gbyte_s), "floor", f"required {need.min_busbw_gbyte_s:g}", start)
    bad = {flaw.subject for flaw in curve.flaws}
    for in_place, shape in ((False, "circle"), (True, "square")):
        line = [point for point in curve.points if point.in_place is in_place]
        plot.paths.append((" ".join(f"{x(one.size_bytes):.1f},{y(one.busbw_gbyte_s):.1f}" for one in line), shape))
        for one in line:
            at = x(one.size_bytes) + (4 if in_place else -4)
            plot.lines.append(Line(at, y(one.lowest_gbyte_s), at, y(one.highest_gbyte_s), "spread"))
            plot.marks.append(_mark(one, x(one.size_bytes), y(one.busbw_gbyte_s), shape, need, bad))
    return plot


def _said(need: CurveNeed) -> str:
    if need.min_busbw_gbyte_s is None:
        return "Judged by right results and the physical limit."
    return f"Judged from {need.threshold_from_bytes:,} bytes on, size by size."


def _mark(point: Point, x: float, y: float, shape: str, need: CurveNeed, bad: set[str]) -> Mark:
    share = need.ceiling.share_percent(point.busbw_gbyte_s)
    return Mark(x, y, shape, f"{point.name}: {point.busbw_gbyte_s:.3g} GB/s, {share:.0f} % of the physical limit; "
                f"{point.time_us:.3g} µs; {point.repeats} repeats", f"{need.collective} {point.name}" in bad)


def _axes(plot: Plot, sizes: Sequence[int], top: float, x: Callable[[int], float],
          y: Callable[[float], float]) -> None:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    plot.lines += [Line(LEFT, bottom, right, bottom, "axis"), Line(LEFT, TOP, LEFT, bottom, "axis")]
    step = _step(top)
    for number in range(1, int(top / step) + 1):
        plot.lines.append(Line(LEFT, y(number * step), right, y(number * step), "grid"))
    for number in range(int(top / step) + 1):
        plot.labels.append(Label(LEFT - 6, y(number * step) + 4, f"{number * step:g}", "end"))
    every = max(1, -(-len(sizes) // 11))
    for number, size in enumerate(sizes):
        if number % every == 0 or (number == len(sizes) - 1 and (len(sizes) - 1) % every > every / 2):
            plot.labels.append(Label(x(size), bottom + 18, size_text(size), "middle"))
    plot.labels.append(Label(14, TOP + 6, "GB/s"))
    plot.labels.append(Label((LEFT + right) / 2, HEIGHT - 4, "message size", "middle"))


def _step(top: float) -> float:
    """A round step that gives four to nine of them."""
    step = 10.0 ** -9
    while top / step > 9:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    return step


@dataclass(frozen=True)
class Strip:
    """One figure of every GPU: values by subject, those that are not as they should be, and its limits."""

    name: str
    unit: str
    values: dict[str, float]
    bad: frozenset[str]
    floor: float | None
    ceiling: float | None
    floor_word: str = "required"


def strips_plot(strips: Sequence[Strip]) -> Plot:
    """A row a figure: every GPU's value on a scale of its own from 0 up; those that are off are named."""
    shown = [strip for strip in strips if strip.values]
    height = FIRST + ROW * len(shown) + 8
    plot = Plot("Figures of every GPU", "A mark a GPU, the first node's at the top, on a scale from 0 to the physical "
                "limit or the highest value; a cross is a GPU that is not as it should be.", height=height)
    left, right = 200.0, WIDTH - RANGE
    for number, strip in enumerate(shown):
        middle = FIRST + ROW * number + ROW / 2 - 6
        top = max([*strip.values.values(), *([strip.ceiling] if strip.ceiling else []), strip.floor or 0.0]) * 1.02
        _strip(plot, strip, left, (right - left) / (top or 1.0), middle)
    return plot


def _strip(plot: Plot, strip: Strip, left: float, scale: float, middle: float) -> None:
    right = WIDTH - RANGE
    low, high = min(strip.values.values()), max(strip.values.values())
    plot.labels.append(Label(8, middle + 4, strip.name))
    plot.lines.append(Line(left, middle, right, middle, "grid"))
    plot.labels.append(Label(right + 6, middle + 4, f"{low:.4g} to {high:.4g} {strip.unit}"))
    for value, kind, word in ((strip.floor, "floor", strip.floor_word), (strip.ceiling, "limit", "limit")):
        if value is not None and value * scale <= right - left + 1:
            at = left + value * scale
            plot.lines.append(Line(at, middle - 13, at, middle + 13, kind))
            plot.labels.append(Label(at, middle + 23, f"{word} {value:.4g}", "middle", "small"))
    bad = [subject for subject in strip.values if subject in strip.bad]
    for number, (subject, value) in enumerate(strip.values.items()):
        y = middle + SPREAD * (number / max(1, len(strip.values) - 1) - 0.5)
        shape = "cross" if subject in bad else "circle"
        plot.marks.append(Mark(left + value * scale, y, shape, f"{subject}: {value:.4g} {strip.unit}", subject in bad))
    for number, subject in enumerate(bad[:NAMED]):
        more = f" and {len(bad) - NAMED} more" if number == NAMED - 1 and len(bad) > NAMED else ""
        at = left + strip.values[subject] * scale
        plot.labels.append(Label(at - 8, middle + 3 + 10 * (number - 0.5 * (min(len(bad), NAMED) - 1)),
                                 show(subject) + more, "end", "small bad"))

