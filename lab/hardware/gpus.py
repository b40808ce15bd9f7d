"""The GPUs of a simulated server: where they are, and the state file that the mock NVML reads.

Keys of a GPU, each written `gpuN.key = value`: those of `_HEALTHY` and of `_identity`. `processes` lists
`pid:name:mebibytes`, separated by commas. Keys of the host: count, driver_version, cuda_version, hang. Beside them
`gpuN.error.FUNCTION = 15` makes that NVML function fail for that GPU, `error.FUNCTION = 9` for all.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

DRIVER_VERSION = "535.183.06"
CUDA_VERSION = 12020
NAMESPACE = uuid.UUID("6d0c1f0e-93a5-4f5c-8f43-8b6a4a3c5f10")


@dataclass(frozen=True)
class Slot:
    """One GPU's place: PCI bus number and NUMA node."""

    bus: int
    numa_node: int

    @property
    def nvml_bus_id(self) -> str:
        """As NVML writes it: eight digits of domain, upper case."""
        return f"00000000:{self.bus:02X}:00.0"

    @property
    def address(self) -> str:
        """As sysfs writes it."""
        return f"0000:{self.bus:02x}:00.0"


SLOTS = (Slot(0x17, 0), Slot(0x31, 0), Slot(0xB1, 1), Slot(0xCA, 1))

_HEALTHY: dict[str, str | int] = {
    "name": "NVIDIA A100-PCIE-40GB",
    "part_number": "900-21001-0000-000",
    "vbios": "92.00.25.00.08",
    "memory_mib": 40960,
    "memory_used_mib": 4,
    "ecc_current": 1,
    "ecc_pending": 1,
    "ecc_uncorrected_volatile": 0,
    "ecc_corrected_volatile": 0,
    "ecc_uncorrected_aggregate": 0,
    "ecc_corrected_aggregate": 0,
    "remap_correctable": 0,
    "remap_uncorrectable": 0,
    "remap_pending": 0,
    "remap_failed": 0,
    "pcie_generation": 4,
    "pcie_generation_max": 4,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "pcie_replays": 0,
    "persistence": 0,
    "mig": 0,
    "compute_mode": 0,
    "performance_state": 0,
    "power_limit_w": 250,
    "power_default_limit_w": 250,
    "power_min_limit_w": 150,
    "power_max_limit_w": 250,
    "energy_mj": 0,
    "temperature_slowdown_c": 92,
    "temperature_shutdown_c": 95,
    "throttle_reasons": 1,
    "clock_sm_mhz": 210,
    "clock_sm_max_mhz": 1410,
    "clock_mem_mhz": 1215,
    "clock_mem_max_mhz": 1215,
    "clock_video_mhz": 585,
    "clock_video_max_mhz": 1290,
    "utilization_gpu": 0,
    "utilization_memory": 0,
    "nvlinks_active": 0,
    "processes": "",
}


def gpu_uuid(host: str, gpu: int) -> str:
    """The same at every start of the lab, and no two alike."""
    return f"GPU-{uuid.uuid5(NAMESPACE, f'{host}/gpu{gpu}')}"


def gpu_serial(index: int, gpu: int) -> str:
    """Thirteen digits, as NVIDIA prints them."""
    return f"15651200{index:02d}{gpu + 1:03d}"


def _identity(host: str, index: int, gpu: int, slot: Slot) -> dict[str, str | int]:
    return {
        "uuid": gpu_uuid(host, gpu),
        "serial": gpu_serial(index, gpu),
        "minor": gpu,
        "pci_bus_id": slot.nvml_bus_id,
        "numa_node": slot.numa_node,
        "temperature_c": 31 + (index + 2 * gpu) % 5,
        "power_w": 34 + (2 * index + gpu) % 5,
    }


def healthy_state(host: str, index: int) -> str:
    """The state file of a server with four healthy GPUs on which nothing runs; persistence mode is off."""
    lines = [f"count = {len(SLOTS)}", f"driver_version = {DRIVER_VERSION}", f"cuda_version = {CUDA_VERSION}",
             "hang = 0"]
    for gpu, slot in enumerate(SLOTS):
        values = {**_identity(host, index, gpu, slot), **_HEALTHY}
        lines += [f"gpu{gpu}.{key} = {value}".rstrip() for key, value in values.items()]
    return "\n".join(lines) + "\n"
