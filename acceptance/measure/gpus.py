"""Reading GPU facts in checks: values with the reason where one is missing, and what NVML's bits mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from acceptance.errors import Unmeasured
from acceptance.facts import Cluster, GpuFacts, NodeFacts
from acceptance.parse.kernel_log import same_pci_device

HARDWARE_SLOWDOWNS = {0x8: "hardware slowdown", 0x40: "hardware thermal slowdown", 0x80: "power brake slowdown"}
"""Bits of NVML's clocks-event reasons that mean trouble: nvmlClocksThrottleReasonHwSlowdown, HwThermalSlowdown,
HwPowerBrakeSlowdown (nvml.h). The others (idle, power cap, application clocks) are ordinary."""


def each_gpu(node: NodeFacts) -> Iterator[tuple[str, GpuFacts]]:
    """Subject and facts of every GPU. Raises Unmeasured when NVML shows none: then there is nothing to judge."""
    if not node.gpus:
        raise Unmeasured("NVML shows no GPU")
    for gpu in node.gpus:
        yield node.subject(gpu), gpu


def subject_at(node: NodeFacts, address: str) -> str:
    """Subject of the GPU at a PCI address in any form; the node where NVML does not show one there."""
    try:
        gpus = node.gpus
    except Unmeasured:
        return node.name
    return next((node.subject(g) for g in gpus if g.pci_bus_id and same_pci_device(address, g.pci_bus_id)), node.name)


def reading(gpu: GpuFacts, field: str) -> dict[str, Any]:
    """`measured` of one field for a finding; where NVML gave none, also its message as `reason`."""
    value = getattr(gpu, field)
    if value is not None:
        return {"measured": value}
    return {"measured": None, "reason": gpu.errors.get(field) or gpu.errors.get("handle") or "NVML gave no value"}


def fleet_of_gpus(cluster: Cluster, field: str, count: int) -> list[Any]:
    """One property of every GPU of the cluster; None where it could not be read, `count` times for a silent node."""
    found: list[Any] = []
    for node in cluster.of("gpu_nodes"):
        try:
            found += [getattr(gpu, field) for gpu in node.gpus]
        except Unmeasured:
            found += [None] * count
    return found


def slowdowns(reasons: int) -> list[str]:
    """Names of the hardware slowdowns among NVML's reasons."""
    return [name for bit, name in HARDWARE_SLOWDOWNS.items() if reasons & bit]
