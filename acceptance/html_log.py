"""pytest-html's log of a run, log.html in its folder: every item with its findings, escaped where pytest-html does not.

pytest-html opens its file when pytest is configured, and the run folder is made later; so it is started here, by its
own hooks, unless the user has asked for a log elsewhere with --html.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.findings import show
from acceptance.judge import Judgement

if TYPE_CHECKING:
    from pytest_html.report_data import ReportData

Judged = Callable[[str], Judgement | None]  # by pytest's id of the item


class Rows:
    """What pytest-html shows of a run: a title, items' names as text, and what was found."""

    def __init__(self, run: str, judged: Judged) -> None:
        self._run, self._judged = run, judged

    def pytest_html_report_title(self, report: ReportData) -> None:
        """The run's id in place of the file's name."""
        report.title = f"Log of run {self._run}"

    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        """The name as text: a host's name may hold markup."""
        cells[1] = f'<td class="col-testId">{escape(show(report.nodeid))}</td>'

    def pytest_html_results_table_html(self, report: pytest.TestReport, data: list[str]) -> None:
        """What was found, a line a finding, under pytest's own text of a failure."""
        judgement = self._judged(report.nodeid) if report.when == "call" else None
        if judgement is not None:
            data[:] = [*([data[0]] if report.failed else []),
                       *(escape(f"{one.verdict.value:8}{show(one.sentence())}") for one in judgement.findings)]


def start_log(session: pytest.Session, path: Path, judged: Judged) -> None:
    """Start pytest-html with `path`; does nothing where --html names another file."""
    config = session.config
    plugins = config.pluginmanager
    if not plugins.has_plugin("html") or config.option.htmlpath:
        return
    from pytest_html import plugin
    from pytest_html.basereport import BaseReport

    config.option.htmlpath, config.option.self_contained_html = str(path), True
    plugin.pytest_configure(config)
    plugins.register(Rows(path.parent.name, judged))
    [log] = [one for one in plugins.get_plugins() if isinstance(one, BaseReport)]
    log.pytest_sessionstart(session)
    log.pytest_collection_finish(session)
