"""What nvidia-smi prints."""

from __future__ import annotations

import re
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import integer, lines, short, word

UUID = r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def smi_gpus(text: str) -> list[dict[str, Any]]:
    """`nvidia-smi --query-gpu=index,name,memory.total,uuid --format=csv,noheader`."""
    gpus = []
    for line in lines(text, "nvidia-smi"):
        parts = line.split(", ")
        memory = re.fullmatch(r"([0-9]{1,9}) MiB", parts[2]) if len(parts) == 4 else None
        if not memory or not parts[1].strip():
            raise ParseError(f"nvidia-smi: expected index, name, memory in MiB, UUID; found {short(line)}")
        gpus.append({"index": integer(parts[0], "nvidia-smi: index"), "name": parts[1],
                     "memory_mib": int(memory.group(1)), "uuid": word(parts[3], "nvidia-smi: UUID", UUID)})
    return gpus


def nvml_bus_id(sysfs_address: str) -> str:
    """A PCI address in NVML's form: "0000:17:00.0" becomes "00000000:17:00.0", in capitals."""
    match = re.fullmatch(r"([0-9a-f]{4,8}):([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", sysfs_address)
    if not match:
        raise ParseError(f"PCI address: found {short(sysfs_address)}")
    return f"{match.group(1):0>8}:{match.group(2)}".upper()


def sysfs_address(bus_id: str) -> str:
    """NVML's PCI bus id in the form of sysfs: "00000000:B1:00.0" becomes "0000:b1:00.0"."""
    match = re.fullmatch(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])", bus_id)
    if not match:
        raise ParseError(f"PCI bus id: found {short(bus_id)}")
    return f"{int(match.group(1), 16):04x}:{match.group(2).lower()}"


def cuda_version(number: int) -> str:
    """NVML's 12020 as "12.2"."""
    if number < 1000:
        raise ParseError(f"CUDA version: expected 1000 × major + 10 × minor, found {number}")
    return f"{number // 1000}.{number % 1000 // 10}"
