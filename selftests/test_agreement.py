"""A contract that contradicts itself or its inventory is refused; a placeholder is pointed out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceptance.cli import main
from acceptance.errors import ContractError
from acceptance.site.load import load_site
from selftests.mini import Mini
from selftests.synthetic import ROOT
from selftests.test_contract import write_site

Change = Callable[[dict[str, Any]], Any]


def _endpoint(name: str, *listed: str) -> Change:
    def change(contract: dict[str, Any]) -> None:
        contract["kubernetes"]["control_plane_endpoint"] = f"{name}:6443"
        contract["kubernetes"]["certificates"]["api_server_names"] += listed

    return change


def _quota(gpus: int) -> Change:
    return lambda c: c["kubernetes"]["tenants"]["teams"]["ml-team"].update(gpus=gpus)


@pytest.mark.parametrize("name", ["site.yaml", "lab/site.yaml", "lab/vm/site.yaml", "lab/vm/rdma.yaml"])
def test_every_contract_of_this_checkout_agrees_with_itself(name: str) -> None:
    assert load_site(ROOT / name).hosts


@pytest.mark.parametrize("change", [
    _endpoint("k8s-cp-01"), _endpoint("10.100.0.50"), _endpoint("api.cluster.internal", "api.cluster.internal"),
    _quota(8), _quota(1)])
def test_a_contract_that_agrees(tmp_path: Path, change: Change) -> None:
    assert load_site(write_site(tmp_path, change)).hosts


@pytest.mark.parametrize(("change", "expected"), [
    *((_endpoint(name), f"control_plane_endpoint: {name} is no host of the inventory's group k8s_control "
                        "(k8s-cp-01 at 10.100.0.50)")
      for name in ("k8s-cp-02", "gpu-node-01", "10.100.0.101", "kubernetes", "kubernetes.default.svc")),
    (_quota(9), "the quotas come to 33 GPUs (cv-team 8 + ml-team 9 + nlp-team 16), but hosts.gpu_nodes × gpu.count is "
                "8 × 4 = 32"),
])
def test_a_contract_that_contradicts_itself_is_refused(tmp_path: Path, change: Change, expected: str) -> None:
    with pytest.raises(ContractError) as caught:
        load_site(write_site(tmp_path, change))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("client", "environment", "warned"), [
    ("[CLIENT]", "production", True), ("[Client's name]", "production", True), (" ", "production", True),
    ("Example Ltd", "production", False), ("Example [EU] Ltd", "production", False), ("[CLIENT]", "lab", False)])
def test_a_placeholder_for_the_client_is_a_warning_and_the_contract_can_be_read(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], client: str, environment: str, warned: bool) -> None:
    path = write_site(tmp_path, lambda c: c["site"].update(client=client, environment=environment))
    assert main(["--site", str(path), "contract"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["site"]["client"] == client
    assert shown.err.count("\n") == warned
    assert ("acceptance: warning: " in shown.err and "site.client is" in shown.err) == warned


@pytest.mark.parametrize(("client", "times"), [("[CLIENT]", 1), ("Example Ltd", 0)])
def test_a_run_says_so_at_its_start(tmp_path: Path, client: str, times: int) -> None:
    text = Mini(tmp_path / "site", contract=lambda c: c["site"].update(client=client)).judge("-m", "phase2").out
    assert text.count("warning: ") == text.count("site.client is [CLIENT], a placeholder") == times
