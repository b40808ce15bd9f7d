"""What a run would do, host by host: the collectors are run with shells that carry nothing out.

What is asked later because of an earlier answer is planned as if every host had answered well.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceptance.checks import Collector
from acceptance.collect import Session
from acceptance.evidence import Recorder
from acceptance.site.load import Site
from acceptance.transport.shell import Outcome

OPERATOR = "operator"

@dataclass
class PlanShell:
    """Notes each command in place of running it. `here`: all of them run on the operator's host, whatever is named."""

    commands: list[tuple[str, str]]  # host, command
    here: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, host: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float,
            sudo: bool = False) -> Outcome:
        """See `Shell.run`; the outcome is that of a command which did what it was asked for and said nothing."""
        text = shlex.join([*(("sudo", "-n") if sudo else ()), *argv])
        if stdin:
            text += f"   # a program on standard input, {len(stdin) / 1000:.1f} kB"
        with self._lock:
            self.commands.append((OPERATOR if self.here else host, f"{text}   # at most {deadline_s:g} s"))
        return Outcome("exited", 0, json.dumps(_answer(argv)), "", 0.0)


def _answer(argv: Sequence[str]) -> Any:
    """What a program of `collectors.on_node` would print; see there for its forms."""
    try:
        asked = json.loads(argv[3])
    except (IndexError, ValueError):
        return {}
    done = {"exit_code": 0, "stdout": "", "stderr": "", "start_s": 0.0, "end_s": 0.0}
    if isinstance(asked, dict) and "run" in asked:
        return [[done for _ in batch] for batch in asked["run"]]
    return {"groups": [0] * len(asked["start"])} if isinstance(asked, dict) and "start" in asked else {}


def planned_commands(one: Collector, site: Site) -> list[tuple[str, str]]:
    """(host, command) of one collector, by host in the inventory's order, each host's in the order in which they run.

    Collectors that reach the cluster by other ways than a shell have none here.
    """
    if not one.by_shell:
        return []
    commands: list[tuple[str, str]] = []
    shell, local = PlanShell(commands), PlanShell(commands, here=True)
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "evidence.jsonl")
        try:
            one.collect(Session(site, shell, local, recorder, one.id, lambda *_: None, threading.Event()))
        finally:
            recorder.close()
    order = {host.name: place for place, host in enumerate(site.hosts, start=1)}
    return sorted(commands, key=lambda each: order.get(each[0], 0))
