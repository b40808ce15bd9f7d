"""The stand-ins of the fabric's tools print what the probe's parsers, written for the real ones, understand."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from acceptance.probe.parse import network
from lab.hardware import fabric, simulated_tree

TOOLS = Path(__file__).parents[1] / "lab" / "fabric_tools"
Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    simulated_tree("gpu-node-03", "10.100.0.103", 2, tmp_path)
    return tmp_path


@pytest.fixture
def tool(tree: Path) -> Tool:
    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"LAB_SYSFS": str(tree / "sys"), "LAB_FABRIC_STATE": str(tree / "fabric-state")}
        return subprocess.run([str(TOOLS / name), *arguments], env=environment, capture_output=True, text=True,
                              timeout=30, check=False)

    return run


def test_ibv_devinfo_tells_port_and_gids(tool: Tool, tree: Path) -> None:
    done = tool("ibv_devinfo", "-v", "-d", fabric.RDMA_DEVICE)
    assert network.ibv_active_mtu(done.stdout) == {fabric.RDMA_DEVICE: {"1": 4096}}
    gids = [line.split(":\t\t")[1] for line in done.stdout.splitlines() if "GID[" in line]
    assert gids[0].startswith("fe80::b83f:d203:")
    assert gids[2:] == ["::ffff:a64:67, RoCE v1", "::ffff:10.100.0.103, RoCE v2"]
    assert tool("ibv_devinfo", "--ib-dev=mlx5_0", "--verbose").stdout == done.stdout
    assert tool("ibv_devinfo", "-l").stdout == "1 HCA found:\n\tmlx5_0\n\n"
    assert tool("ibv_devinfo", "-d", "mlx5_7").stderr == "IB device 'mlx5_7' wasn't found\n"
    port = tree / "sys/class/infiniband/mlx5_0/ports/1/lab_active_mtu"
    port.write_text("1024\n")
    assert network.ibv_active_mtu(tool("ibv_devinfo", "-v").stdout) == {"mlx5_0": {"1": 1024}}


def test_mlnx_qos_shows_and_sets(tool: Tool, tree: Path) -> None:
    port = ("-i", fabric.INTERFACE)
    assert network.mlnx_qos(tool("mlnx_qos", *port).stdout) == {"trust": "pcp", "pfc_enabled": []}
    tool("mlnx_qos", *port, "--trust", "dscp")
    done = tool("mlnx_qos", *port, "--pfc=0,0,0,1,0,0,0,0")
    assert network.mlnx_qos(done.stdout) == {"trust": "dscp", "pfc_enabled": [3]}
    assert "\tprio:3 dscp:31,30,29,28,27,26,25,24,\n" in done.stdout
    assert tool("mlnx_qos", *port).stdout == done.stdout
    kept = json.loads((tree / "fabric-state/qos.json").read_text())
    assert kept == {fabric.INTERFACE: {"trust": "dscp", "pfc": [0, 0, 0, 1, 0, 0, 0, 0]}}


def test_mlnx_qos_keeps_other_interfaces(tool: Tool, tree: Path) -> None:
    state = tree / "fabric-state/qos.json"
    both = {name: {"trust": "pcp", "pfc": [0, 1] * 4} for name in ("a0", "b0", "c0")}
    state.write_text(json.dumps(both, indent=1) + "\n")
    tool("mlnx_qos", "-i", "b0", "--trust", "dscp")
    both["b0"]["trust"] = "dscp"
    assert json.loads(state.read_text()) == both


@pytest.mark.parametrize(("words", "code"), [
    ((), 2), (("-i", "eth9"), 1), (("-i", fabric.INTERFACE, "--trust", "none"), 2),
    (("-i", fabric.INTERFACE, "--pfc", "1,1"), 2), (("-i",), 2), (("--wonders", "1"), 2)])
def test_mlnx_qos_refuses_what_it_does_not_know(tool: Tool, words: tuple[str, ...], code: int) -> None:
    done = tool("mlnx_qos", *words)
    assert (done.returncode, done.stdout) == (code, "")


@pytest.mark.parametrize("ports", [0, 1, 2])
def test_lldpcli_tells_neighbours(tool: Tool, tree: Path, ports: int) -> None:
    state = tree / "fabric-state/lldp.json"
    one = json.loads(state.read_text())[fabric.INTERFACE]
    state.write_text(json.dumps({f"eth{i}": one | {"port": f"swp{i}"} for i in range(ports)}, indent=1) + "\n")
    found = network.lldp_neighbors(tool("lldpcli", "-f", "json", "show", "neighbors", "details").stdout)
    assert found == [{"interface": f"eth{i}", "chassis": "leaf-01", "port": f"swp{i}", "vlan_ids": [fabric.VLAN_ID]}
                     for i in range(ports)]
    assert tool("lldpcli", "show", "neighbors").returncode == tool("lldpcli", "-f", "json", "show").returncode == 2
