"""How the report writes things down: values, what was promised, lists of hosts, and the command that runs it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acceptance.figures import span
from acceptance.findings import Finding, Verdict, show

SYMBOLS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.BLOCKED: "■", Verdict.WAIVED: "~", Verdict.NOT_RUN: "–"}
LONG = 120  # characters: lists beyond this are not told in full where the difference between them is known
RUN = 3  # so many hosts in a row are written as "first to last"


def symbol(verdict: str) -> str:
    """The sign of a verdict, which differs in shape as well as in colour."""
    return SYMBOLS[Verdict(verdict)]


def css(word: str) -> str:
    """A verdict or decision as the name of its style."""
    return word.lower().replace(" ", "-").replace(",", "")


def clip(text: str, length: int) -> str:
    """At most so many characters; what is cut off is marked."""
    return text if len(text) <= length else text[: length - 2] + " …"


def value(measured: Any) -> str:
    """A value as a person would say it: yes and no, none for an empty list, nothing for no text, – for not read."""
    if measured is None:
        return "–"
    if isinstance(measured, bool):
        return "yes" if measured else "no"
    return show(measured) or "nothing"


def reading(finding: Finding) -> str:
    """The measured value without its unit."""
    return finding.reading if number(finding.measured) else value(finding.measured)


def promised(finding: Finding) -> str:
    """The required value with its relation (equality goes without saying) and unit; empty where there is none."""
    if not finding.relation:
        return ""
    if finding.relation == "=":
        return f"{value(finding.required)} {finding.unit}".strip()
    return finding.wanted


def reason(finding: Finding) -> str:
    """Why a finding is not PASS, without the subject's own name: the same on every host that has the same trouble."""
    return finding.reason.removeprefix(f"{finding.subject}: ")


def wrong(finding: Finding, length: int = 400) -> str:
    """What is wrong, without the subject: what was measured, what is required, and the reason."""
    name, because = show(finding.quantity), clip(show(reason(finding)), length)
    if finding.measured is None and because and (finding.verdict is Verdict.BLOCKED or not finding.relation):
        return because if name == "evidence" else f"{name}: {because}"
    have = "not measured"
    if finding.measured is not None:
        have = f"measured {clip(reading(finding), length)} {show(finding.unit)}".strip()
    need = f", required {clip(show(promised(finding)), length)}" if finding.relation else ""
    if finding.relation == "exactly" and because and len(have + need) > LONG:  # the reason says what differs
        return f"{name}: {because}"
    return f"{name}: {have}{need}" + (f" ({because})" if because else "")


def wrong_together(findings: Sequence[Finding], length: int = 400) -> str:
    """What is wrong with one quantity on several subjects: the range measured, what is required, the first reason."""
    first = findings[0]
    if len(set(map(wrong, findings))) == 1:
        return wrong(first, length)
    have = clip(measured_range(findings), length)
    wanted = list(dict.fromkeys(promised(finding) for finding in findings if finding.relation))
    need = f", required {clip(show(wanted[0]), length)}" if wanted else ""
    need += f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
    reasons = list(dict.fromkeys(show(reason(finding)) for finding in findings if finding.reason))
    because = f" ({clip(reasons[0], length)}{' …' if len(reasons) > 1 else ''})" if reasons else ""
    return f"{show(first.quantity)}: measured {have}{need}{because}"


def measured_range(findings: Iterable[Finding]) -> str:
    """What was measured, all of it numbers, as the range that it spans, with the unit."""
    found = [finding for finding in findings if finding.measured is not None]
    bounds = {bound for finding in found for bound in finding.bounds}
    return f"{span([finding.measured for finding in found], sorted(bounds))} {show(found[0].unit)}".strip()


def number(measured: Any) -> bool:
    """Whether a range can be made of it."""
    return isinstance(measured, (int, float)) and not isinstance(measured, bool)


def names(subjects: Iterable[str], order: Mapping[str, int], limit: int | None = None) -> str:
    """Subjects in the inventory's order; hosts that follow one another there as "first to last".

    With a limit, many pairs that share a host are told as such, and what is beyond it is counted.
    """
    found = sorted(set(subjects), key=lambda name: (order.get(name, len(order)), name))
    parts: list[list[str]] = []
    for name in found:
        last = parts[-1][-1] if parts else ""
        if last in order and name in order and order[name] == order[last] + 1 and _stem(name) == _stem(last):
            parts[-1].append(name)
        else:
            parts.append([name])
    shown: list[str] = []
    for part in parts:
        shown += [f"{part[0]} to {part[-1]}"] if len(part) >= RUN else part
    if limit:
        shown = _shared(shown)
        more = len(shown) - limit
        if more > 1:
            return ", ".join(shown[:limit]) + f" and {more} more"
    return ", ".join(shown)


def _stem(name: str) -> str:
    return name.rstrip("0123456789")


def _shared(shown: list[str]) -> list[str]:
    pairs = [name for name in shown if "→" in name]
    common = set.intersection(*(set(name.split("→")) for name in pairs)) if len(pairs) > RUN else set()
    if len(common) != 1:
        return shown
    return [name for name in shown if name not in pairs] + [f"{len(pairs)} flows from and to {common.pop()}"]


def again(node_ids: Sequence[str], markers: str, site: str | None) -> str:
    """The command that judges these items again: by id while they are few, else by test, else by the run's markers."""
    ids = list(dict.fromkeys(node_ids))
    tests = list(dict.fromkeys(id.partition("[")[0] for id in ids))
    chosen = ids if len(ids) == 1 else tests
    words = ["-m", markers] if len(chosen) > RUN and markers else chosen
    return shlex.join(show(word) for word in ["pytest", *words, *(["--site", site] if site else [])])


def ran(selection: Mapping[str, Any]) -> str:
    """The pytest command of the run, as far as it says what was selected."""
    words = ["pytest"]
    for option, key in (("-m", "markers"), ("-k", "keyword"), ("--evidence", "evidence")):
        words += [option, str(selection[key])] if selection.get(key) else []
    return shlex.join(show(word) for word in words + ["--read-only"] * bool(selection.get("read_only")))


def site_option(argv: Sequence[str]) -> str | None:
    """The contract that the run was told to use on its command line, if it was told."""
    for at, word in enumerate(argv):
        if word.startswith("--site="):
            return word.partition("=")[2]
        if word == "--site" and at + 1 < len(argv):
            return argv[at + 1]
    return None
