"""A project of its own in a folder: a small contract, a few checks made to go wrong, and pytest runs on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from acceptance.evidence import Recorder
from acceptance.site.load import load_site
from selftests.synthetic import ROOT, sections

PYPROJECT = """\
[tool.pytest.ini_options]
testpaths = ["tests_mini"]
pythonpath = ["."]
addopts = ["--strict-config", "--import-mode=importlib", "-p", "no:cacheprovider"]
"""

HEAD = """\
import os, signal
from acceptance.checks import check, collector
from acceptance.errors import Unmeasured

def mini(id, **more):
    return check(id, **({"phase": 2, "layer": "compute", "area": "infra", "clause": "none",
                         "criterion": f"criterion of {id}", "remedy": f"remedy of {id}", "hosts": "gpu_nodes"} | more))

@collector("load", purpose="making load", intrusive=True)
def load(session):
    session.record("cluster", document={"gbps": 90})

@collector("echo", purpose="saying something here")
def echo(session):
    for number in range(5):
        outcome = session.local.run("", ["echo", str(number)], deadline_s=30)
        session.record("operator", command=["echo"], outcome=outcome)

@mini("memory")
def test_memory(node, contract, findings):
    findings.at_least("memory", measured=node.memory.total_mib, required=contract.host.memory_mib * 0.97, unit="MiB")

@mini("gpus")
def test_gpus(node, contract, findings):
    findings.equal("GPUs", measured=len(node.gpus), required=contract.gpu.count)
"""

CHECKS = {
    "unmeasured": """
@mini("unmeasured", hosts=None)
def test_unmeasured(findings):
    findings.equal("first", measured=1, required=1)
    raise Unmeasured("nobody could read it")
""",
    "raises": """
@mini("raises", hosts=None)
def test_raises(cluster):
    cluster["no-such-host"]
""",
    "hostile": """
@mini("hostile", hosts=None)
def test_hostile(findings):
    findings.equal("name", measured="evil\\x1b[2J<script>alert(1)</script>'; true #\\u202e", required="node")
""",
    "nothing": """
@mini("nothing", hosts=None)
def test_nothing(node):
    pass
""",
    "target": """
@mini("target", hosts=None, level="target")
def test_target(findings):
    findings.at_least("speed", measured=1, required=2)
""",
    "load": """
@mini("load", hosts=None, needs=("load",), intrusive=True)
def test_load(evidence, findings):
    findings.at_least("bandwidth", measured=evidence.one("load", "cluster").document["gbps"], required=80, unit="Gb/s")
""",
    "echo": """
@mini("echo", hosts=None, needs=("echo",), phase=1)
def test_echo(evidence, findings):
    findings.equal("last", measured=evidence.one("echo", "operator").outcome.stdout, required="4\\n")
""",
    "dies": """
@mini("dies", hosts=None, needs=(), phase=1)
def test_dies(findings):
    os.kill(os.getpid(), signal.SIGKILL)

@mini("after", needs=(), phase=1)
def test_after(findings):
    findings.equal("one", measured=1, required=1)
""",
    "ordinary": """
def test_ordinary():
    assert 1 == 2
""",
}

Change = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Result:
    """One pytest run: exit code, output, and its run folder if it came that far."""

    exit_code: int
    out: str
    err: str
    folder: Path | None

    @property
    def path(self) -> Path:
        """The run folder."""
        assert self.folder is not None, self.out + self.err
        return self.folder

    @property
    def items(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Judged items by check and subject."""
        lines = (self.path / "findings.jsonl").read_text(encoding="utf-8").splitlines()
        return {(one["check"], one["subject"]): one for one in map(json.loads, lines)}

    @property
    def reds(self) -> set[tuple[str, str]]:
        """Items that are not PASS."""
        return {key for key, one in self.items.items() if one["verdict"] != "PASS"}


def pytest_run(folder: Path, *arguments: str, reports: Path, environment: dict[str, str] | None = None) -> Result:
    """`python -m pytest` in a process of its own, started in `folder`."""
    known = set(reports.iterdir()) if reports.is_dir() else set()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, f"--report-dir={reports}"], cwd=folder, text=True, timeout=300,
        capture_output=True, check=False, env=clean_environment() | (environment or {}))
    made = set(reports.iterdir()) - known if reports.is_dir() else set()
    runs = [path for path in made if path.is_dir() and not path.is_symlink()]
    return Result(done.returncode, done.stdout, done.stderr, runs[0] if runs else None)


def clean_environment() -> dict[str, str]:
    """This process's environment without what would steer another pytest."""
    return {k: v for k, v in os.environ.items()
            if not k.startswith(("PYTEST_", "ACCEPTANCE_", "COV_")) and k not in ("LAB_HOME", "HYPOTHESIS_PROFILE")}


@dataclass
class Mini:
    """A project with the client's contract cut down to two GPU nodes, and the named checks beside two healthy ones."""

    path: Path
    checks: Iterable[str] = ()
    contract: Change = lambda _: None
    facts: Change = lambda _: None
    inventory: Change = lambda _: None

    def __post_init__(self) -> None:
        (self.path / "tests_mini").mkdir(parents=True)
        (self.path / "pyproject.toml").write_text(PYPROJECT)
        (self.path / "tests_mini" / "test_mini.py").write_text(HEAD + "".join(CHECKS[name] for name in self.checks))
        (self.path / "key").write_text("not read by anything here\n")
        (self.path / "key").chmod(0o600)
        hosts = yaml.safe_load((ROOT / "inventory" / "hosts.yml").read_text())
        for number in range(3, 9):
            del hosts["all"]["children"]["gpu_nodes"]["hosts"][f"gpu-node-0{number}"]
        self.inventory(hosts)
        (self.path / "hosts.yml").write_text(yaml.safe_dump(hosts))
        self.write_contract("site.yaml", self.contract)
        self.record()

    def write_contract(self, name: str, change: Change) -> Path:
        """A contract in the project's folder; its path."""
        contract = yaml.safe_load((ROOT / "site.yaml").read_text())
        contract |= {"inventory": str(self.path / "hosts.yml"), "hosts": {"gpu_nodes": 2, "k8s_control": 1}}
        contract["ssh"]["private_key"] = str(self.path / "key")
        for team in contract["kubernetes"]["tenants"]["teams"].values():
            team["gpus"] = 2
        change(contract)
        path = self.path / name
        path.write_text(yaml.safe_dump(contract))
        return path

    @property
    def recorded(self) -> Path:
        """A folder with the evidence of a healthy run, but for what `facts` changes in every host's sections."""
        return self.path / "recorded"

    def record(self) -> None:
        """Write that evidence."""
        self.recorded.mkdir()
        site = load_site(self.path / "site.yaml")
        recorder = Recorder(self.recorded / "evidence.jsonl")
        for host in site.hosts:
            data = sections(site, host)
            self.facts(data)
            parts = {name: {"ok": True, "data": part, "seconds": 0.1} for name, part in data.items()}
            recorder.record("facts", host.name, document={"probe": 1, "hostname": host.name, "sections": parts})
        recorder.record("load", "cluster", document={"gbps": 90})
        recorder.close()

    def run(self, *arguments: str) -> Result:
        """pytest in this project."""
        return pytest_run(self.path, *arguments, reports=self.path / "reports")

    def judge(self, *arguments: str) -> Result:
        """pytest on the recorded evidence."""
        return self.run("--evidence", str(self.recorded), *arguments)
