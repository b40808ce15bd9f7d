"""The lab as fixtures: once bare, once deployed, each for the whole session.

The modules are numbered because a lab is brought up bare once, judged bare, and then deployed for all that follows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.hosts import Lab

ROOT = Path(__file__).parents[2]
ANSIBLE = ["env", "ANSIBLE_CONFIG=scripts/ansible/ansible.cfg", "ansible-playbook"]


@dataclass(frozen=True)
class Run:
    """One run of the suite on the operator's host: its exit code, what it printed, and its folder."""

    exit_code: int
    output: str
    folder: Path

    @property
    def items(self) -> list[dict[str, Any]]:
        """Every judged item, in order."""
        return [json.loads(line) for line in (self.folder / "findings.jsonl").read_text().splitlines()]

    def reds(self) -> list[tuple[str, str, str]]:
        """(check, subject, verdict) of every item that is not PASS."""
        return [(i["check"], i["subject"], i["verdict"]) for i in self.items if i["verdict"] != "PASS"]


def plain_environment() -> dict[str, str]:
    """This process's environment without what would steer another pytest."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}


def lab_command(*arguments: str, timeout: float = 900, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`python -m lab …` in this checkout."""
    done = subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, text=True, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=plain_environment(), check=False)
    if check and done.returncode:
        raise AssertionError(f"python -m lab {' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-3000:]}")
    return done


def run_suite(folder: Path, *arguments: str, timeout: float = 300) -> Run:
    """pytest on the operator's host, with a report folder of its own."""
    done = lab_command("run", "pytest", *arguments, "--report-dir", str(folder), timeout=timeout, check=False)
    runs = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()) if folder.is_dir() else []
    assert runs, f"the run left no folder: {done.stdout[-2000:]}"
    return Run(done.returncode, done.stdout, runs[-1])


def play(*arguments: str, playbook: str = "scripts/ansible/site.yml") -> tuple[str, dict[str, int]]:
    """One of the project's playbooks on the lab; the output, and `changed` of each host."""
    done = lab_command("run", *ANSIBLE, playbook, *arguments, timeout=900)
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=0", done.stdout, re.MULTILINE)
    return done.stdout, {host: int(changed) for host, changed in recap}


@contextmanager
def aloud(config: pytest.Config, text: str) -> Iterator[None]:
    """For what takes minutes: says what it is, and lets through what is printed meanwhile."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{text}", flush=True)
        yield


@pytest.fixture(scope="session")
def bare_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab that has just been brought up: servers as they arrive."""
    with aloud(request.config, "the lab: up, bare"):
        lab_command("down")
        # shown as it comes: the first time it builds Kubernetes, which takes a quarter of an hour and more
        subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=True, timeout=4800, env=plain_environment())
    yield Lab.open()
    lab_command("down")


@pytest.fixture(scope="session")
def first_play(request: pytest.FixtureRequest, bare_lab: Lab) -> tuple[str, dict[str, int]]:
    """The playbooks' first run on the bare lab."""
    del bare_lab
    with aloud(request.config, "the lab: the playbooks (about a minute)"):
        return play()


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab, deployed. With LAB_DEPLOYED=1 the one that is up already is taken, to try one test again."""
    if os.environ.get("LAB_DEPLOYED") != "1":
        assert request.getfixturevalue("first_play")[1]
    return Lab.open()


def with_cluster(lab: Lab) -> Lab:
    """The lab, if Kubernetes is deployed on it: test_06 has done so, or whoever tries one test again must."""
    if not (lab.home / "operator" / "validator.conf").exists():
        pytest.skip("no Kubernetes is deployed on the lab; see the module")
    return lab
