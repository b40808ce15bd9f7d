"""The facts of a GPU node as a user of pytest-testinfra reads them: its modules where it has one, else a command.

Where one command gives many values, one command is used. What is read is noted by section, to be compared with what
this suite reads. Run by `python -m bench`; the names to resolve and the units come in BENCH_NAMES and BENCH_UNITS.
"""

from __future__ import annotations

import json
import os
from typing import Any

FABRIC = "ens3f0np0"
GPU_FIELDS = (
    "index,uuid,serial,name,memory.total,vbios_version,pci.bus_id,ecc.mode.current,ecc.mode.pending,"
    "ecc.errors.corrected.volatile.total,ecc.errors.uncorrected.volatile.total,ecc.errors.corrected.aggregate.total,"
    "ecc.errors.uncorrected.aggregate.total,remapped_rows.correctable,remapped_rows.uncorrectable,remapped_rows.pending,"
    "remapped_rows.failure,pcie.link.gen.current,pcie.link.gen.max,pcie.link.width.current,pcie.link.width.max,"
    "persistence_mode,mig.mode.current,power.limit,power.default_limit,power.draw,temperature.gpu,"
    "clocks_throttle_reasons.active")


def note(host: Any, section: str, facts: dict[str, Any]) -> None:
    """Write down what was read of a host."""
    assert all(value is not None for value in facts.values())
    with open(os.environ["BENCH_OUT"], "a", encoding="utf-8") as file:
        file.write(json.dumps([host.backend.get_hostname(), section, sorted(facts)]) + "\n")


def text(host: Any, path: str) -> str:
    """A file that must be there."""
    return str(host.file(path).content_string.strip())


def perhaps(host: Any, path: str) -> str:
    """A file that may be missing or refuse to be read."""
    return str(host.run("cat %s", path).stdout.strip())


def root(host: Any, command: str) -> str:
    """Output of a command that needs root."""
    with host.sudo():
        return str(host.check_output(command))


def test_identity(host: Any) -> None:
    dmi = {name: text(host, f"/sys/class/dmi/id/{file}") for name, file in (
        ("vendor", "sys_vendor"), ("product", "product_name"))}
    with host.sudo():
        dmi["serial"] = text(host, "/sys/class/dmi/id/product_serial")
    note(host, "identity", {"hostname": host.check_output("hostname"), "uptime_s": text(host, "/proc/uptime"),
                            "boot_id": text(host, "/proc/sys/kernel/random/boot_id"), **dmi})


def test_os(host: Any) -> None:
    note(host, "os", {"id": host.system_info.distribution, "version_id": host.system_info.release,
                      "kernel": host.check_output("uname -r")})


def test_cpu(host: Any) -> None:
    info = text(host, "/proc/cpuinfo")
    nodes = [name for name in host.file("/sys/devices/system/node").listdir() if name.startswith("node")]
    note(host, "cpu", {"model": info, "sockets": info, "cores": info, "threads": info, "numa_nodes": nodes,
                       "governors": host.check_output("cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")})


def test_memory(host: Any) -> None:
    note(host, "memory", {"total_mib": text(host, "/proc/meminfo")})


def test_disks(host: Any) -> None:
    block = [(name, text(host, f"/sys/block/{name}/size"), perhaps(host, f"/sys/block/{name}/device/model"))
             for name in host.file("/sys/block").listdir() if host.file(f"/sys/block/{name}/device").exists]
    mounted = host.mount_point.get_mountpoints()
    note(host, "disks", {"block": block, "filesystems": [len(mounted), host.check_output("df -B1 --all")]})


def test_net(host: Any) -> None:
    interfaces = {}
    for name in host.interface.names():
        one, path = host.interface(name.partition("@")[0]), f"/sys/class/net/{name.partition('@')[0]}"
        interfaces[name] = [one.link, one.addresses, perhaps(host, f"{path}/speed"), perhaps(host, f"{path}/duplex"),
                            text(host, f"{path}/carrier_changes"), perhaps(host, f"{path}/device/numa_node"),
                            host.run(f"readlink -f {path}/device").stdout,
                            host.check_output(f"grep -H . {path}/statistics/*")]
    note(host, "net", {"interfaces": interfaces, "vlans": host.check_output("ip -json -details link show type vlan"),
                       "lldp_neighbors": root(host, "lldpcli -f json show neighbors details")})


