"""Watches the PCIe links of all GPUs for some seconds: one that trains down or repeats packets shows only in time."""

from __future__ import annotations

import json
from typing import Any

from acceptance.checks import collector
from acceptance.collect import Session
from acceptance.probe.build import program
from acceptance.site.inventory import Host

SAMPLES = 3
PAUSE_S = 0.7
SAMPLE_S = 15.0


@collector("pcie-samples", purpose="watching the PCIe links of all GPUs", deadline_s=75)
def collect(session: Session) -> None:
    """Records the probe's NVML section of every GPU node several times."""
    source = program({"sections": ["nvml"]})

    def sample(host: Host) -> None:
        for _ in range(SAMPLES):
            outcome = session.shell.run(host.name, ["python3", "-I", "-"], stdin=source, sudo=True,
                                        deadline_s=min(SAMPLE_S, session.contract.ssh.command_timeout_s))
            session.record(host.name, outcome=None if outcome.ok else outcome, document=_document(outcome.stdout))
            if not outcome.ok:
                return
            session.expired.wait(PAUSE_S)

    session.each(session.hosts("gpu_nodes"), sample)


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
