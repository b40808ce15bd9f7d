"""The pytest plugin: checks become items, evidence is collected once, each item is judged, the gate is decided.

Does nothing in sessions without checks. Exit codes: 0 accepted (or a partial selection that passed), 1 not accepted,
4 wrong use, 5 nothing selected. *Accepted with conditions* exits with 0 and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acceptance.checks import COLLECTORS, Check
from acceptance.errors import WrongUse
from acceptance.findings import Verdict, show
from acceptance.selection import MARKERS, check_expression, load_catalogue, markers_of, subjects_of
from acceptance.site.load import Site, find_site_file, load_site
from acceptance.terminal import Progress, failure_text, verdict_lines

FUNCTION = "__acceptance_check__"
STATE = pytest.StashKey["State"]()


class CheckFailed(Exception):
    """An item whose verdict is not PASS; its text is for people."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("acceptance", "acceptance of a GPU cluster")
    group.addoption("--site", metavar="FILE", help="the contract; default: ACCEPTANCE_SITE, else site.yaml here")
    group.addoption("--evidence", metavar="RUN", help="judge this recorded run again instead of collecting")
    group.addoption("--read-only", action="store_true", help="leave out checks that create objects or load")
    group.addoption("--report-dir", metavar="DIR", default="reports", help="where run folders go; default: reports")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    expression = config.option.markexpr
    if expression:
        known = {line.split(":")[0].split("(")[0].strip() for line in config.getini("markers")}
        try:
            check_expression(expression, known)
        except WrongUse as error:
            raise pytest.UsageError(str(error)) from None


@dataclass
class State:
    """What one session with checks knows. `problem` is a user's mistake, told once collection has ended."""

    site: Site | None = None
    problem: str = ""
    planned: tuple[CheckItem, ...] = ()
    live: Any = None


class CheckItem(pytest.Item):
    """One check on one subject."""

    def __init__(self, *, check: Check, function: Callable[..., None], subject: str, **named: Any) -> None:
        super().__init__(**named)
        self.check, self.function, self.subject = check, function, subject
        for name in markers_of(check):
            self.add_marker(name)

    @property
    def host(self) -> str | None:
        """The host, or None for the cluster."""
        return self.subject if self.check.hosts else None

    def runtest(self) -> None:
        judgement = self.config.stash[STATE].live.judge(self)
        if judgement.verdict is not Verdict.PASS:
            raise CheckFailed(failure_text(judgement, self.check, self.nodeid, self.config))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, CheckFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.check.id} on {self.subject}"


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module, name: str, obj: Any) -> list[CheckItem] | None:
    check = getattr(obj, FUNCTION, None)
    if not isinstance(check, Check):
        return None
    state = collector.config.stash.setdefault(STATE, State())
    site = _site(state, collector.config)
    subjects = subjects_of(check, site) if site else ["cluster"]
    return [
        CheckItem.from_parent(collector, name=f"{name}[{subject}]" if check.hosts else name, check=check,
                              function=obj, subject=subject)
        for subject in subjects
    ]


def _site(state: State, config: pytest.Config) -> Site | None:
    if state.site is None and not state.problem:
        try:
            state.site = load_site(find_site_file(config.option.site, config.rootpath))
            load_catalogue(config.rootpath)
        except WrongUse as error:
            state.problem = str(error)
    return state.site


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash.get(STATE, None)
    if state is None:
        return
    if state.problem or state.site is None:
        raise pytest.UsageError(state.problem or "no contract could be read")
    excluded = state.site.contract.not_measurable
    selected = [item for item in items if isinstance(item, CheckItem) and item.check.id not in excluded]
    state.planned = tuple(selected)
    left_out = [item for item in items if isinstance(item, CheckItem) and (
        item.check.id in excluded or (config.option.read_only and item.check.intrusive))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    state = session.config.stash.get(STATE, None)
    if state is None or session.config.option.collectonly or not state.planned or session.testsfailed:
        return
    from acceptance.live import LiveRun

    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    progress = Progress(reporter)
    try:
        assert state.site is not None
        items = [item for item in session.items if isinstance(item, CheckItem)]
        state.live = LiveRun.start(state.site, session.config, state.planned, progress)
        progress.header(state.site, items, needed(items), state.live.folder.path)
        state.live.collect(needed(items), progress)
    except WrongUse as error:
        raise pytest.UsageError(str(error)) from None


def needed(items: Iterable[CheckItem]) -> list[str]:
    """Collectors that the items need, facts first, then in the order in which checks ask for them."""
    ids = dict.fromkeys(need for item in items for need in item.check.needs)
    unknown = [id for id in ids if id not in COLLECTORS]
    if unknown:
        raise WrongUse(f"no collector is called {unknown[0]}; known are {', '.join(sorted(COLLECTORS))}")
    return sorted(ids, key=lambda id: (id != "facts", COLLECTORS[id].intrusive))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    state = session.config.stash.get(STATE, None)
    if state is None or state.live is None:
        return
    code = state.live.finish(int(exitstatus))
    session.exitstatus = code


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    state = config.stash.get(STATE, None)
    if state is None or state.live is None or state.live.report is None:
        return
    for line in verdict_lines(state.live.report):
        terminalreporter.write_line(show(line))

