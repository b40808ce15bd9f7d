"""Keeps the project's own folder as pytest's root when an option of this plugin names a path elsewhere.

pytest looks for its configuration before any plugin has told it of options, so it takes RUN in `--evidence RUN` for a
test folder: with a run on another disk the checks would be looked for beside that run, and `testpaths` not be read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

OPTIONS = ("--site", "--evidence", "--report-dir")


def misled(arguments: Sequence[str], folder: Path, found: Path | None) -> Path | None:
    """The configuration that pytest should have read, where one of our options made it read another; else None.

    `folder` is where pytest was started, `found` the configuration file that it read.
    """
    if not set(arguments) & set(OPTIONS) or any(a.startswith(("-c", "--config-file", "--rootdir")) for a in arguments):
        return None
    nearest = next((path / "pyproject.toml" for path in (folder, *folder.parents)
                    if (path / "pyproject.toml").is_file()), None)
    return nearest if nearest != found else None


def restart(arguments: Sequence[str], right: Path) -> None:
    """Start pytest again with the right configuration, in place of this process. Raises UsageError where it cannot."""
    count, words = len(arguments), sys.orig_argv
    if count == 0 or list(words[-count:]) != list(arguments):
        raise pytest.UsageError(
            f"the path of {' or '.join(o for o in OPTIONS if o in arguments)} was taken for a test folder; expected "
            f"the configuration {right}; write OPTION=PATH instead of OPTION PATH")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *words[1:-count], "-c", str(right), *words[-count:]])
