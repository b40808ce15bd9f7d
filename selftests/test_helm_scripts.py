"""The two commands of scripts/helm: wrong use, a cluster that is not there, and what a dry run prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selftests.mini import clean_environment
from selftests.synthetic import ROOT

DEPLOY, KUBECONFIG = "scripts/helm/deploy", "scripts/helm/validator-kubeconfig"


def programs(folder: Path, **bodies: str) -> str:
    """A PATH that begins with small shell programs of these names, each noting that it ran."""
    (folder / "bin").mkdir()
    for name, body in bodies.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\necho "$*" >>{folder}/ran\n{body}\n')
        (folder / "bin" / name).chmod(0o755)
    return f"{folder}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"


def call(*words: str, path: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"PATH": path or os.environ["PATH"], "PYTHONPATH": str(ROOT)} | more
    return subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False, timeout=60, env=environment)


def one_line(done: subprocess.CompletedProcess[str], code: int, *expected: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for part in expected:
        assert part in done.stderr


@pytest.mark.parametrize(("words", "expected"), [
    (["--onyl", "x"], "unrecognized arguments: --onyl x; see scripts/helm/deploy --help"),
    (["--only"], "argument --only: expected one argument"),
    (["--only", "nothing"], "--only nothing: no such release; known are "),
    (["--timeout", "abc"], "argument --timeout: expected a time such as 90s, 5m or 1h30m, found 'abc'"),
    (["--timeout", "5"], "found '5'"), (["--timeout", "0s"], "found '0s'"),
    (["--timeout", "-5m"], "expected one argument"),
    (["--releases", "/no/file"], "/no/file: cannot be read: No such file or directory; expected a YAML file"),
])
def test_deploy_refuses_before_anything_is_installed(words: list[str], expected: str, tmp_path: Path) -> None:
    path = programs(tmp_path, helm="exit 0", kubectl="exit 0")
    one_line(call(sys.executable, DEPLOY, *words, path=path), 4, "deploy: ", expected)
    assert not (tmp_path / "ran").exists()


def test_a_file_of_releases_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "releases.yaml").write_text("releases: [unclosed\n")
    done = call(sys.executable, DEPLOY, "--releases", str(tmp_path / "releases.yaml"))
    one_line(done, 4, "releases.yaml: cannot be read")


def test_a_contract_error_is_deploys_line(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("- a\n")
    done = call(sys.executable, DEPLOY, ACCEPTANCE_SITE=str(tmp_path / "site.yaml"))
    one_line(done, 4, "deploy: ", "site.yaml: expected a mapping of keys, found list")


def test_without_the_virtual_environment_deploy_says_how_to_enter_it() -> None:
    done = call(sys.executable, "-S", "-I", DEPLOY)
    one_line(done, 4, "No module named 'yaml'", f"run: . {ROOT}/.venv/bin/activate")


def test_with_a_python_that_lacks_another_module_too(tmp_path: Path) -> None:
    (tmp_path / "acceptance").mkdir()
    (tmp_path / "acceptance/__init__.py").write_text("import no_such_module_anywhere")
    shutil.copytree(ROOT / "scripts/helm", tmp_path / "scripts/helm")
    done = call(sys.executable, str(tmp_path / DEPLOY))
    one_line(done, 4, "No module named 'no_such_module_anywhere'", f"run: . {tmp_path}/.venv/bin/activate")


def test_a_dry_run_prints_yaml_and_nothing_else(tmp_path: Path) -> None:
    path = programs(tmp_path, helm="echo '---'; echo 'kind: ConfigMap'", kubectl="exit 1")
    done = call(sys.executable, DEPLOY, "--dry-run", path=path)
    assert done.returncode == 0, done.stderr
    assert {str(one) for one in yaml.safe_load_all(done.stdout) if one} == {"{'kind': 'ConfigMap'}"}
    assert "deploy: validator in acceptance\n" in done.stderr


def test_what_is_installed_says_so_as_it_goes(tmp_path: Path) -> None:
    path = programs(tmp_path, helm="exit 0", kubectl="exit 0")
    done = call(sys.executable, DEPLOY, "--only", "validator", "--timeout", "1h30m", path=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "deploy: validator in acceptance\n", "")
    assert "--timeout 1h30m" in (tmp_path / "ran").read_text()


# validator-kubeconfig

REFUSED = "echo 'E1126 noise' >&2; echo 'The connection to the server localhost:8080 was refused' >&2; exit 1"
ANSWERS = """case "$*" in
*data.token*) printf dG9rZW4= ;; *ca*) printf Q0E= ;; *) printf https://10.100.0.50:6443 ;; esac"""


@pytest.mark.parametrize(("words", "expected"), [
    ([], "expected the file to write, the one that site.yaml names as kubernetes.kubeconfig; usage: "),
    (["--force"], "unknown option --force; usage: "), (["a", "b", "c", "d"], "at most three arguments, found 4"),
    (["/no/folder/file"], "/no/folder/file: its folder is missing; run: mkdir -p /no/folder"),
    (["/"], "/: is a folder"),
])
def test_a_kubeconfig_for_no_file_is_wrong_use(words: list[str], expected: str, tmp_path: Path) -> None:
    one_line(call(KUBECONFIG, *words, path=programs(tmp_path, kubectl=ANSWERS)), 4, "validator-kubeconfig: ", expected)


def test_without_a_cluster_no_file_is_written(tmp_path: Path) -> None:
    done = call(KUBECONFIG, str(tmp_path / "conf"), path=programs(tmp_path, kubectl=REFUSED))
    one_line(done, 1, "kubectl: The connection to the server localhost:8080 was refused; expected", "KUBECONFIG")
    assert not (tmp_path / "conf").exists()


@pytest.mark.parametrize(("body", "expected"), [
    ("exit 0", "holds no token yet"),
    (ANSWERS.replace("printf Q0E=", "echo forbidden >&2; exit 1"), "kubectl: forbidden"),
])
def test_half_an_answer_writes_no_file_either(body: str, expected: str, tmp_path: Path) -> None:
    one_line(call(KUBECONFIG, str(tmp_path / "conf"), path=programs(tmp_path, kubectl=body)), 1, expected)
    assert not (tmp_path / "conf").exists()


def test_a_cluster_that_answers_gives_a_kubeconfig_for_its_owner_alone(tmp_path: Path) -> None:
    done = call(KUBECONFIG, str(tmp_path / "conf"), path=programs(tmp_path, kubectl=ANSWERS))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o600
    data = yaml.safe_load((tmp_path / "conf").read_text())
    assert data["users"][0]["user"]["token"] == "token"
    cluster = {"server": "https://10.100.0.50:6443", "certificate-authority-data": "Q0E="}
    assert data["clusters"][0]["cluster"] == cluster
