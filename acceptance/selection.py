"""Which checks there are, which were asked for, and whether that makes a whole gate."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from acceptance.checks import AREAS, CHECKS, LAYERS, Check
from acceptance.errors import WrongUse
from acceptance.site.load import Site

MARKERS = {
    **{f"phase{n}": f"checks of phase {n} of the delivery" for n in range(1, 6)},
    **{layer: f"checks of the {layer} layer" for layer in LAYERS},
    **{area: f"checks of area {area}" for area in AREAS},
    "daily": "read-only checks of the daily health check",
    "intrusive": "checks that create load or objects",
    "performance": "checks by workloads that load all GPUs, for minutes to hours",
}
Planned = tuple[str, str]  # check id, subject


def check_expression(expression: str, known: Iterable[str]) -> None:
    """Raises WrongUse when a marker expression is no expression or names a marker that nobody registered."""
    from _pytest.mark.expression import Expression

    names = set(known)
    for word in re.findall(r"[^\s()]+", expression):
        name = word.split("(")[0]
        if name in ("and", "or", "not") or name in names or not re.fullmatch(r"[\w:.+-]+", name):
            continue
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(MARKERS))}"
        raise WrongUse(f"-m {expression!r}: unknown marker {name!r}{hint}")
    if expression.strip():
        try:
            Expression.compile(expression)
        except SyntaxError as error:
            raise WrongUse(f"-m {expression!r}: {error.msg}; expected marker names joined by and, or, not") from None


def markers_of(check: Check) -> list[str]:
    """Names of the markers that follow from a check's catalogue entry."""
    flags = [name for name in ("daily", "intrusive", "performance") if getattr(check, name)]
    return [f"phase{check.phase}", check.layer, check.area, *flags]


def load_catalogue(root: Path) -> dict[str, Check]:
    """Import every check module below `root`, so that CHECKS is the whole catalogue, and return it."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for path in sorted(root.glob("tests_*/**/test_*.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    return CHECKS


def subjects_of(check: Check, site: Site) -> list[str]:
    """The items of a check: its hosts, or the cluster."""
    return [host.name for host in site.group(check.hosts)] if check.hosts else ["cluster"]


def nothing_selected(markers: str, keyword: str, site: Site) -> str:
    """One line for a selection that left nothing: what was asked for, and the nearest host or what there is not yet."""
    given = [f"{option} {text!r}" for option, text in (("-m", markers), ("-k", keyword)) if text]
    hints = []
    for word in re.findall(r"[^\s()]+", keyword):
        names = [host.name for host in site.hosts]
        near = difflib.get_close_matches(word, names, n=1)
        if near and not any(word in name for name in names):
            hints.append(f"did you mean {near[0]}?")
    there = {f"phase{check.phase}" for check in CHECKS.values()}
    absent = [name for name in re.findall(r"phase\d", markers) if name not in there]
    if absent:
        hints.append(f"there is no check of {absent[0]} yet, only of {', '.join(sorted(there))}")
    return f"nothing is selected by {' and '.join(given)}; {'; '.join(hints) or 'see `acceptance list`'}"


def missing_from_gate(phase: int, planned: Iterable[Planned], site: Site) -> list[Planned]:
    """Items that the gate of a phase needs and the selection left out."""
    asked = set(planned)
    return [
        (check.id, subject) for check in CHECKS.values()
        if check.phase == phase and check.id not in site.contract.not_measurable
        for subject in subjects_of(check, site) if (check.id, subject) not in asked
    ]
