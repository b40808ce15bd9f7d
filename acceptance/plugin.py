"""The pytest plugin: checks become items, evidence is collected once, each item is judged, the gate is decided.

Does nothing in sessions without checks. Exit codes: 0 accepted (or a partial selection that passed), 1 not accepted,
4 wrong use, 5 nothing selected. *Accepted with conditions* exits with 0 and says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.checks import COLLECTORS, Check
from acceptance.errors import WrongUse
from acceptance.findings import Verdict, show
from acceptance.rootdir import misled, restart
from acceptance.selection import (
    MARKERS,
    check_expression,
    load_catalogue,
    markers_of,
    nothing_selected,
    subjects_of,
)
from acceptance.site.load import Site, find_site_file, load_site
from acceptance.terminal import Progress, failure_text, verdict_lines

if TYPE_CHECKING:
    from acceptance.site_tests import SiteTest

FUNCTION = "__acceptance_check__"
HOST_FIXTURE = "_testinfra_host"
STATE = pytest.StashKey["State"]()


class CheckFailed(Exception):
    """An item whose verdict is not PASS; its text is for people."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("acceptance", "acceptance of a GPU cluster")
    group.addoption("--site", metavar="FILE", help="the contract; default: ACCEPTANCE_SITE, else site.yaml here")
    group.addoption("--evidence", metavar="RUN", help="judge this recorded run again instead of collecting")
    group.addoption("--read-only", action="store_true", help="leave out checks that create objects or load")
    group.addoption("--report-dir", metavar="DIR", default="reports", help="where run folders go; default: reports")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    # before anything is captured: the process may be replaced
    given, folder = early_config.invocation_params.args, early_config.invocation_params.dir
    right = misled([str(word) for word in given], folder, early_config.inipath)
    if right is not None:
        restart([str(word) for word in given], right)
    return (yield)


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
    nothing: str = ""  # said at the end, where nothing was selected
    planned: tuple[CheckItem | SiteTest, ...] = ()
    site_tests: list[SiteTest] = field(default_factory=list)  # all that were collected, selected or not
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
        return self.path, None, f"{self.check.id} on {show(self.subject)}"


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module, name: str, obj: Any) -> list[CheckItem] | None:
    check = getattr(obj, FUNCTION, None)
    if not isinstance(check, Check):
        return None
    state = collector.config.stash.setdefault(STATE, State())
    site = _site(state, collector.config)
    subjects = subjects_of(check, site) if site else ["cluster"]
    return [
        CheckItem.from_parent(collector, name=f"{name}[{show(subject)}]" if check.hosts else name, check=check,
                              function=obj, subject=subject)
        for subject in subjects
    ]


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    if HOST_FIXTURE not in metafunc.fixturenames:
        return (yield)
    from acceptance import site_tests

    if not site_tests.concerns(metafunc):
        return (yield)
    state = metafunc.config.stash.setdefault(STATE, State())
    hosts = None
    try:
        hosts = site_tests.hosts_of(metafunc, _site(state, metafunc.config))
    except WrongUse as error:
        state.problem = state.problem or str(error)
    with site_tests.as_option(metafunc.config, hosts):
        return (yield)


def pytest_itemcollected(item: pytest.Item) -> None:
    state = item.config.stash.get(STATE, None)
    if state is None or HOST_FIXTURE not in getattr(item, "fixturenames", ()):
        return
    from acceptance.site_tests import site_test_of

    try:
        test = site_test_of(item)
    except WrongUse as error:
        state.problem = state.problem or str(error)
    else:
        state.site_tests += [test] if test else []


def _planned(items: Iterable[pytest.Item], state: State) -> list[CheckItem | SiteTest]:
    """What of a session this plugin judges: checks, and the site's own tests."""
    tests = {test.nodeid: test for test in state.site_tests}
    found = [item if isinstance(item, CheckItem) else tests.get(item.nodeid) for item in items]
    return [one for one in found if one is not None]


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
    if not items and (config.option.markexpr or config.option.keyword):
        state.nothing = nothing_selected(config.option.markexpr, config.option.keyword, state.site)
    planned = _planned(items, state)
    state.planned = tuple(one for one in planned if one.check.id not in excluded)
    absent = {one.nodeid for one in planned if one.check.id in excluded
              or (config.option.read_only and one.check.intrusive)}
    left_out = [item for item in items if item.nodeid in absent]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.nodeid not in absent]
    if any(HOST_FIXTURE in getattr(item, "fixturenames", ()) for item in items):
        _refuse_stray(items)


def _refuse_stray(items: Iterable[pytest.Item]) -> None:
    from acceptance.site_tests import refuse_stray

    try:
        refuse_stray(items)
    except WrongUse as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    state = session.config.stash.get(STATE, None)
    if state is None or session.config.option.collectonly or not state.planned or session.testsfailed:
        return
    from acceptance.html_log import start_log
    from acceptance.live import LiveRun

    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    progress = Progress(reporter)
    try:
        assert state.site is not None
        items = _planned(session.items, state)
        kept = {one.nodeid for one in state.planned}
        left_out = [test for test in state.site_tests if test.nodeid not in kept
                    and test.check.id not in state.site.contract.not_measurable]
        state.live = LiveRun.start(state.site, session.config, state.planned, items, progress, left_out)
        progress.header(state.site, items, needed(items), state.live.folder.path)
        start_log(session, state.live.folder.path / "log.html", state.live.judged.get)
        state.live.collect(needed(items), progress)
    except WrongUse as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    test = _site_test(item)
    if test is not None:
        test.begin(item.config.stash[STATE].live)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    report = yield
    test = _site_test(item)
    if test is not None:
        test.note(call, report, item.config)
    return report


def _site_test(item: pytest.Item) -> SiteTest | None:
    if HOST_FIXTURE not in getattr(item, "fixturenames", ()):
        return None
    from acceptance.site_tests import SITE_TEST

    return item.stash.get(SITE_TEST, None)


def needed(items: Iterable[CheckItem | SiteTest]) -> dict[str, frozenset[str]]:
    """Collectors that the items need, and the checks that ask for each: facts first, then in the order of the items."""
    ids: dict[str, frozenset[str]] = {}
    for check in (item.check for item in items):
        ids |= {need: ids.get(need, frozenset()) | {check.id} for need in check.needs}
    unknown = [id for id in ids if id not in COLLECTORS]
    if unknown:
        raise WrongUse(f"no collector is called {unknown[0]}; known are {', '.join(sorted(COLLECTORS))}")
    return {id: ids[id] for id in sorted(ids, key=lambda id: (id != "facts", COLLECTORS[id].intrusive))}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    state = session.config.stash.get(STATE, None)
    plugins = session.config.pluginmanager
    if state is not None and "hypothesis" not in sys.modules and plugins.has_plugin("hypothesispytest"):
        # no test used it, and its summary would import all of it to say nothing: a third of a second
        plugins.unregister(name="hypothesispytest")
    if state is None or state.live is None:
        return
    code = state.live.finish(int(exitstatus), session.testsfailed)
    session.exitstatus = code


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    state = config.stash.get(STATE, None)
    if state is not None and state.nothing:
        terminalreporter.write_line(show(state.nothing))
    if state is None or state.live is None or state.live.report is None:
        return
    for line in verdict_lines(state.live.report):
        terminalreporter.write_line(show(line))

