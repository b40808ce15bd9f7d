"""The lab's Go programs: what pins them, and the names under which they are kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab import go, programs
from lab.go import Program


@pytest.mark.parametrize("program", programs.PROGRAMS.values(), ids=lambda program: program.name)
def test_every_program_is_pinned_by_a_module_with_hashes(program: Program) -> None:
    folder = go.MODULES / program.module
    text = (folder / "go.mod").read_text()
    sums = (folder / "go.sum").read_text().splitlines()
    assert all(re.fullmatch(r"\S+ v\S+ h1:\S+=", line) for line in sums)
    if program.package != ".":
        assert re.search(rf"^(tool|\t)\s*{re.escape(program.package)}$", text, re.M)
        root = max((m for m in re.findall(r"^(?:require |\t)(\S+) v", text, re.M)
                    if program.package.startswith(m)), key=len)
        assert re.search(rf"^(?:require |\t){re.escape(root)} v{re.escape(program.version)}\b", text, re.M)


def test_staging_modules_have_the_version_of_kubernetes() -> None:
    text = (go.MODULES / "kubernetes" / "go.mod").read_text()
    versions = set(re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ v(\S+)$", text, re.M))
    assert versions == {"0." + programs.KUBERNETES.split(".", 1)[1]}


def test_own_sources_change_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go, "MODULES", tmp_path)
    program = Program("thing", "thing", ".", "1.0", 1)
    (tmp_path / "thing").mkdir()
    assert program.key == "1.0"
    (tmp_path / "thing/go.mod").write_text("module thing\n")
    (tmp_path / "thing/main.go").write_text("package main\n")
    first = program.key
    (tmp_path / "thing/main_test.go").write_text("package main\n")
    assert first.startswith("1.0-")
    assert program.key == first
    (tmp_path / "thing/main.go").write_text("package main // changed\n")
    assert program.key != first


def test_what_is_missing_is_announced_and_built_in_order(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ACCEPTANCE_CACHE", str(tmp_path))
    built: list[str] = []

    def build(program: Program) -> Path:
        built.append(program.name)
        program.built.parent.mkdir(parents=True, exist_ok=True)
        program.built.touch()
        return program.built

    monkeypatch.setattr(programs, "build", build)
    programs.build_all(("helm", "kubectl"))
    assert built == ["helm", "kubectl"]
    assert re.findall(r"building (\S+) \S+ \(about (\d+) s left\)", capsys.readouterr().out) == [
        ("helm", "170"), ("kubectl", "110")]
    assert (tmp_path / "bin/kubectl").resolve() == programs.PROGRAMS["kubectl"].built
    programs.build_all(("helm", "kubectl"))
    assert len(built) == 2
