"""Who the machine is, its processors, memory and disks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from acceptance.errors import ParseError, Unmeasured
from acceptance.probe.parse import decimal, hardware, integer, word
from acceptance.probe.run import Context, names_in, read

DMI = "/sys/class/dmi/id"
CPUS = "/sys/devices/system/cpu"
VIRTUAL_TYPES = {"squashfs", "iso9660", "efivarfs", "autofs", "ramfs", "hugetlbfs", "nsfs", "nfs", "nfs4", "cifs",
                 "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "securityfs", "debugfs",
                 "tracefs", "bpf", "pstore", "configfs", "binfmt_misc", "rpc_pipefs", "fusectl"}
TRANSIENT = ("/proc", "/sys", "/dev", "/run", "/var/lib/kubelet/pods", "/run/containerd", "/var/lib/docker/overlay2")


def optional(errors: dict[str, str], name: str, reading: Callable[..., Any], *arguments: Any) -> Any:
    """What `reading(*arguments)` returns, or None with the reason noted under `name`."""
    try:
        return reading(*arguments)
    except Unmeasured as error:
        errors[name] = str(error)
        return None


def identity(_: Context) -> dict[str, Any]:
    errors: dict[str, str] = {}
    data: dict[str, Any] = {
        "hostname": os.uname().nodename, "boot_id": word(read("/proc/sys/kernel/random/boot_id"), "boot id"),
        "uptime_s": decimal(read("/proc/uptime").split(" ")[0], "/proc/uptime"),
    }
    for name, file in (("vendor", "sys_vendor"), ("product", "product_name"), ("serial", "product_serial")):
        data[name] = optional(errors, name, _dmi, file)
    return {**data, "errors": errors}


def _dmi(file: str) -> str:
    return word(read(f"{DMI}/{file}"), f"DMI {file}", r"\S.*")


def operating_system(_: Context) -> dict[str, Any]:
    kernel = word(read("/proc/sys/kernel/osrelease"), "kernel release")
    return {**hardware.os_release(read("/etc/os-release")), "kernel": kernel}


def cpu(_: Context) -> dict[str, Any]:
    errors: dict[str, str] = {}
    nodes = [name for name in names_in("/sys/devices/system/node") if name[:4] == "node" and name[4:].isdigit()]
    return {**hardware.cpuinfo(read("/proc/cpuinfo")), "numa_nodes": len(nodes),
            "governors": optional(errors, "governors", governors), "errors": errors}


def governors() -> list[str]:
    """Distinct governors of all processors that are online. Raises Unmeasured when one has none."""
    found = set()
    for name in names_in(CPUS):
        if name[:3] == "cpu" and name[3:].isdigit() and _online(name):
            found.add(word(read(f"{CPUS}/{name}/cpufreq/scaling_governor"), f"{name}: governor"))
    if not found:
        raise ParseError(f"{CPUS}: no processor")
    return sorted(found)


def _online(name: str) -> bool:
    path = f"{CPUS}/{name}/online"  # the boot processor often has no such file: it cannot be taken offline
    return not os.path.exists(path) or read(path).strip() != "0"


def memory(_: Context) -> dict[str, Any]:
    return {"total_mib": hardware.meminfo_total_mib(read("/proc/meminfo"))}


def disks(_: Context) -> dict[str, Any]:
    errors: dict[str, str] = {}
    block = []
    for name in names_in("/sys/block"):
        path = f"/sys/block/{name}"
        if os.path.exists(f"{path}/device"):  # loop, RAM, device-mapper and md devices have no hardware behind them
            size = 512 * integer(read(f"{path}/size"), f"{name}: size")  # sectors of 512 bytes, whatever the disk's
            model = optional(errors, name, read, f"{path}/device/model")
            if size:
                block.append({"name": name, "size_bytes": size, "model": model and model.strip()})
    return {"block": block, "filesystems": _filesystems(errors), "errors": errors}


def _filesystems(errors: dict[str, str]) -> list[dict[str, Any]]:
    found = {}  # a later mount on the same point hides the earlier
    for entry in hardware.mounts(read("/proc/self/mounts")):
        mount = entry["mount"]
        hidden = any(mount == prefix or mount.startswith(prefix + "/") for prefix in TRANSIENT)
        if hidden or entry["type"] in VIRTUAL_TYPES or entry["type"].startswith("fuse."):
            continue
        usage = optional(errors, mount, _usage, mount)
        if usage:
            found[mount] = {**entry, **usage}
    return list(found.values())


def _usage(mount: str) -> dict[str, Any] | None:
    try:
        numbers = os.statvfs(mount)
    except OSError as error:
        raise Unmeasured(f"{mount}: {error.strerror}") from None
    used = numbers.f_blocks - numbers.f_bfree
    usable = used + numbers.f_bavail  # as df: without what is reserved for root
    if not numbers.f_blocks or not usable:
        return None
    return {"size_bytes": numbers.f_blocks * numbers.f_frsize, "used_percent": round(100 * used / usable, 2)}
