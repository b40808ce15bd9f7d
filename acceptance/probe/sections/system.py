"""Kernel log and settings, services, clock."""

from __future__ import annotations

import os
import time
from typing import Any

from acceptance.errors import ParseError, Unmeasured
from acceptance.probe.parse import integer
from acceptance.probe.parse import kernel as parse
from acceptance.probe.parse import services as units
from acceptance.probe.run import Context, names_in, read, read_bytes
from acceptance.probe.sections.hardware import optional

PCI = "/sys/bus/pci/devices"
KMSG = "/dev/kmsg"
MODULES = "/sys/module"
IOMMU_GROUPS = "/sys/kernel/iommu_groups"
BRIDGE = "0x0604"  # PCI-to-PCI bridge, which root and switch ports are


def kernel_log(context: Context) -> dict[str, Any]:
    """The kernel's ring buffer where it still holds the first message; else the journal of this boot."""
    errors: dict[str, str] = {}
    ring = optional(errors, KMSG, _ring)
    if ring and ring["first"] == 0 and not ring["gaps"]:
        return _log(ring["entries"], True, KMSG)
    command = ["journalctl", "-k", "-b", "0", "-o", "json", "--no-pager",
               "--output-fields=MESSAGE,PRIORITY,_SOURCE_MONOTONIC_TIMESTAMP"]
    journal = optional(errors, "journal", lambda: parse.journal(context.run(command)))
    if journal and journal["since_boot"]:
        return _log(journal["entries"], True, "journal")
    if ring and ring["entries"]:
        return _log(ring["entries"], False, KMSG)
    if journal:
        return _log(journal["entries"], False, "journal")
    raise Unmeasured("; ".join(errors.values()) or f"{KMSG}: no record")


def _ring() -> dict[str, Any]:
    return parse.kmsg(_read_kmsg().decode("utf-8", "backslashreplace"))


def _read_kmsg() -> bytes:
    """All records there are now. The kernel hands out one a read, EAGAIN at the end, EPIPE for overwritten ones."""
    try:
        descriptor = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Unmeasured(f"{KMSG}: {error.strerror}") from None
    parts = []
    try:
        while True:
            try:
                part = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                break
            except BrokenPipeError:  # shows as a gap in the sequence numbers
                continue
            if not part:
                break
            parts.append(part)
    except OSError as error:
        raise Unmeasured(f"{KMSG}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return b"".join(parts)


def _log(entries: list[dict[str, Any]], since_boot: bool, source: str) -> dict[str, Any]:
    kept, truncated = parse.worth_keeping(entries)
    return {"since_boot": since_boot, "source": source, "truncated": truncated, "records_read": len(entries),
            "entries": kept}


def kernel(_: Context) -> dict[str, Any]:
    errors: dict[str, str] = {}
    cmdline = read("/proc/cmdline").strip()
    acs = optional(errors, "acs_enabled", pci_bridges)
    return {
        "cmdline": cmdline, "modules": optional(errors, "modules", loaded_modules),
        "numa_balancing": optional(errors, "numa_balancing", lambda: integer(
            read("/proc/sys/kernel/numa_balancing"), "numa_balancing")),
        "acs_enabled": acs and acs[0], "pci_bridges_read": acs and acs[1],
        "iommu_mode": optional(errors, "iommu_mode", lambda: parse.iommu_mode(cmdline, _iommu_types())),
        "errors": errors,
    }


def loaded_modules() -> list[str]:
    """Loaded modules: those with a state in sysfs; what is built into the kernel has none, and cannot be unloaded."""
    return [name for name in names_in(MODULES) if os.path.exists(f"{MODULES}/{name}/initstate")]


def pci_bridges() -> tuple[list[str], int]:
    """Bridges with ACS on, and how many bridges were read."""
    bridges = [a for a in names_in(PCI) if read(f"{PCI}/{a}/class").startswith(BRIDGE)]
    enabled = []
    for address in bridges:
        path = f"{PCI}/{address}/config"
        config = read_bytes(path)
        if parse.acs_enabled(config, os.stat(path).st_size, address):
            enabled.append(address)
    return enabled, len(bridges)


def _iommu_types() -> list[str]:
    groups = names_in(IOMMU_GROUPS) if os.path.isdir(IOMMU_GROUPS) else []
    return [read(f"{IOMMU_GROUPS}/{group}/type").strip() for group in groups]


def services(context: Context) -> dict[str, Any]:
    asked = [str(name) for name in context.parameters["units"]]
    show = ["systemctl", "show", "--no-pager", "--property=" + ",".join(units.PROPERTIES), "--"]
    failed = ["systemctl", "list-units", "--failed", "--all", "--plain", "--no-pager", "--full"]
    found = units.units(context.run([*show, *asked]), asked) if asked else {}
    return {"units": found, "failed": units.failed_units(context.run(failed))}


def clock(context: Context) -> dict[str, Any]:
    errors: dict[str, str] = {}
    epoch = time.time()
    told = optional(errors, "chrony", lambda: _chronyc(context))
    if told is None:
        return {"epoch_s": epoch, "chrony": None, "sources": None, "errors": errors | {"sources": errors["chrony"]}}
    tracking, end, sources = told.partition("\n")
    return {"epoch_s": epoch, "chrony": optional(errors, "chrony", lambda: units.chrony_tracking(tracking + end)),
            "sources": optional(errors, "sources", lambda: units.chrony_sources(sources)), "errors": errors}


def _chronyc(context: Context) -> str:
    """A line of tracking, and one for each source: asked for together, since asking costs more than answering."""
    output = context.run(["chronyc", "-N", "-c", "-m", "tracking", "sources"], limit_s=2)
    if output.startswith("506 "):
        raise ParseError(f"chronyc: {output.splitlines()[0]}")
    return output
