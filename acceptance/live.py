"""One session with checks from start to end: shells, evidence, judging, reports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acceptance.collect import run_collectors
from acceptance.errors import WrongUse
from acceptance.evidence import Evidence, Recorder, read_evidence
from acceptance.facts import Cluster
from acceptance.judge import Judgement, build_cluster, judge
from acceptance.model import RunReport, load_run
from acceptance.run import RunFolder
from acceptance.site.load import Site
from acceptance.transport.local import LocalShell
from acceptance.transport.ssh import SshShell, check_key_file

if TYPE_CHECKING:
    import pytest

    from acceptance.plugin import CheckItem
    from acceptance.terminal import Progress


@dataclass
class LiveRun:
    """A run under way. `source` is the recorded run that is judged again, if any."""

    site: Site
    folder: RunFolder
    source: Path | None
    evidence: Evidence = field(default_factory=lambda: Evidence(()))
    cluster: Cluster | None = None
    report: RunReport | None = None

    @classmethod
    def start(cls, site: Site, config: pytest.Config, planned: Sequence[CheckItem], progress: Progress) -> LiveRun:
        """Check what the user gave, then make the run folder. Raises WrongUse."""
        del progress
        import acceptance.collectors
        import acceptance.probe.collector  # noqa: F401  (registers its collector)

        source = Path(config.option.evidence) if config.option.evidence else None
        if source and source.is_dir():
            source = source / "evidence.jsonl"
        if source and not source.is_file():
            raise WrongUse(f"--evidence {config.option.evidence}: no evidence.jsonl there; expected a run folder")
        if source is None:
            check_key_file(Path(os.path.expanduser(site.contract.ssh.private_key)))
        selection = {"markers": config.option.markexpr, "keyword": config.option.keyword,
                     "read_only": bool(config.option.read_only), "arguments": [str(a) for a in config.args]}
        pairs = [((item.check.id, item.subject), item.nodeid) for item in planned]
        folder = RunFolder.create(Path(config.option.report_dir).absolute(), site, pairs, selection,
                                  str(source) if source else None)
        return cls(site, folder, source)

    def collect(self, ids: Sequence[str], progress: Progress) -> None:
        """Record evidence, or read what was recorded."""
        if self.source:
            self.evidence = read_evidence(self.source)
            self.folder.evidence.write_bytes(self.source.read_bytes())
        else:
            contract = self.site.contract
            shell = SshShell(contract.ssh, {host.name: host for host in self.site.hosts})
            recorder = Recorder(self.folder.evidence, [os.environ.get(contract.ldap.password_env, "")])
            with contextlib.closing(shell), contextlib.closing(recorder):
                run_collectors(ids, self.site, shell, LocalShell(), recorder, progress.say)
            self.evidence = recorder.evidence()
        self.cluster = build_cluster(self.site, self.evidence)

    def judge(self, item: CheckItem) -> Judgement:
        """Judge one item and write it down."""
        assert self.cluster is not None
        judgement = judge(item.check, item.function, item.nodeid, item.host, self.site, self.evidence, self.cluster)
        self.folder.append(judgement)
        return judgement

    def finish(self, exit_code: int) -> int:
        """Write the reports; the exit code that the decision asks for."""
        self.report = load_run(self.folder.path)
        code = exit_code
        if exit_code in (0, 1):
            code = 0 if self.report.passed else 1
        self.folder.finish(code)
        self.report = load_run(self.folder.path)
        from acceptance.report import write_reports

        write_reports(self.folder.path)
        return code


def rerun_command(item: str, config: Any) -> str:
    """The command that runs one item again."""
    site = config.option.site or os.environ.get("ACCEPTANCE_SITE")
    return f"pytest '{item}'" + (f" --site {site}" if site else "")
