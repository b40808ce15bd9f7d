"""The simulated hardware tells what the contract asks for, and is untuned where the playbooks have work to do."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from acceptance.site.load import load_site
from lab.hardware import fabric, gpus, pci, server, simulated_tree
from lab.packages import DRIVERS, FABRIC_TOOLS, build_repository, tool_packages

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("tree")
    simulated_tree("gpu-node-03", "10.100.0.103", 2, dest)
    return dest


def value(tree: Path, path: str) -> str:
    return (tree / "sys" / path).read_text().strip()


def test_server_is_the_contracted_one(tree: Path) -> None:
    contract = load_site(ROOT / "lab" / "site.yaml").contract
    assert value(tree, "class/dmi/id/product_name") == contract.host.model
    text = (tree / "proc/cpuinfo").read_text()
    cores = set(re.findall(r"physical id\t: (\d+)\n.*\ncore id\t\t: (\d+)\n", text))
    assert len(cores) == contract.host.sockets * contract.host.cores_per_socket
    memory = re.search(r"MemTotal: +(\d+) kB", (tree / "proc/meminfo").read_text())
    assert memory is not None
    missing = 1 - int(memory.group(1)) / 1024 / contract.host.memory_mib
    assert 0 < missing < contract.host.memory_tolerance_percent / 100
    assert len(list((tree / "sys/class/block").iterdir())) == contract.host.min_disks
    assert len(list((tree / "sys/devices/system/node").glob("node[0-9]*"))) == contract.host.sockets


def test_gpus_and_fabric_port_sit_where_the_contract_has_them(tree: Path) -> None:
    contract = load_site(ROOT / "lab" / "site.yaml").contract
    found = {f"0000{path.name.upper()}": int((path / "numa_node").read_text())
             for path in (tree / "sys/bus/pci/devices").iterdir() if (path / "vendor").read_text() == "0x10de\n"}
    assert found == contract.gpu.topology.gpus
    net = f"class/infiniband/{contract.network.rdma.device}"
    assert int(value(tree, f"{net}/device/numa_node")) == contract.gpu.topology.fabric_numa_node
    port = f"devices/virtual/net/{contract.network.fabric.interface}"
    assert int(value(tree, f"{port}/speed")) == contract.network.fabric.speed_mbps
    assert value(tree, f"{net}/ports/1/gid_attrs/types/3") == contract.network.rdma.gid_type
    assert value(tree, f"{net}/ports/1/gids/3").endswith(":ffff:0a64:0067")


def test_as_delivered_nothing_is_tuned(tree: Path) -> None:
    assert value(tree, "devices/system/cpu/cpu127/cpufreq/scaling_governor") != "performance"
    assert value(tree, f"devices/virtual/net/{fabric.INTERFACE}/ecn/roce_np/enable/3") == "0"
    qos = json.loads((tree / "fabric-state/qos.json").read_text())
    assert qos[fabric.INTERFACE] == {"trust": "pcp", "pfc": [0] * 8}
    assert (tree / "proc/sys/kernel/numa_balancing").read_text() == "1\n"
    assert "gpu0.persistence = 0" in (tree / "gpu-state/state.ini").read_text().splitlines()


def test_bridges_have_acs_on(tree: Path) -> None:
    bridges = [path for path in (tree / "sys/bus/pci/devices").iterdir() if "0x0604" in (path / "class").read_text()]
    assert len(bridges) == len(gpus.SLOTS) + 3
    for bridge in bridges:
        config = (bridge / "config").read_bytes()
        assert len(config) == pci.CONFIG_SIZE
        header, able, control = struct.unpack_from("<IHH", config, pci.ACS_AT)
        assert (header & 0xFFFF, control) == (0x000D, pci.ACS_ON)
        assert control & ~able == 0


def test_kernel_log_is_whole_and_in_order(tree: Path) -> None:
    lines = (tree / "kmsg").read_text().splitlines()
    parsed = [re.fullmatch(r"[0-7],(\d+),(\d+),-;.+", line) for line in lines]
    assert [int(match.group(1)) for match in parsed if match] == list(range(len(lines)))
    assert "Xid" not in "".join(lines)


def test_no_two_gpus_of_the_cluster_are_alike() -> None:
    hosts = [f"gpu-node-{number:02d}" for number in range(1, 9)]
    states = "".join(gpus.healthy_state(host, index) for index, host in enumerate(hosts))
    for key in ("uuid", "serial"):
        found = re.findall(rf"gpu\d\.{key} = (\S+)", states)
        assert len(set(found)) == len(found) == 32
    assert gpus.healthy_state("gpu-node-01", 0) == gpus.healthy_state("gpu-node-01", 0)
    assert len({server.service_tag(host) for host in hosts}) == len(hosts)


def test_a_host_without_gpus(tmp_path: Path) -> None:
    simulated_tree("k8s-cp-01", "10.100.0.100", 8, tmp_path)
    assert not (tmp_path / "gpu-state").exists()
    vendors = {(path / "vendor").read_text().strip() for path in (tmp_path / "sys/bus/pci/devices").iterdir()}
    assert "0x10de" not in vendors
    assert "nvidia" not in (tmp_path / "proc/modules").read_text()


@pytest.mark.skipif(not all(map(shutil.which, ("gcc", "dpkg-deb"))), reason="no Debian build tools")
def test_repository_is_complete_and_reproducible(tmp_path: Path) -> None:
    build_repository(tmp_path / "a", [tool_packages(tmp_path / "cache-a")])
    build_repository(tmp_path / "b", [tool_packages(tmp_path / "cache-b")])
    names = {package.file_name for package in (*DRIVERS, FABRIC_TOOLS)}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names | {"Packages", "Packages.gz", "Release"}
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    index = (tmp_path / "a/Packages").read_bytes()
    assert gzip.decompress((tmp_path / "a/Packages.gz").read_bytes()) == index
    assert hashlib.sha256(index).hexdigest() in (tmp_path / "a/Release").read_text()
    listing = subprocess.run(["dpkg-deb", "--contents", tmp_path / "a" / DRIVERS[0].file_name], capture_output=True,
                             text=True, timeout=30, check=True).stdout
    for name in ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "/usr/bin/nvidia-smi", "/nvidia-persistenced.service"):
        assert name in listing
