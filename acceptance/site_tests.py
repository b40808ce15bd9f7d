"""A site's own tests with testinfra's `host` fixture: planned, recorded, judged and reported like checks.

A test that takes `host` and bears a phase marker (@pytest.mark.phase2, or `pytestmark` in its module) is one of them.
It runs on every host of the inventory, or on those that `testinfra_hosts` or --hosts name as acceptance://GROUP. With
other hosts in `testinfra_hosts` or --hosts a test is testinfra's alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.checks import LAYERS, Check
from acceptance.errors import Unmeasured, WrongUse
from acceptance.findings import Finding, Verdict, show
from acceptance.judge import Judgement
from acceptance.live import rerun_command
from acceptance.site.load import Site
from acceptance.testinfra_backend import SCHEME, AcceptanceBackend, Trail, register

if TYPE_CHECKING:
    from acceptance.live import LiveRun

AREA = "site"
PARAMETER = "_testinfra_host"
SITE_TEST = pytest.StashKey["SiteTest"]()
_MEMORY = re.compile(r" at 0x[0-9a-f]+")
PHASES = tuple(f"phase{n}" for n in range(1, 6))


@dataclass
class SiteTest:
    """One test on one host, and how its phases (setup, call, teardown) went wrong, if they did."""

    check: Check
    subject: str
    nodeid: str
    backend: AcceptanceBackend
    live: LiveRun | None = None
    trail: Trail | None = None
    failed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def begin(self, live: LiveRun) -> None:
        """Bind the host to the run's answers; from here on it may be asked."""
        assert live.answers is not None
        self.live = live
        self.trail = Trail(self.nodeid, live.answers)
        self.backend.begin(self.trail)

    def note(self, call: pytest.CallInfo[Any], report: pytest.TestReport, config: pytest.Config) -> None:
        """Keep how one phase went; after the last, judge the test and write it down."""
        error = call.excinfo.value if call.excinfo else None
        assert self.trail is not None
        unmeasured = self.trail.unmeasured
        if isinstance(error, Unmeasured) or (report.passed and report.when == "call" and unmeasured):
            if isinstance(error, Unmeasured) and str(error) not in unmeasured:
                unmeasured.append(str(error))
            report.outcome = "failed"  # also where the test caught the error: what it went on to judge is not known
            report.longrepr = "\n".join([f"BLOCKED {self.check.id}: {show(unmeasured[-1])}",
                                         f"  again     {rerun_command(self.nodeid, config)}"])
        elif report.skipped:
            self._note_skipped(report, error)
        elif report.failed and isinstance(error, (AssertionError, pytest.fail.Exception)):
            self.failed.append(_line(error))
        elif report.failed:
            self.broken.append(f"{type(error).__name__}: {_line(error)}")
        if report.when == "teardown":
            self.backend.begin(None)
            assert self.live is not None
            self.live.folder.append(self.judgement())

    def _note_skipped(self, report: pytest.TestReport, error: BaseException | None) -> None:
        """A test that judged nothing is no pass; an expected failure is a failure."""
        assert self.trail is not None
        if hasattr(report, "wasxfail"):
            self.failed.append(f"failed, as it was marked to: {_line(error)}")
        else:
            self.trail.unmeasured.append(f"skipped: {_line(error)}")

    def judgement(self) -> Judgement:
        """PASS only if everything that was asked was answered, and the test then held."""
        assert self.trail is not None
        if self.failed or self.broken:
            verdict, measured = Verdict.FAIL, "failed"
        elif self.trail.unmeasured:
            verdict, measured = Verdict.BLOCKED, None
        else:
            verdict, measured = Verdict.PASS, "passed"
        reason = "; ".join(dict.fromkeys([*self.failed, *self.broken, *self.trail.unmeasured]))
        finding = Finding(self.subject, self.check.function, measured, "passed", "=", "", verdict, reason,
                          tuple(dict.fromkeys(self.trail.evidence)))
        error = f"the test itself failed: {self.broken[0]}" if self.broken else ""
        return Judgement(self.check.id, self.nodeid, self.subject, verdict, (finding,), error)


def hosts_of(metafunc: pytest.Metafunc, site: Site | None) -> str:
    """The value of --hosts that names a function's hosts one by one. Raises WrongUse: no such host or group."""
    register()
    return ",".join(name for spec in _specs(metafunc) or [f"{SCHEME}://all"] for name in _names(str(spec), site))


