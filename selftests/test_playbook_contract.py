"""What the playbooks take from the contract, and the one line with which they refuse it; no host is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftests.mini import clean_environment
from selftests.synthetic import ROOT
from selftests.test_contract import write_site

PLAY = """\
- name: Contract
  hosts: all
  gather_facts: false
  roles: [contract]
- name: Show
  hosts: all
  gather_facts: false
  tasks:
    - name: Show
      ansible.builtin.debug: {msg: "{{ contract.site.name }} {{ ansible_user }}:{{ ansible_port }}"}
"""


def play(
    folder: Path, site: Path, *words: str, inventory: Path | str | None = None, root: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """The role `contract`, then a task that shows what it left to every host."""
    (folder / "play.yml").write_text(PLAY)
    environment = clean_environment() | {
        "ACCEPTANCE_SITE": str(site), "ANSIBLE_ROLES_PATH": str(root / "scripts/ansible/roles"), "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONFIG": str(ROOT / "scripts/ansible/ansible.cfg"), "ANSIBLE_HOME": str(folder / "ansible")}
    given = [] if inventory is None else ["-i", str(inventory)]
    program = Path(sys.executable).parent / "ansible-playbook"
    return subprocess.run([str(program), str(folder / "play.yml"), *given, *words], cwd=folder, text=True, check=False,
                          capture_output=True, timeout=120, env=environment)


def message(done: subprocess.CompletedProcess[str]) -> str:
    """The one failure of a run, as its `msg`."""
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fatal: ")]
    text = str(json.loads(line.split("=> ", 1)[1])["msg"])
    assert "\n" not in text
    return text


@pytest.mark.parametrize("words", [(), ("--check",), ("--limit", "gpu-node-03")])
def test_every_host_gets_the_contract_and_nothing_counts_as_changed(tmp_path: Path, words: tuple[str, ...]) -> None:
    site = write_site(tmp_path, lambda c: c["ssh"].update(user="deploy", port=2222))
    done = play(tmp_path, site, *words, inventory=tmp_path / "hosts.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.count("gpu-cluster deploy:2222")
    assert shown == (1 if "--limit" in words else 9)
    assert done.stdout.count("changed=0") == shown


def test_the_inventory_of_the_folder_is_the_one_of_the_contract_at_the_root(tmp_path: Path) -> None:
    for site in ("site.yaml", "lab/site.yaml"):
        assert play(tmp_path, ROOT / site).returncode == 0
    assert play(tmp_path, ROOT / "lab/vm/site.yaml", inventory=ROOT / "lab/vm/hosts.yml").returncode == 0


@pytest.mark.parametrize("inventory", [None, "gpu-node-01,", "hosts.yml"])
def test_another_inventory_than_the_contracts_is_refused(tmp_path: Path, inventory: str | None) -> None:
    (tmp_path / "site").mkdir()
    site = write_site(tmp_path / "site")
    if inventory == "hosts.yml":
        write_site(tmp_path)
    text = message(play(tmp_path, site, inventory=inventory))
    assert f"but the contract names {tmp_path}/site/hosts.yml; run ansible-playbook -i " in text
    assert "ACCEPTANCE_SITE" in text


@pytest.mark.parametrize(("change", "expected"), [
    (lambda c: c["gpu"].update(memroy_mib=1), "unknown key gpu.memroy_mib; did you mean memory_mib?"),
    (lambda c: c["hosts"].update(gpu_nodes=9), "group gpu_nodes has 8 hosts"),
])
def test_a_contract_error_is_the_failures_message(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], expected: str
) -> None:
    text = message(play(tmp_path, write_site(tmp_path, change), inventory=tmp_path / "hosts.yml"))
    assert text.startswith("acceptance: ")
    assert expected in text


def test_a_python_without_the_project_is_told_where_it_is(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts/ansible/roles/contract", root / "scripts/ansible/roles/contract")
    (root / "acceptance").mkdir()
    (root / "acceptance/__init__.py").write_text("import no_such_module_anywhere")
    text = message(play(tmp_path, write_site(tmp_path), inventory=tmp_path / "hosts.yml", root=root))
    assert "No module named 'no_such_module_anywhere'; expected Ansible of the virtual environment" in text
    assert f"run: . {root}/.venv/bin/activate" in text
