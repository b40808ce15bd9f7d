"""Programs that run in the suite's own pods: standard library or a plain shell only, nothing is installed there."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from acceptance.errors import ParseError

MARK = "ACCEPTANCE "
GPU_PROGRAM = ("echo begin; nvidia-smi -L 2>&1; echo \"exit $?\"; ls -d /dev/nvidia[0-9]* 2>/dev/null; echo end; "
               "exec sleep \"$HOLD_S\"")


def probe_command() -> list[str]:
    """The command of a probe pod; what it does stands in its variable PROBE."""
    return ["python3", "-I", "-c", files(__name__).joinpath("probe.py").read_text(encoding="utf-8")]


def gpu_command() -> list[str]:
    """The command of a pod that says which GPUs it sees, and then holds them."""
    return ["sh", "-c", GPU_PROGRAM]


def result(log: str) -> dict[str, Any]:
    """What a probe pod printed. Raises ParseError when that is no whole result."""
    lines = [line for line in log.splitlines() if line.startswith(MARK)]
    try:
        found = json.loads(lines[-1].removeprefix(MARK)) if lines else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ParseError(f"the probe printed no result: {log.strip()[-120:]!r}")
    return found
