"""Which suite this is: its version and, where it runs from a git checkout, the commit and whether it was changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acceptance import __version__

ROOT = Path(__file__).parents[1]
JUDGING = ("acceptance", "tests_*", "workloads", "pyproject.toml")  # what is changed elsewhere judges nothing
DEADLINE_S = 10.0


def suite(root: Path = ROOT) -> dict[str, Any]:
    """Version, commit and `modified`; the last two are None where no git checkout of the suite can be asked."""
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None  # of its own, not one around it
    changes = _git(root, "status", "--porcelain", "--", *JUDGING) if commit else None
    return {"version": __version__, "commit": commit or None, "modified": None if changes is None else bool(changes)}


def other(recorded: Mapping[str, Any], judging: Mapping[str, Any]) -> str:
    """One sentence where evidence was recorded by another suite than the one that judges it, or by one of which it
    cannot be told; else nothing."""
    if not recorded.get("known"):
        return ""
    before = recorded.get("suite") or {}
    same = all(before.get(key) == judging.get(key) for key in ("version", "commit")) and not (
        before.get("modified") or judging.get("modified"))
    if same:
        return ""
    return f"Recorded by suite {spoken(before)}; judged by suite {spoken(judging)}."


def _git(root: Path, *words: str) -> str | None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False,
                              timeout=DEADLINE_S, env=environment | {"GIT_OPTIONAL_LOCKS": "0"})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def spoken(found: Mapping[str, Any]) -> str:
    """A suite as a person would name it: "version 0.1.0, commit 0123456789ab, modified"."""
    commit, modified = found.get("commit"), found.get("modified")
    return ("version " + str(found.get("version") or "not known") + (f", commit {str(commit)[:12]}" if commit else "")
            + (", modified" if modified else ""))
