"""Healthy and unhealthy output of the tools that the probe reads, and what of it would pass."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceptance.probe.parse import firewall, gpu, hardware, kernel, network, security, services

DATA = Path(__file__).parent / "data" / "probe"
UNITS = ["containerd", "ssh", "nosuch"]


def sample(name: str) -> str:
    """A recorded output."""
    return (DATA / name).read_text(encoding="utf-8")


def units(text: str) -> dict[str, dict[str, str]]:
    """The parser of units, asked for those of the sample."""
    return services.units(text, UNITS)


ENABLED = "ENABLED=yes\n"  # of ufw.conf


def filter_v4(text: str) -> dict[str, Any]:
    """A host without IPv6 whose packet filter is `text`."""
    return firewall.firewall(text, None, ENABLED)


def filter_v6(text: str) -> dict[str, Any]:
    """A host with a healthy packet filter for IPv4, and `text` for IPv6."""
    return firewall.firewall(only_ssh_and(), text, ENABLED)


def only_ssh_and(*rules: str) -> str:
    """A packet filter that lets nothing in but ssh, and what more rules do to it."""
    own = "-A ufw-user-input -s 10.100.0.0/24 -p tcp -m tcp --dport 22 -j ACCEPT\n"
    kept = [line for line in sample("iptables-save.txt").splitlines(keepends=True)
            if not line.startswith("-A ufw-user-")]
    end = kept.index("COMMIT\n")
    return "".join([*kept[:end], own, *(f"{rule}\n" for rule in rules), *kept[end:]])


def closed(found: dict[str, Any]) -> bool:
    """Whether such a packet filter lets nothing in but ssh from the management network."""
    rules = [(rule["port"], rule["protocol"], rule["source"], rule["action"]) for rule in found["rules"]]
    return bool(found["active"]) and found["default_incoming"] == "deny" and rules == [
        ("22", "tcp", "10.100.0.0/24", "allow")]


PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "cpuinfo": (hardware.cpuinfo, sample("cpuinfo.txt")),
    "meminfo": (hardware.meminfo_total_mib, sample("meminfo.txt")),
    "os-release": (hardware.os_release, sample("os-release.txt")),
    "mounts": (hardware.mounts, sample("mounts.txt")),
    "ip": (network.ip_addresses, sample("ip-address.json")),
    "lldpcli": (network.lldp_neighbors, sample("lldpcli.json")),
    "mlnx_qos": (network.mlnx_qos, sample("mlnx_qos.txt")),
    "ibv_devinfo": (network.ibv_active_mtu, sample("ibv_devinfo-v-rxe.txt")),
    "nvidia-smi": (gpu.smi_gpus, sample("nvidia-smi.csv")),
    "kmsg": (kernel.kmsg, sample("kmsg.txt")),
    "journal": (kernel.journal, sample("journal.txt")),
    "limits": (kernel.memlock, sample("limits.txt")),
    "systemctl show": (units, sample("systemctl-show.txt")),
    "failed units": (services.failed_units, sample("list-units-failed.txt")),
    "tracking": (services.chrony_tracking, sample("chronyc-tracking.txt")),
    "sources": (services.chrony_sources, sample("chronyc-sources.txt")),
    "sshd": (security.sshd_options, sample("sshd-T.txt")),
    "iptables-save": (filter_v4, sample("iptables-save.txt")),
    "ip6tables-save": (filter_v6, sample("ip6tables-save.txt")),
    "passwd": (security.passwd, sample("passwd.txt")),
    "shadow": (security.shadow_locked, sample("shadow.txt")),
    "cvtsudoers": (security.sudo_principals, sample("cvtsudoers.json")),
}


@dataclass(frozen=True)
class Unhealthy:
    """A tool's output that a check must not pass, and what of it would pass."""

    parse: Callable[[str], Any]
    text: str
    passes: Callable[[Any], bool]


ROOT_RULE = json.dumps({"User_Specs": [{"User_List": [{"username": "root"}]}, {"User_List": [{"username": "guest"}]}]})

UNHEALTHY: dict[str, Unhealthy] = {
    "a port too many": Unhealthy(
        filter_v4, only_ssh_and("-A ufw-user-input -p tcp -m tcp --dport 8080 -j ACCEPT"), closed),
    "everything let in ahead of ufw": Unhealthy(filter_v4, only_ssh_and("-A INPUT -j ACCEPT"), closed),
    "open by default": Unhealthy(
        filter_v4, only_ssh_and().replace(":INPUT DROP", ":INPUT ACCEPT"), closed),
    "firewall off": Unhealthy(filter_v4, sample("iptables-save-off.txt"), lambda data: bool(data["active"])),
    "password logins": Unhealthy(
        security.sshd_options, sample("sshd-T.txt"),
        lambda data: data["passwordauthentication"] == "no" and data["permitrootlogin"] == "no"),
    "someone else in sudoers": Unhealthy(
        security.sudo_principals, ROOT_RULE, lambda data: [user["name"] for user in data] == ["root"]),
    "wrong priority": Unhealthy(
        network.mlnx_qos, sample("mlnx_qos.txt").replace("0   0   0   1", "0   0   1   0"),
        lambda data: data["trust"] == "dscp" and data["pfc_enabled"] == [3]),
    "small RDMA packets": Unhealthy(
        network.ibv_active_mtu,
        re.sub(r"(active_mtu:\s+)4096 \(5\)", r"\g<1>1024 (3)", sample("ibv_devinfo-v-rxe.txt")),
        lambda data: all(mtu == 4096 for ports in data.values() for mtu in ports.values())),
    "a stopped unit": Unhealthy(
        units, sample("systemctl-show.txt"), lambda data: all(unit["active"] == "active" for unit in data.values())),
    "a failed unit": Unhealthy(services.failed_units, sample("list-units-failed.txt"), lambda data: data == []),
    "a free-running clock": Unhealthy(
        services.chrony_tracking, sample("chronyc-local.txt"), lambda data: bool(data["synchronised"])),
    "limited memlock": Unhealthy(
        kernel.memlock, sample("limits.txt").replace("unlimited            unlimited            bytes",
                                                     "65536                65536                bytes"),
        lambda data: data["memlock_soft"] == "unlimited" or data["memlock_hard"] == "unlimited"),
    "another GPU": Unhealthy(
        gpu.smi_gpus, sample("nvidia-smi.csv").replace("A100-PCIE-40GB", "A30", 1),
        lambda data: len(data) == 4 and all(g["name"] == "NVIDIA A100-PCIE-40GB" for g in data)),
    "half the memory": Unhealthy(
        hardware.meminfo_total_mib, sample("meminfo.txt").replace("527952216", "263852460"),
        lambda data: abs(data - 524288) < 0.03 * 524288),
    "a socket missing": Unhealthy(
        hardware.cpuinfo, sample("cpuinfo.txt").replace("physical id\t: 1", "physical id\t: 0"),
        lambda data: data["sockets"] == 2 and data["cores"] == 4),
}


def config_space(capability: int, control: int) -> bytes:
    """4096 bytes with AER first and then one extended capability."""
    space = bytearray(4096)
    space[:4] = b"\x86\x80\x7a\x34"
    struct.pack_into("<I", space, 0x100, 0x0001 | 1 << 16 | 0x148 << 20)
    struct.pack_into("<IHH", space, 0x148, capability | 1 << 16, 0x1F, control)
    return bytes(space)
