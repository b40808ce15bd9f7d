"""One session with checks from start to end: shells, evidence, judging, reports."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acceptance.cluster_api import Api, open_api
from acceptance.collect import run_collectors
from acceptance.errors import WrongUse
from acceptance.evidence import Evidence, Recorder, parse_evidence, read_records
from acceptance.facts import Cluster
from acceptance.facts.kubernetes import KubeFacts
from acceptance.findings import Verdict
from acceptance.judge import Judgement, build_cluster, judge
from acceptance.model import RunReport, load_run
from acceptance.origin import UNKNOWN, origin
from acceptance.run import PlannedItem, RunFolder, new_id
from acceptance.site.load import Site
from acceptance.transport.local import LocalShell
from acceptance.transport.recorded import Answers, LiveAnswers, RecordedAnswers
from acceptance.transport.ssh import SshShell, check_key_file
from acceptance.version import other

if TYPE_CHECKING:
    import pytest

    from acceptance.plugin import CheckItem
    from acceptance.terminal import Progress

SITE_COLLECTOR = "testinfra"  # what the site's own tests record


@dataclass
class LiveRun:
    """A run under way. `source` is the recorded run that is judged again, if any.

    `answers` serve the site's own tests, which ask while they run; so what is open stays so until the run's end.
    """

    site: Site
    folder: RunFolder
    source: Path | None
    api: Api = field(default_factory=Api)
    evidence: Evidence = field(default_factory=lambda: Evidence(()))
    cluster: Cluster | None = None
    kube: KubeFacts | None = None
    report: RunReport | None = None
    answers: Answers | None = None
    judged: dict[str, Judgement] = field(default_factory=dict)  # by pytest's id of the item
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @classmethod
    def start(cls, site: Site, config: pytest.Config, planned: Sequence[PlannedItem], items: Sequence[PlannedItem],
              progress: Progress, left_out: Sequence[PlannedItem] = ()) -> LiveRun:
        """Check what the user gave, then make the run folder. Raises WrongUse.

        `items` is what of `planned` will be judged: with --read-only some are not. `left_out` was not selected.
        """
        from acceptance.collectors import register

        register()
        source = _source(config.option.evidence) if config.option.evidence else None
        raw = read_records(source) if source else b""
        evidence = parse_evidence(source, raw) if source else Evidence(())
        recorded = origin(source, evidence, site, config.option.evidence) if source else None
        run_id, api = new_id(site), Api()
        with contextlib.ExitStack() as opened:
            if source is None:
                check_key_file(Path(os.path.expanduser(site.contract.ssh.private_key)))
                api = open_api(site, items, run_id, progress.note, opened)
            selection = {"markers": config.option.markexpr, "keyword": config.option.keyword,
                         "read_only": bool(config.option.read_only), "evidence": config.option.evidence,
                         "arguments": [str(a) for a in config.args]}
            folder = RunFolder.create(Path(config.option.report_dir).absolute(), site, run_id, planned, selection,
                                      str(source) if source else None, recorded, left_out)
            _say_origin(recorded, folder, progress)
            if source:
                folder.evidence.write_bytes(raw)  # what was read: a run still going on would have more by now
            return cls(site, folder, source, api, evidence, _open=opened.pop_all())

    def collect(self, ids: Mapping[str, Collection[str]], progress: Progress) -> None:
        """Record evidence by these collectors, each for the checks that ask, unless a recorded run is judged again."""
        if self.source:
            self.answers = RecordedAnswers(self.evidence, SITE_COLLECTOR)
        else:
            contract, kube = self.site.contract, self.api.kube
            shell = self._open.enter_context(contextlib.closing(
                SshShell(contract.ssh, {host.name: host for host in self.site.hosts})))
            secrets = [os.environ.get(contract.ldap.password_env, ""), *(kube.secrets if kube else ())]
            recorder = self._open.enter_context(contextlib.closing(Recorder(self.folder.evidence, secrets)))
            local = LocalShell(deadline_factor=contract.ssh.deadline_factor)
            try:
                run_collectors(ids, self.site, shell, local, recorder, progress.say, kube, self.folder.path.name,
                               self.api.turn, self.api.absent)
            finally:
                self.api.give_back()
            self.evidence = recorder.evidence()
            self.answers = LiveAnswers(shell, recorder, SITE_COLLECTOR, contract.ssh.command_timeout_s)
        self.cluster = build_cluster(self.site, self.evidence)
        self.kube = KubeFacts(self.evidence)

    def judge(self, item: CheckItem) -> Judgement:
        """Judge one item and write it down."""
        assert self.cluster is not None
        judgement = judge(item.check, item.function, item.nodeid, item.host, self.site, self.evidence, self.cluster,
                          self.kube)
        self.folder.append(judgement)
        self.judged[item.nodeid] = judgement
        return judgement

    def finish(self, exit_code: int, failures: int) -> int:
        """Write the reports; the exit code that the decision asks for.

        `failures` counts pytest's failed tests: when there are more than items that are not PASS, something else in
        the session failed, and no decision of a gate makes that good.
        """
        self._open.close()
        self.report = load_run(self.folder.path)
        code = exit_code
        if exit_code in (0, 1):
            red = sum(item.verdict not in (Verdict.PASS, Verdict.NOT_RUN) for item in self.report.items)
            code = 0 if self.report.passed and failures <= red else 1
        self.folder.finish(code)
        self.report = load_run(self.folder.path)
        from acceptance.report import write_reports

        write_reports(self.folder.path)
        return code


def _say_origin(recorded: dict[str, Any] | None, folder: RunFolder, progress: Progress) -> None:
    """On the terminal, what the report says too: recorded nobody knows where, or by another version of the suite."""
    if recorded is None:
        return
    text = other(recorded, folder.header["suite"]) if recorded["known"] else f"{UNKNOWN}; the report says so"
    if text:
        progress.note(f"--evidence {folder.header['selection']['evidence']}: {text}")


def _source(option: str) -> Path:
    """The evidence file that --evidence names, at its own place: `reports/latest` will soon point to the new run."""
    source = Path(os.path.realpath(os.path.expanduser(option)))
    try:
        file = source / "evidence.jsonl" if source.is_dir() else source
        found = file.is_file()
    except OSError as error:
        raise WrongUse(f"--evidence {option}: cannot be read: {error.strerror}; expected a run folder") from None
    if not found:
        raise WrongUse(f"--evidence {option}: no evidence.jsonl there; expected a run folder")
    return Path(os.path.realpath(file))


def rerun_command(item: str, config: Any) -> str:
    """The command that runs one item again."""
    site = config.option.site or os.environ.get("ACCEPTANCE_SITE")
    return shlex.join(["pytest", item, *(["--site", site] if site else [])])
