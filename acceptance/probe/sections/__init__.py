"""The sections of the probe's document: which function reads each, and how long it may take, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from acceptance.probe.run import Context
from acceptance.probe.sections import gpu, hardware, network, security, system

# what reads a few files of the kernel and starts no program
TOGETHER = ("topology", "kernel", "disks", "identity", "os", "cpu", "memory", "limits")
GPU_SECTIONS = ("nvml", "nvidia_smi", "topology", "rdma", "qos")

# the slowest first: they are started first
SECTIONS: dict[str, tuple[Callable[[Context], Any], float]] = {
    "nvml": (gpu.nvml, 8),
    "nvidia_smi": (gpu.nvidia_smi, 8),
    "topology": (gpu.topology, 8),
    "firewall": (security.firewall, 5),
    "net": (network.net, 5),
    "qos": (network.qos, 5),
    "rdma": (network.rdma, 5),
    "kernel_log": (system.kernel_log, 5),
    "services": (system.services, 5),
    "sshd": (security.sshd, 5),
    "accounts": (security.accounts, 5),
    "time": (system.clock, 5),
    "kernel": (system.kernel, 5),
    "resolve": (network.resolve, 5),
    "disks": (hardware.disks, 5),
    "identity": (hardware.identity, 5),
    "os": (hardware.operating_system, 5),
    "cpu": (hardware.cpu, 5),
    "memory": (hardware.memory, 5),
    "limits": (security.limits, 5),
}