@contextmanager
def as_option(config: pytest.Config, hosts: str | None) -> Iterator[None]:
    """While testinfra parametrises a function: hosts as if --hosts had named them; None changes nothing."""
    given = config.option.hosts
    config.option.hosts = given if hosts is None else hosts
    try:
        yield
    finally:
        config.option.hosts = given


def concerns(metafunc: pytest.Metafunc) -> bool:
    """Whether the function's hosts are this suite's to name: acceptance:// hosts, or no hosts but a phase."""
    specs = _specs(metafunc)
    if specs is None:
        return metafunc.config.option.connection is None and bool(_phases(metafunc.definition))
    return any(str(spec).startswith(f"{SCHEME}://") for spec in specs)


def _specs(metafunc: pytest.Metafunc) -> list[str] | None:
    """The hosts that were asked for, as testinfra finds them: --hosts, else the module's own, else None."""
    given: str | None = metafunc.config.option.hosts
    return given.split(",") if given is not None else getattr(metafunc.module, "testinfra_hosts", None)


def _names(spec: str, site: Site | None) -> list[str]:
    name = spec.removeprefix(f"{SCHEME}://")
    if name == spec or site is None:  # without a contract the session ends before anything is asked
        return [spec]
    found = [host.name for host in site.hosts if name in ("all", host.name) or name in host.groups]
    if not found:
        groups = sorted({group for host in site.hosts for group in host.groups})
        raise WrongUse(f"{spec}: no such host or group in the inventory; expected all, a host, or one of "
                       f"{', '.join(groups)}")
    return [f"{SCHEME}://{host}" for host in found]


def refuse_stray(items: Iterable[pytest.Item]) -> None:
    """Raises WrongUse for a test that would ask the operator's host in place of the cluster, and be in no report."""
    for item in items:
        if PARAMETER not in getattr(item, "fixturenames", ()) or SITE_TEST in item.stash:
            continue
        option, module = item.config.option, getattr(item, "module", None)
        if option.hosts is None and option.connection is None and not hasattr(module, "testinfra_hosts"):
            raise WrongUse(f"{item.nodeid}: takes `host` and bears no phase marker; expected for example "
                           "@pytest.mark.phase2, or hosts of its own in testinfra_hosts")


def site_test_of(item: pytest.Item) -> SiteTest | None:
    """The site test that an item is, if it is one; its markers are added. Raises WrongUse without one phase."""
    host = getattr(getattr(item, "callspec", None), "params", {}).get(PARAMETER)
    backend = getattr(host, "backend", None)
    if not isinstance(item, pytest.Function) or not isinstance(backend, AcceptanceBackend):
        return None
    phases = _phases(item)
    if len(phases) != 1:
        raise WrongUse(f"{item.nodeid}: expected one phase marker, found {', '.join(phases) or 'none'}; "
                       "write for example @pytest.mark.phase2")
    check = _check_of(item, int(phases[0][-1]), backend.hostname)
    for name in (check.layer, AREA):
        item.add_marker(name)
    test = SiteTest(check, backend.hostname, item.nodeid, backend)
    item.stash[SITE_TEST] = test
    return test


def _check_of(item: pytest.Function, phase: int, host: str) -> Check:
    """The catalogue's entry for a test; other parameters than the host are part of its id."""
    base = item.nodeid.partition("[")[0]
    rest = item.callspec.id.replace(host, "", 1).replace("--", "-").strip("-")
    text = (item.function.__doc__ or "").strip().split("\n")[0] or f"The site's test {item.originalname} passes"
    return Check(
        id=f"{base}[{rest}]" if rest else base, phase=phase, area=AREA, clause="Site", criterion=text,
        layer=next((name for name in LAYERS if item.get_closest_marker(name)), "acceptance"),
        remedy="see the test's own text", hosts="all", needs=(), level="must",
        daily=item.get_closest_marker("daily") is not None,
        intrusive=item.get_closest_marker("intrusive") is not None,
        function=item.originalname, module=item.module.__name__)


def _phases(node: pytest.Item | pytest.Function | Any) -> list[str]:
    return sorted({mark.name for mark in node.iter_markers()} & set(PHASES))


def _line(error: BaseException | None) -> str:
    """The error in one line, without addresses in memory: a run that is judged again says the same."""
    return _MEMORY.sub("", " ".join(str(error).split()))[:300]
