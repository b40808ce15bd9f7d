"""PCI devices of a simulated server: sysfs entries with configuration spaces that pciutils can read and write."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.hardware.gpus import SLOTS
from lab.hardware.tree import Tree

CONFIG_SIZE = 4096
EXPRESS_AT, AER_AT, ACS_AT = 0x40, 0x100, 0x148
# As Linux sets them with an IOMMU on: source validation, request and completion redirect, upstream forwarding.
ACS_ON = 0x1D
NIC_ADDRESS = "0000:4b:00.0"
NIC_NUMA_NODE = 0


@dataclass(frozen=True)
class Device:
    """One PCI function. `secondary_bus` is set for bridges only."""

    address: str
    vendor: int
    device: int
    class_code: int
    numa_node: int
    subsystem: tuple[int, int]
    link: tuple[int, int]  # generation, lanes
    secondary_bus: int | None = None

    @property
    def bus(self) -> int:
        return int(self.address[5:7], 16)


SPEEDS = {1: "2.5 GT/s PCIe", 2: "5.0 GT/s PCIe", 3: "8.0 GT/s PCIe", 4: "16.0 GT/s PCIe", 5: "32.0 GT/s PCIe"}
DELL = 0x1028


def _root_port(bus: int, numa_node: int, link: tuple[int, int]) -> Device:
    return Device(f"0000:{bus - 1:02x}:02.0", 0x8086, 0x347A, 0x060400, numa_node, (DELL, 0x0A6B), link, bus)


def fabric_port() -> Device:
    """The ConnectX-6 Dx that carries the fabric."""
    return Device(NIC_ADDRESS, 0x15B3, 0x101D, 0x020000, NIC_NUMA_NODE, (0x15B3, 0x0016), (4, 16))


def disks() -> list[Device]:
    """Two NVMe disks."""
    return [Device(f"0000:{bus:02x}:00.0", 0x144D, 0xA824, 0x010802, 0, (DELL, 0x2171), (4, 4)) for bus in (0x65, 0x67)]


def gpus() -> list[Device]:
    """Four A100-PCIE-40GB."""
    return [Device(slot.address, 0x10DE, 0x20F1, 0x030200, slot.numa_node, (0x10DE, 0x145F), (4, 16)) for slot in SLOTS]


def with_bridges(endpoints: list[Device]) -> list[Device]:
    """Each endpoint after the root port that it hangs on."""
    return [one for end in endpoints for one in (_root_port(end.bus, end.numa_node, end.link), end)]


def _express(device: Device) -> bytes:
    generation, lanes = device.link
    kind = 4 if device.secondary_bus is not None else 0  # root port, endpoint
    block = bytearray(0x3C)
    struct.pack_into("<BBH", block, 0, 0x10, 0, 2 | kind << 4)
    struct.pack_into("<I", block, 0x0C, generation | lanes << 4)
    struct.pack_into("<H", block, 0x12, generation | lanes << 4)
    return bytes(block)


def config_space(device: Device) -> bytes:
    """4096 bytes: header, PCI Express capability, AER and, for bridges, ACS switched on."""
    space = bytearray(CONFIG_SIZE)
    bridge = device.secondary_bus is not None
    struct.pack_into("<HHHH", space, 0, device.vendor, device.device, 0x0546, 0x0010)
    struct.pack_into("<I", space, 8, device.class_code << 8 | 0xA1)
    space[0x0E] = 1 if bridge else 0
    if device.secondary_bus is not None:
        struct.pack_into("<BBB", space, 0x18, device.bus, device.secondary_bus, device.secondary_bus)
    else:
        struct.pack_into("<HH", space, 0x2C, *device.subsystem)
    space[0x34] = EXPRESS_AT
    express = _express(device)
    space[EXPRESS_AT : EXPRESS_AT + len(express)] = express
    struct.pack_into("<I", space, AER_AT, 0x0001 | 1 << 16 | (ACS_AT if bridge else 0) << 20)
    if bridge:
        struct.pack_into("<IHH", space, ACS_AT, 0x000D | 1 << 16, 0x001F, ACS_ON)
    return bytes(space)


def device_folder(device: Device) -> str:
    """Where the device is below /sys: behind its root port, or in the root itself."""
    if device.secondary_bus is not None:
        return f"devices/pci{device.address[:7]}/{device.address}"
    root = f"0000:{device.bus - 1:02x}"
    return f"devices/pci{root}/{root}:02.0/{device.address}"


def write_device(tree: Tree, device: Device) -> None:
    """The device's folder, and its entry in the list of the bus."""
    folder = device_folder(device)
    generation, lanes = device.link
    tree.data(f"{folder}/config", config_space(device))
    tree.texts(folder, {
        "vendor": f"0x{device.vendor:04x}",
        "device": f"0x{device.device:04x}",
        "class": f"0x{device.class_code:06x}",
        "subsystem_vendor": f"0x{device.subsystem[0]:04x}",
        "subsystem_device": f"0x{device.subsystem[1]:04x}",
        "revision": "0xa1",
        "numa_node": device.numa_node,
        "enable": 1,
        "irq": 0,
        "resource": "\n".join(["0x0000000000000000 0x0000000000000000 0x0000000000000000"] * 13),
        "current_link_speed": SPEEDS[generation],
        "max_link_speed": SPEEDS[generation],
        "current_link_width": lanes,
        "max_link_width": lanes,
    })
    tree.link(f"bus/pci/devices/{device.address}", folder)
