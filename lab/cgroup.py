"""The lab's control groups: one tree `lab`, in every v1 controller or in the unified v2 hierarchy.

Every process of the lab lives in it, so that `down` finds all of them, whatever became of `up`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NAME = "lab"
V1 = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


def unified() -> bool:
    """Whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Where the lab's tree is made: each mounted v1 controller, systemd's own and the v2 beside them, or v2 alone.

    A hierarchy left out here would be shared by all hosts, and each systemd would tidy the others' groups away.
    """
    if unified():
        return [ROOT]
    return [ROOT / name for name in (*V1, "systemd", "unified") if (ROOT / name).is_dir()]


def controllers() -> list[str]:
    """The v1 controllers that a host mounts; none on v2."""
    return [] if unified() else [name for name in V1 if (ROOT / name).is_dir()]


def create(host: str) -> None:
    """Make the host's groups, ready to be entered."""
    if unified():
        _delegate(ROOT)
    for top in hierarchies():
        for folder in (top / NAME, top / NAME / host):
            folder.mkdir(exist_ok=True)
            if top.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((top / file).read_text())
        if unified():
            _delegate(top / NAME)
    _prefer()


def _prefer() -> None:
    """Let the lab's hosts run before other work of the machine: their bandwidth is measured, and load is no fault."""
    for file, weight in (("cpu/lab/cpu.shares", "262144"), ("lab/cpu.weight", "10000")):
        if (ROOT / file).exists():
            (ROOT / file).write_text(weight)


def _delegate(folder: Path) -> None:
    """Let children have controllers; a group with processes of its own cannot, so these move one down first."""
    rest = folder / "rest"
    if folder == ROOT and (folder / "cgroup.procs").read_text().split():
        rest.mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # kernel threads stay
                (rest / "cgroup.procs").write_text(pid)
    for name in ("cpu", "memory", "pids", "io", "cpuset"):
        with contextlib.suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{name}")


def enter(host: str) -> None:
    """Put the calling process into the host's groups (between fork and exec)."""
    for top in hierarchies():
        (top / NAME / host / "cgroup.procs").write_text("0")


def processes() -> set[int]:
    """All processes of the lab, in any of its groups."""
    found: set[int] = set()
    for group in _groups():
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return found


def kill_all(deadline_s: float = 20.0) -> bool:
    """Kill every process of the lab by its id, until none is left; whether that came about."""
    until = time.monotonic() + deadline_s
    while left := processes():
        if time.monotonic() > until:
            return False
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return True


def remove() -> None:
    """Remove the tree, deepest groups first."""
    for group in sorted(_groups(), key=lambda path: len(path.parts), reverse=True):
        for _ in range(50):
            try:
                group.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)


def _groups() -> Iterator[Path]:
    for top in hierarchies():
        for folder, _, _ in os.walk(top / NAME):
            yield Path(folder)
