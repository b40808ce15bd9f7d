"""The probe's sections on files and tools made for the purpose: read when whole, a reason when not."""

from __future__ import annotations

import grp
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acceptance.errors import ParseError, Unmeasured
from acceptance.facts import NodeFacts
from acceptance.probe.run import Context
from acceptance.probe.sections import gpu, hardware, network, security, system
from selftests.fake_nvml import FakeNvml, NotSupported, NVMLError
from selftests.probe_samples import config_space, sample

PARAMETERS = {"names": ["localhost"], "units": ["ssh"], "fabric_interface": "ens3f0np0", "sections": None}


def context(outputs: dict[str, str] | None = None, **parameters: Any) -> Context:
    """A context whose programs print what is given here; others are not found."""
    made = Context(PARAMETERS | parameters, 5)
    if outputs is not None:
        def run(argv: Any, limit_s: float = 0, accept: Any = ()) -> str:  # noqa: ARG001
            if argv[0] not in outputs:
                raise Unmeasured(f"{argv[0]}: command not found")
            return outputs[argv[0]]

        made.run = run  # type: ignore[method-assign]
    return made


def tree(root: Path, files: dict[str, str]) -> Path:
    """Files below a folder, each ending with a line end."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def gpu_facts(**broken: NVMLError) -> dict[str, Any]:
    return gpu.Gpu(FakeNvml(**broken), 0).facts()


def test_a_gpu_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "PCI", str(tree(tmp_path, {"0000:17:00.0/numa_node": "1"})))
    facts = gpu_facts()
    data = {"driver": "535", "cuda": "12.2", "gpus": [facts]}
    document = {"probe": 1, "sections": {"nvml": {"ok": True, "data": data}}}
    read = NodeFacts("gpu-node-01", (), "", document, None, "e0001").gpus[0]
    assert read.errors == {}
    assert (read.uuid, read.pci_bus_id, read.numa_node, read.memory_mib) == ("GPU-1", "00000000:17:00.0", 1, 40960)
    assert (read.ecc_current, read.ecc_pending, read.remap_pending, read.remap_failed) == (True, False, True, False)
    assert (read.power_limit_w, read.temperature_c, read.mig, read.nvlinks_active) == (250.0, 35, False, 0)
    assert [(p.pid, p.used_mib) for p in read.processes or []] == [(1, None)]


@pytest.mark.parametrize(("call", "fields"), [
    ("Temperature", ["temperature_c"]), ("EccMode", ["ecc_current", "ecc_pending"]), ("MigMode", ["mig"]),
    ("RemappedRows", ["remap_correctable", "remap_uncorrectable", "remap_pending", "remap_failed"]),
    ("ComputeRunningProcesses", ["processes"]), ("NvLinkState", ["nvlinks_active"]),
    ("CurrentClocksThrottleReasons", ["throttle_reasons"])])
def test_a_call_that_fails_leaves_no_value_and_its_reason(call: str, fields: list[str]) -> None:
    facts = gpu_facts(**{call: NVMLError("Unknown Error")})
    for field in fields:
        assert facts[field] is None
        assert facts["errors"][field] == "NVML: Unknown Error"


def test_a_gpu_that_is_lost_has_no_values_at_all() -> None:
    facts = gpu_facts(HandleByIndex=NVMLError("GPU is lost"))
    assert facts["errors"]["handle"] == "NVML: GPU is lost"
    assert {facts[key] for key in facts if key not in ("index", "errors")} == {None}


def test_a_board_without_nvlink_has_no_active_one() -> None:
    assert gpu_facts(NvLinkState=NotSupported("Not Supported"))["nvlinks_active"] == 0


def kernel_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: str, journal: str | None) -> dict[str, Any]:
    (tmp_path / "kmsg").write_text(log)
    monkeypatch.setattr(system, "KMSG", str(tmp_path / "kmsg"))
    return system.kernel_log(context({} if journal is None else {"journalctl": journal}))


def test_the_kernel_log_says_whether_it_reaches_back_to_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole, late = sample("kmsg.txt"), sample("kmsg.txt").split("\n", 1)[1]
    found = kernel_log(monkeypatch, tmp_path, whole, None)
    assert (found["since_boot"], found["records_read"], found["truncated"]) == (True, 9, False)
    assert any("Xid" in entry["text"] for entry in found["entries"])
    assert not kernel_log(monkeypatch, tmp_path, late, None)["since_boot"]
    found = kernel_log(monkeypatch, tmp_path, late, sample("journal.txt"))
    assert (found["since_boot"], found["source"]) == (True, "journal")
    assert not kernel_log(monkeypatch, tmp_path, late, sample("journal.txt").split("\n", 1)[1])["since_boot"]
    with pytest.raises(Unmeasured):
        kernel_log(monkeypatch, tmp_path, "", None)


def test_chrony_that_does_not_answer_leaves_the_clock_and_a_reason() -> None:
    found = system.clock(context({}))
    assert found["chrony"] is None
    assert found["errors"]["chrony"] == "chronyc: command not found"
    assert abs(found["epoch_s"] - time.time()) < 60
    found = system.clock(context({"chronyc": "506 Cannot talk to daemon\n"}))
    assert (found["chrony"], found["sources"]) == (None, None)


def test_modules_are_those_that_were_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"nouveau/initstate": "live", "mlx5_core/initstate": "live", "printk/parameters/time": "Y"}
    monkeypatch.setattr(system, "MODULES", str(tree(tmp_path, files)))
    assert system.loaded_modules() == ["mlx5_core", "nouveau"]


def test_acs_of_all_bridges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(system, "PCI", str(tmp_path))
    for number, control in enumerate((0, 0x1D)):
        tree(tmp_path, {f"0000:0{number}:00.0/class": "0x060400"})
        (tmp_path / f"0000:0{number}:00.0/config").write_bytes(config_space(0x0D, control))
    tree(tmp_path, {"0000:17:00.0/class": "0x030200"})
    assert system.pci_bridges() == (["0000:01:00.0"], 2)
    (tmp_path / "0000:01:00.0/config").write_bytes(config_space(0x0D, 0x1D)[:64])
    with pytest.raises(ParseError):
        system.pci_bridges()


def test_sudoers_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/etc/shadow": sample("shadow.txt"), "/etc/nsswitch.conf": sample("nsswitch.txt")}
    monkeypatch.setattr(security, "read", files.__getitem__)
    groups = {"sudo": SimpleNamespace(gr_mem=["alice"], gr_gid=1000)}
    monkeypatch.setattr(grp, "getgrnam", groups.__getitem__)
    outputs = {"getent": sample("passwd.txt"), "cvtsudoers": sample("cvtsudoers.json")}
    found = security.accounts(context(outputs))
    assert found["sudoers"] == ["admin", "alice", "root"]  # admin: also by its primary group
    assert [u["name"] for u in found["users"] if u["login"]] == ["root", "admin"]
    assert [u["name"] for u in found["users"] if not u["password_locked"]] == ["admin"]
    files["/etc/nsswitch.conf"] = "group: files sss\n"
    assert "%admin" in security.accounts(context(outputs))["sudoers"]
    with pytest.raises(Unmeasured, match="cvtsudoers: command not found"):
        security.accounts(context({"getent": sample("passwd.txt")}))


def test_roce_settings_without_the_tool_are_not_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {f"ens3f0np0/ecn/roce_{side}/enable/{p}": "1" if p == 3 else "0" for side in ("np", "rp") for p in range(8)}
    monkeypatch.setattr(network, "NET", str(tree(tmp_path, files)))
    found = network.qos(context({}))
    assert (found["trust"], found["pfc_enabled"], found["ecn_np"], found["ecn_rp"]) == (None, None, [3], [3])
    assert found["errors"]["trust"] == found["errors"]["pfc_enabled"] == "mlnx_qos: command not found"
    (tmp_path / "ens3f0np0/ecn/roce_np/enable/7").unlink()
    found = network.qos(context({"mlnx_qos": sample("mlnx_qos.txt")}))
    assert (found["trust"], found["pfc_enabled"], found["ecn_np"]) == ("dscp", [3], None)
    assert "No such file" in found["errors"]["ecn_np"]


def test_rdma_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port = "rxe0/ports/1"
    root = tree(tmp_path, {
        f"{port}/state": "4: ACTIVE", f"{port}/phys_state": "5: LinkUp", f"{port}/rate": "100 Gb/sec (4X EDR)",
        f"{port}/link_layer": "Ethernet", f"{port}/gids/0": "fe80:0000:0000:0000:a481:54ff:fe70:698a",
        f"{port}/gids/1": ":".join(["0000"] * 8), f"{port}/gid_attrs/types/0": "RoCE v2",
        f"{port}/gid_attrs/ndevs/0": "eth0",
        f"{port}/hw_counters/out_of_sequence": "7", f"{port}/hw_counters/lifespan": "12",
        f"{port}/counters/port_rcv_errors": "0", "rxe0/device/numa_node": "1",
    })
    monkeypatch.setattr(network, "RDMA", str(root))
    found = network.rdma(context({"ibv_devinfo": sample("ibv_devinfo-v-rxe.txt")}))
    one = found["devices"]["rxe0"]
    assert (one["netdev"], one["numa_node"], one["ports"]["1"]["active_mtu"]) == ("eth0", 1, 4096)
    assert [gid["type"] for gid in one["ports"]["1"]["gids"]] == ["RoCE v2"]
    assert one["ports"]["1"]["hw_counters"] == {"out_of_sequence": 7}
    without = network.rdma(context({}))
    assert without["devices"]["rxe0"]["ports"]["1"]["active_mtu"] is None
    assert without["errors"]["active_mtu"] == "ibv_devinfo: command not found"
    monkeypatch.setattr(network, "RDMA", str(tmp_path / "nothing"))
    assert network.rdma(context({}))["devices"] == {}


def test_a_core_without_a_governor_leaves_no_governors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {f"cpu{n}/cpufreq/scaling_governor": "performance" for n in range(2)}
    monkeypatch.setattr(hardware, "CPUS", str(tree(tmp_path, files | {"cpufreq/boost": "1"})))
    assert hardware.governors() == ["performance"]
    tree(tmp_path, {"cpu1/cpufreq/scaling_governor": "powersave"})
    assert hardware.governors() == ["performance", "powersave"]
    (tmp_path / "cpu1/cpufreq/scaling_governor").unlink()
    with pytest.raises(Unmeasured):
        hardware.governors()
    tree(tmp_path, {"cpu1/online": "0"})
    assert hardware.governors() == ["performance"]


def test_limits_are_those_of_the_session_that_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert security.session_process() == os.getppid()
    assert set(security.limits(context())) == {"memlock_soft", "memlock_hard"}
    chain = {70: (0, 60), 60: (0, 50), 50: (1000, 40), 40: (1000, 30), 30: (0, 1)}  # sudo, sudo, shell, sshd, sshd
    monkeypatch.setattr(os, "getppid", lambda: 70)
    monkeypatch.setattr(security, "read", lambda path: "Name:\tx\nPPid:\t{1}\nUid:\t{0}\t0\t0\t0\n".format(
        *chain[int(path.split("/")[2])]))
    monkeypatch.setenv("SUDO_UID", "1000")
    assert security.session_process() == 40
    monkeypatch.setenv("SUDO_UID", "1001")
    with pytest.raises(Unmeasured, match="no process of the login session"):
        security.session_process()
