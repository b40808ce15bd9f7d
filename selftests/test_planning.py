"""`acceptance plan` names every command of a run, host by host, and carries none of them out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from acceptance.checks import COLLECTORS
from acceptance.cli import main
from acceptance.collectors import register
from acceptance.planning import planned_commands
from selftests.synthetic import ROOT, SITE

register()

GPU_NODES = {host.name for host in SITE.group("gpu_nodes")}
CONTROL = {host.name for host in SITE.group("k8s_control")}
ALL = {host.name for host in SITE.hosts}
WHERE = {
    "facts": ALL, "clock": ALL, "jumbo-ping": GPU_NODES, "pair-bandwidth": GPU_NODES, "rdma-bandwidth": GPU_NODES,
    "pcie-samples": GPU_NODES, "firewall-probe": ALL | {"operator"}, "ssh-password": {"operator"},
    "etcd": CONTROL, "kube-certificates": ALL,
    "ssh-access": {"operator"}, "ping": {"operator"}, "operator-names": {"operator"}, "tools": {"operator"},
}


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **_: object) -> None:
        raise AssertionError(f"a plan ran {words}")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.mark.parametrize("name", [name for name, one in COLLECTORS.items() if one.by_shell])
def test_every_collector_is_planned_on_the_hosts_that_it_asks(name: str) -> None:
    assert {host for host, _ in planned_commands(COLLECTORS[name], SITE)} == WHERE[name]


def test_what_follows_from_an_answer_is_planned_too() -> None:
    commands = [command for _, command in planned_commands(COLLECTORS["pair-bandwidth"], SITE)]
    fabric = SITE.contract.network.fabric
    pairs = len(GPU_NODES) * (len(GPU_NODES) - 1) // 2
    clients = sum(command.count('"iperf3","-c"') for command in commands)
    assert clients == 2 * pairs * fabric.bandwidth_processes
    assert sum('"iperf3","-s"' in command for command in commands) == pairs


def test_the_contract_may_be_named_before_or_after_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is none
    monkeypatch.delenv("ACCEPTANCE_SITE", raising=False)
    site, printed = str(ROOT / "lab" / "site.yaml"), []
    for words in (["--site", site, "contract"], ["contract", "--site", site], ["contract", f"--site={site}"]):
        assert main(words) == 0
        printed.append(capsys.readouterr().out)
    assert '"environment": "lab"' in printed[0]
    assert printed == printed[:1] * 3


def test_the_command_prints_each_host_under_its_collector(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--site", str(ROOT / "site.yaml"), "plan", "-m", "phase1"]) == 0
    out = capsys.readouterr().out
    ping = out.index("collect ping:")
    for host in SITE.hosts:
        assert out.index(f"-c 10 -i 0.2 -W 1 {host.address}", ping)
    assert "collect ldap: trying the directory" in out