def test_rdma(host: Any) -> None:
    devices = {}
    for name in host.file("/sys/class/infiniband").listdir():
        path = f"/sys/class/infiniband/{name}"
        ports = {}
        for port in host.file(f"{path}/ports").listdir():
            at = f"{path}/ports/{port}"
            ports[port] = [*(text(host, f"{at}/{file}") for file in ("state", "phys_state", "link_layer", "rate")),
                           *(host.run(f"grep -H . {at}/{files}/*").stdout for files in (
                               "gids", "gid_attrs/types", "gid_attrs/ndevs", "counters", "hw_counters"))]
        devices[name] = [ports, perhaps(host, f"{path}/fw_ver"), perhaps(host, f"{path}/device/numa_node"),
                         host.check_output("ibv_devinfo -v -d %s", name)]
    note(host, "rdma", {"devices": devices})


def test_qos(host: Any) -> None:
    told = root(host, f"mlnx_qos -i {FABRIC}")
    ecn = {f"ecn_{side}": host.check_output(f"grep -H . /sys/class/net/{FABRIC}/ecn/roce_{side}/enable/*")
           for side in ("np", "rp")}
    note(host, "qos", {"interface": FABRIC, "trust": told, "pfc_enabled": told, **ecn})


def test_nvml(host: Any) -> None:
    told = host.check_output(f"nvidia-smi --query-gpu=driver_version,{GPU_FIELDS} --format=csv,noheader")
    everything = host.check_output("nvidia-smi -q -x")  # CUDA version, PCIe replays and processes
    note(host, "nvml", {"driver": told, "cuda": everything, "gpus": told})


def test_nvidia_smi(host: Any) -> None:
    note(host, "nvidia_smi", {"gpus": host.check_output(
        "nvidia-smi --query-gpu=index,name,memory.total,uuid --format=csv,noheader")})


def test_topology(host: Any) -> None:
    gpus = {}
    for address in host.check_output("grep -l 0x10de /sys/bus/pci/devices/*/vendor").splitlines():
        path = os.path.dirname(address)
        if text(host, f"{path}/class").startswith("0x03"):
            gpus[path] = text(host, f"{path}/numa_node")
    note(host, "topology", {"gpus": gpus, "nics": host.run("grep -H . /sys/class/net/*/device/numa_node").stdout})


def test_kernel_log(host: Any) -> None:
    log = root(host, "timeout 2 dd if=/dev/kmsg iflag=nonblock bs=64K 2>/dev/null || true")
    note(host, "kernel_log", dict.fromkeys(("since_boot", "source", "truncated", "records_read", "entries"), log))


def test_kernel(host: Any) -> None:
    bridges = [path for path in host.check_output("grep -l 0x0604 /sys/bus/pci/devices/*/class").splitlines()]
    config = [root(host, f"od -An -tx1 {os.path.dirname(path)}/config") for path in bridges]
    note(host, "kernel", {
        "cmdline": text(host, "/proc/cmdline"), "numa_balancing": host.sysctl("kernel.numa_balancing"),
        "modules": host.check_output("ls -d /sys/module/*/initstate || true"), "acs_enabled": config,
        "pci_bridges_read": len(bridges), "iommu_mode": host.run("cat /sys/kernel/iommu_groups/*/type").stdout})


def test_services(host: Any) -> None:
    units = {}
    for name in os.environ["BENCH_UNITS"].split(","):
        one = host.service(name)
        units[name] = [one.exists, one.is_running, one.is_enabled]
    note(host, "services", {"units": units, "failed": host.check_output("systemctl list-units --failed --plain")})


def test_sshd(host: Any) -> None:
    note(host, "sshd", {"options": root(host, "sshd -T")})


def test_firewall(host: Any) -> None:
    v4, v6 = root(host, "iptables-save -t filter"), root(host, "ip6tables-save -t filter")
    note(host, "firewall", {
        "active": v4, "at_boot": host.file("/etc/ufw/ufw.conf").content_string, "default_incoming": v4,
        "default_routed": v4, "ipv6": v6, "default_incoming_v6": v6, "default_routed_v6": v6, "rules": [v4, v6]})


def test_accounts(host: Any) -> None:
    users = [host.check_output("getent passwd"), root(host, "getent shadow"), host.check_output("getent group")]
    note(host, "accounts", {"users": users, "sudoers": root(host, "cvtsudoers -e -f json /etc/sudoers")})


def test_time(host: Any) -> None:
    note(host, "time", {"epoch_s": host.check_output("date +%s.%N"), "chrony": root(host, "chronyc -N -c tracking"),
                        "sources": root(host, "chronyc -N -c sources")})


def test_resolve(host: Any) -> None:
    names = {name: host.addr(name).ipv4_addresses for name in os.environ["BENCH_NAMES"].split(",")}
    note(host, "resolve", {"names": names})


def test_limits(host: Any) -> None:
    note(host, "limits", {"memlock_soft": host.check_output("ulimit -S -l"),
                          "memlock_hard": host.check_output("ulimit -H -l")})
