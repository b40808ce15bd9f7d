"""Bringing the lab up is done by one at a time; taking it down leaves nothing, whatever became of `up`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import cgroup, network
from lab.hosts import home
from selftests.lab.conftest import ROOT, lab_command


def leftovers() -> list[str]:
    """Processes, mounts, network namespaces and control groups of the lab that are there now."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()
              if line.split()[1].startswith(f"{home()}/")]
    groups = [str(top / cgroup.NAME) for top in cgroup.hierarchies() if (top / cgroup.NAME).exists()]
    return [*map(str, sorted(cgroup.processes())), *mounts, *network.namespaces(), *groups]


def start() -> subprocess.Popen[str]:
    """`lab up` in the background, in a process group of its own."""
    return subprocess.Popen([sys.executable, "-m", "lab", "up"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"`up` ended without saying {text!r}")


@pytest.mark.parametrize("step", ["network", "directory", "booting", "waiting"])
def test_down_leaves_nothing_of_an_up_that_was_killed(step: str) -> None:
    lab_command("down")
    with start() as process:
        read_until(process, step)
        os.killpg(process.pid, signal.SIGKILL)
    assert lab_command("down").stdout.strip().endswith("nothing is left")
    assert leftovers() == []


def test_a_second_up_at_the_same_time_is_refused_and_a_later_one_has_nothing_to_do() -> None:
    lab_command("down")
    with start() as process:
        read_until(process, "[1/")
        second = lab_command("up", check=False)
        process.communicate()
    assert (second.returncode, len(second.stdout.splitlines())) == (4, 1)
    assert "another" in second.stdout
    assert process.returncode == 0
    assert lab_command("up").stdout.strip() == "lab: already up"
    lab_command("down")
    assert leftovers() == []


def test_a_lab_that_is_not_up_is_said_so_in_one_line() -> None:
    lab_command("down")
    for arguments in (["run", "true"], ["status"], ["shell", "gpu-node-01"], ["fault", "inject", "gpu-hot"]):
        done = lab_command(*arguments, check=False)
        assert (done.returncode, done.stdout) == (4, "lab: the lab is not up; run `python -m lab up`\n")
