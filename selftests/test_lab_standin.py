"""The lab's stand-ins in Go: their own tests, where the program is built (else it would take minutes to compile)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import go
from lab.programs import PROGRAMS

FOLDER = go.MODULES / "standin"
RULES = sorted((FOLDER / "testdata").glob("*.nft"))


@pytest.mark.skipif(not PROGRAMS["standin"].built.exists(), reason="not built: python -m lab.programs standin")
def test_go_tests_pass() -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    for words in (["vet", "."], ["test", "-trimpath", "."]):  # as the program is built: what is compiled serves both
        done = subprocess.run([go.compiler(), *words], cwd=FOLDER, env=environment, capture_output=True, text=True,
                              timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.stem)
def test_nft_takes_the_rules_twice(rules: Path) -> None:
    """In a network namespace of its own: first in an empty one, then in place of themselves."""
    listing = "nft list table ip lab-policy"
    script = f"nft -f {rules} && {listing} > /dev/stderr && nft -f {rules} && {listing}"
    done = subprocess.run(["unshare", "-n", "sh", "-ec", script], capture_output=True, text=True, timeout=30,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr
