"""Wrong use: one line that says what, what was expected or found, and what to do; exit code 4; no traceback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceptance.rootdir import misled, restart
from selftests.mini import Mini, clean_environment
from selftests.synthetic import ROOT


def call(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m …` in a folder."""
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, text=True, capture_output=True, check=False,
                          timeout=120, env=clean_environment() | environment)


def one_line(done: subprocess.CompletedProcess[str], *expected: str) -> str:
    """The one line on standard error of a command that was refused."""
    assert done.returncode == 4, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for part in expected:
        assert part in lines[0]
    return lines[0]


def refused(mini: Mini, *words: str, expected: tuple[str, ...], **environment: str) -> None:
    """pytest in the project refuses, and leaves no run folder."""
    done = call(mini.path, "pytest", *([] if "-m" in words else ["-m", "phase2"]), *words, **environment)
    one_line(done, "ERROR: ", *expected)
    reports = mini.path / "reports"
    assert not reports.exists() or not [path for path in reports.iterdir() if path.is_dir()]


@pytest.fixture
def mini(tmp_path: Path) -> Mini:
    return Mini(tmp_path / "site")


@pytest.mark.parametrize(("expression", "expected"), [
    ("phse2", "-m 'phse2': unknown marker 'phse2'; did you mean phase2?"),
    ("phase2 and gpuu", "unknown marker 'gpuu'; did you mean gpu?"),
    ("zzz", "unknown marker 'zzz'; known are acceptance, compute, daily"),
    ("phase2 and (", "-m 'phase2 and (': expected"),
    ("phase2 phase1", "expected marker names joined by and, or, not"),
])
def test_a_marker_expression_that_selects_by_nothing_known(expression: str, expected: str) -> None:
    line = one_line(call(ROOT, "pytest", "-m", expression, "--collect-only"), expected)
    assert one_line(call(ROOT, "acceptance", "plan", "-m", expression), expected).split(": ", 1)[1] in line


def test_no_contract(mini: Mini) -> None:
    (mini.path / "site.yaml").unlink()
    refused(mini, expected=(f"no contract at {mini.path}/site.yaml", "expected a YAML file", "--site FILE"))
    refused(mini, "--site", "nowhere.yaml", expected=("--site: no contract at nowhere.yaml",))
    refused(mini, expected=("ACCEPTANCE_SITE: no contract at",), ACCEPTANCE_SITE="elsewhere.yaml")


def _misspell(contract: dict[str, Any]) -> None:
    contract["gpu"]["memroy_mib"] = contract["gpu"].pop("memory_mib")


@pytest.mark.parametrize(("change", "expected"), [
    (_misspell, "unknown key gpu.memroy_mib; did you mean memory_mib?"),
    (lambda c: c.update(gpus=c.pop("gpu")), "unknown key gpus; did you mean gpu?"),
    (lambda c: c["ssh"].pop("user"), "key ssh.user is missing"),
    (lambda c: c["gpu"].update(count="four"), "gpu.count"),
    (lambda c: c["hosts"].update(gpu_nodes=3),
     "group gpu_nodes has 2 hosts (gpu-node-01, gpu-node-02), but"),
    (lambda c: c["hosts"].update(storage=1), "group storage has 0 hosts (none), but"),
    (lambda c: c.update(inventory="nothing.yml"), "nothing.yml: inventory cannot be read"),
])
def test_a_contract_that_cannot_be_used(mini: Mini, change: Callable[[dict[str, Any]], Any], expected: str) -> None:
    path = mini.write_contract("other.yaml", change)
    refused(mini, "--site", str(path), expected=(expected, str(mini.path)))
    one_line(call(ROOT, "acceptance", "--site", str(path), "plan"), expected, str(mini.path))


def test_a_contract_that_is_no_yaml(mini: Mini) -> None:
    (mini.path / "site.yaml").write_text("site: [unclosed\n")
    refused(mini, expected=("site.yaml: not YAML at line",))


@pytest.mark.parametrize(("spoil", "expected"), [
    (lambda key: key.unlink(), "key: cannot be read: No such file or directory; expected the ed25519 key"),
    (lambda key: key.chmod(0o644), "mode 0644, expected 0600; run: chmod 600 "),
])
def test_a_key_file_that_cannot_be_used(mini: Mini, spoil: Callable[[Path], Any], expected: str) -> None:
    spoil(mini.path / "key")
    refused(mini, expected=("ssh.private_key: ", expected, str(mini.path / "key")))


def test_evidence_that_is_none(mini: Mini, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        refused(mini, "--evidence", str(path),
                expected=(f"--evidence {path}: no evidence.jsonl there; expected a run folder",))


def test_evidence_that_was_damaged_is_named_by_its_line(mini: Mini) -> None:
    path = mini.recorded / "evidence.jsonl"
    path.write_text(path.read_text().replace("\n{", "\n!", 1))
    refused(mini, "--evidence", str(mini.recorded), expected=(f"{path}: line 2 is damaged", "cannot be judged"))
    done = call(mini.path, "pytest", "-m", "phase2", "--evidence", str(mini.recorded))
    assert "refused" not in done.stdout
    assert "accepted" not in done.stdout


def test_evidence_that_is_no_text_is_refused_whole(mini: Mini) -> None:
    (mini.recorded / "evidence.jsonl").write_bytes(b"\xff\xfe\x00binary\n")
    refused(mini, "--evidence", str(mini.recorded), expected=("evidence.jsonl: line 1 is damaged",))
    (mini.recorded / "evidence.jsonl").unlink()
    (mini.recorded / "evidence.jsonl").symlink_to("evidence.jsonl")
    refused(mini, "--evidence", str(mini.recorded), expected=("no evidence.jsonl there; expected a run folder",))


@pytest.mark.parametrize("form", ["separate", "joined"])
def test_a_report_folder_that_cannot_be_made(mini: Mini, form: str) -> None:
    place = str(mini.path / "key" / "reports")
    words = ["--report-dir", place] if form == "separate" else [f"--report-dir={place}"]
    refused(mini, "--evidence", str(mini.recorded), *words,
            expected=(f"--report-dir {place}: cannot be written: Not a directory",))


def test_an_option_that_pytest_does_not_know(mini: Mini) -> None:
    done = call(mini.path, "pytest", "--sight", "x")
    assert done.returncode == 4
    assert "unrecognized arguments: --sight" in done.stderr
    assert "Traceback" not in done.stderr


# the lab


def test_a_lab_that_is_not_up(tmp_path: Path) -> None:
    one_line(call(ROOT, "lab", "run", "true", LAB_HOME=str(tmp_path)), "lab: the lab is not up; run `python -m lab up`")
    one_line(call(ROOT, "lab", "fault", "inject", "no-such-fault", LAB_HOME=str(tmp_path)), "lab: ")


@pytest.mark.parametrize(("words", "expected"), [
    ([], "expected python -m lab up | down"), (["upp"], "found 'upp'"), (["run"], "expected a command"),
    (["shell"], "expected a host"), (["up", "now"], "up: takes no arguments, found 'now'"),
    (["fault"], "fault: the following arguments are required: command; expected python -m lab fault list | inject"),
    (["fault", "list", "foo"], "fault: unrecognized arguments: foo"),
    (["fault", "inject"], "fault inject: the following arguments are required: name"),
    (["fault", "clear", "x", "--in", "y"], "unrecognized arguments: --in y")])
def test_a_lab_command_that_is_none(words: list[str], expected: str, tmp_path: Path) -> None:
    one_line(call(ROOT, "lab", *words, LAB_HOME=str(tmp_path)), "lab: ", expected)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["fault", "--help"]])
def test_the_lab_helps(words: list[str], tmp_path: Path) -> None:
    done = call(ROOT, "lab", *words, LAB_HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m lab ")


def test_a_contract_of_the_lab_that_cannot_be_read_is_one_line_too(tmp_path: Path) -> None:
    program = ("import pathlib, runpy, sys, lab.hosts\n"
               f"lab.hosts.SITE = pathlib.Path({str(tmp_path / 'site.yaml')!r})\n"
               "sys.argv = ['lab', 'run', 'true']\n"
               "runpy.run_module('lab', run_name='__main__', alter_sys=True)\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=False,
                          timeout=60, env=clean_environment() | {"LAB_HOME": str(tmp_path)})
    one_line(done, "lab: ", f"{tmp_path}/site.yaml: cannot be read")


# the `acceptance` command


@pytest.mark.parametrize(("words", "expected"), [
    (["explain", "gpu-inventry"], "no check is called gpu-inventry; did you mean gpu-inventory?"),
    (["explain", "zzz"], "no check is called zzz; see `acceptance list`"),
    (["report", "/no/run"], "/no/run: not a run folder: run.json: No such file or directory; expected reports/RUN"),
    (["--site", "/no/site.yaml", "contract"], "no contract at /no/site.yaml"),
    (["schema", "--write", "/no/folder/schema.json"], "/no/folder/schema.json: No such file or directory"),
    (["plan", "--site", "/no/site.yaml"], "no contract at /no/site.yaml"),
    (["lsit"], "invalid choice: 'lsit'; did you mean list?"), (["lst"], "did you mean list?"),
    (["zzz"], "invalid choice: 'zzz' (choose from"), (["explain", "lst"], "no check is called lst"),
    ([], "required: COMMAND"), (["list", "--no"], "unrecognized arguments: --no"),
])
def test_the_command_refuses_in_one_line(words: list[str], expected: str) -> None:
    one_line(call(ROOT, "acceptance", *words), "acceptance", expected)


@pytest.fixture(scope="module")
def good_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Mini(tmp_path_factory.mktemp("good") / "site").judge("-m", "phase2").path


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("run.json", "{", "damaged: not JSON"), ("run.json", "[]", "damaged: expected the keys"),
    ("run.json", "{}", "damaged: expected the keys"), ("findings.jsonl", "{\n", "damaged"),
    ("findings.jsonl", "5\n", "damaged"), ("findings.jsonl", '{"check": "memory"}\n', "damaged"),
    ("findings.jsonl", '{"check": "memory", "subject": "gpu-node-01", "verdict": "FINE", "findings": []}\n', "damaged"),
    ("evidence.jsonl", "5\n", "line 1 is damaged"),
])
def test_a_damaged_run_is_not_reported(good_run: Path, tmp_path: Path, name: str, text: str, expected: str) -> None:
    run = shutil.copytree(good_run, tmp_path / "run")
    (run / name).write_text(text)
    one_line(call(ROOT, "acceptance", "report", str(run)), "acceptance: ", expected, str(run))


# options with a path outside of the project


def test_a_path_elsewhere_does_not_lead_pytest_away_from_the_project(mini: Mini, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (mini.recorded / "evidence.jsonl").rename(tmp_path / "elsewhere" / "evidence.jsonl")
    reports = tmp_path / "elsewhere" / "reports"
    done = call(mini.path, "pytest", "-m", "phase2", "--evidence", str(tmp_path / "elsewhere"), "--report-dir",
                str(reports))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"rootdir: {mini.path}" in done.stdout
    assert (reports / "latest" / "report.html").is_file()


def test_only_our_options_and_only_without_a_named_configuration_are_put_right(mini: Mini, tmp_path: Path) -> None:
    right = mini.path / "pyproject.toml"
    assert misled(["--evidence", "/x"], mini.path, None) == right
    assert misled(["--site", "/x"], mini.path / "tests_mini", tmp_path / "pyproject.toml") == right
    for words in ([], ["/x"], ["--evidence=/x"], ["--evidence", "/x", "-c", "y"], ["--rootdir=/x", "--site", "y"]):
        assert misled(words, mini.path, None) is None
    assert misled(["--evidence", "/x"], mini.path, right) is None


def test_pytest_called_from_a_program_is_told_what_to_write(mini: Mini) -> None:
    with pytest.raises(pytest.UsageError, match="--evidence was taken for a test folder.*write OPTION=PATH"):
        restart(["--evidence", "/not/how/this/process/was/started"], mini.path / "pyproject.toml")
