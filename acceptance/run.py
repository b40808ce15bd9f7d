"""The run folder: what was planned, what was recorded, what was judged; readable after a crash at any moment."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from acceptance import __version__
from acceptance.checks import CHECKS, Check
from acceptance.errors import WrongUse
from acceptance.guide import unproven
from acceptance.judge import Judgement
from acceptance.selection import missing_from_gate
from acceptance.site.load import Site
from acceptance.version import suite


class PlannedItem(Protocol):
    """What a run is about to judge: a check, its subject, and pytest's id of the item."""

    check: Check
    subject: str

    @property
    def nodeid(self) -> str: ...


def new_id(site: Site) -> str:
    """What a run that begins now is called."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{site.contract.site.name}-{secrets.token_hex(3)}"


@dataclass
class RunFolder:
    """One folder of `reports/`, written as the run goes on."""

    path: Path
    header: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, reports: Path, site: Site, run_id: str, planned: Sequence[PlannedItem], selection: dict[str, Any],
               evidence_source: str | None, recorded: dict[str, Any] | None = None,
               left_out: Sequence[PlannedItem] = ()) -> RunFolder:
        """Make the folder and write run.json. `left_out`: tests that are in no catalogue and were not selected.

        `recorded` says where and when evidence was recorded that is judged again.
        """
        now, path = datetime.now(UTC), reports / run_id
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise WrongUse(f"--report-dir {reports}: cannot be written: {error.strerror}") from None
        items = [(item.check.id, item.subject) for item in planned]
        checks = CHECKS | {item.check.id: item.check for item in planned}
        phases = sorted({item.check.phase for item in planned})
        folder = cls(path, {
            "run_id": run_id, "site": site.contract.site.model_dump(), "site_file": str(site.path),
            "contract_digest": site.digest, "contract": site.contract.model_dump(mode="json", by_alias=True),
            "hosts": [asdict(host) for host in site.hosts], "selection": selection,
            "started": now.isoformat(timespec="seconds"), "finished": None, "version": __version__,
            "suite": suite(),
            "environment": {"python": platform.python_version(), "operator": platform.node(), "argv": sys.argv[1:]},
            "planned": [{"check": i.check.id, "subject": i.subject, "item": i.nodeid} for i in planned],
            "gates": {str(p): {"missing": missing_from_gate(p, items, site) + [
                (item.check.id, item.subject) for item in left_out if item.check.phase == p]} for p in phases},
            "checks": {id: asdict(check) for id, check in checks.items() if check.phase in phases},
            "unproven": {str(p): unproven(checks, p) for p in phases},
            "not_measurable": dict(site.contract.not_measurable), "evidence_source": evidence_source,
            "recorded": recorded,
        })
        folder._write_header()
        latest, new = reports / "latest", reports / f".latest-{run_id}"
        if latest.is_symlink() or not latest.exists():  # replaced in one step: two runs may begin at once
            new.symlink_to(run_id)
            new.replace(latest)
        return folder

    @property
    def evidence(self) -> Path:
        """The evidence file."""
        return self.path / "evidence.jsonl"

    def append(self, judgement: Judgement) -> None:
        """Write one judged item to disk."""
        with (self.path / "findings.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(judgement.as_json(), sort_keys=True, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, exit_code: int) -> None:
        """Note that the run came to its end."""
        self.header |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "exit_code": exit_code}
        self._write_header()

    def _write_header(self) -> None:
        temporary = self.path / ".run.json"
        temporary.write_text(json.dumps(self.header, indent=1, default=str), encoding="utf-8")
        temporary.replace(self.path / "run.json")
