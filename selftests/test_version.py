"""A run says which suite made it; evidence that another one recorded is judged with a word on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from acceptance import __version__
from acceptance.model import load_run
from acceptance.version import other, spoken, suite
from selftests.mini import Mini
from selftests.test_origin import changed, text_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *words: str) -> str:
    """git with no settings but its own."""
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    environment = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    return subprocess.run(["git", *who, *words], cwd=folder, text=True, capture_output=True, check=True, timeout=60,
                          env=environment).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "suite"
    for name in ("acceptance/judge.py", "tests_gpu/test_x.py", "site.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("one\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    return root


def test_a_checkout_is_known_by_its_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"version": __version__, "commit": git(checkout, "rev-parse", "HEAD"), "modified": False}
    assert suite(checkout) == expected
    (checkout / "site.yaml").write_text("another contract, which has a digest of its own\n")
    assert suite(checkout) == expected
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    assert suite(checkout) == expected


@pytest.mark.parametrize("name", ["acceptance/judge.py", "tests_gpu/test_x.py", "tests_gpu/test_new.py"])
def test_what_judges_and_was_changed_is_modified(checkout: Path, name: str) -> None:
    (checkout / name).write_text("two\n")
    assert suite(checkout)["modified"] is True
    assert spoken(suite(checkout)).endswith(", modified")


def test_without_a_checkout_of_its_own_there_is_only_a_version(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"version": __version__, "commit": None, "modified": None}
    assert suite(checkout / "acceptance") == installed  # installed inside of some other project's checkout
    monkeypatch.setenv("PATH", "/nowhere")
    assert suite(checkout) == installed
    assert spoken(installed) == f"version {__version__}"


@pytest.mark.parametrize(("recorded", "judging", "told"), [
    ({"version": "1", "commit": COMMIT, "modified": False}, {"version": "1", "commit": COMMIT, "modified": False}, ""),
    ({"version": "1", "commit": None}, {"version": "1", "commit": None}, ""),
    ({"version": "1"}, {"version": "2"}, "Recorded by suite version 1; judged by suite version 2."),
    ({"version": "1"}, {"version": "1", "commit": COMMIT},
     "Recorded by suite version 1; judged by suite version 1, commit 0123456789ab."),
    ({"version": "1", "commit": COMMIT, "modified": True}, {"version": "1", "commit": COMMIT},
     "Recorded by suite version 1, commit 0123456789ab, modified; judged by suite version 1, commit 0123456789ab."),
    (None, {"version": "1"}, "Recorded by suite version not known; judged by suite version 1."),
])
def test_another_suite_is_told_in_one_sentence(recorded: Any, judging: dict[str, Any], told: str) -> None:
    assert other({"known": True, "suite": recorded}, judging) == told
    assert other({"known": False, "suite": recorded}, judging) == ""


def test_a_run_says_which_suite_made_it_and_which_recorded(tmp_path: Path) -> None:
    mini = Mini(tmp_path / "site", ["echo"])
    live = mini.run("-m", "phase1")
    header = load_run(live.path).header
    assert header["suite"] == suite()
    assert f"Suite {spoken(suite())}, run from" in text_of(live.path)
    assert "Recorded by suite" not in live.out + text_of(live.path)
    earlier = changed(live.path, tmp_path / "earlier", suite={"version": "0.0.9", "commit": COMMIT, "modified": False})
    again = mini.run("-m", "phase1", "--evidence", str(earlier))
    told = f"Recorded by suite version 0.0.9, commit 0123456789ab; judged by suite {spoken(suite())}."
    assert told in again.out
    assert told in text_of(again.path)
    twice = mini.run("-m", "phase1", "--evidence", str(again.path))
    assert told in text_of(twice.path)  # who judged in between recorded nothing
