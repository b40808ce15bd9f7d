"""Read every counter of a port: the kernel's, the driver's (ethtool -S), and those of its RDMA device.

Argument: {"interface": name, "device": RDMA device}. Prints {"interface": {...}, "driver": {...}, "rdma": {...}};
a group that cannot be read is null.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys


def folder(path: str) -> dict[str, int] | None:
    """Files of a sysfs folder that hold one number each."""
    try:
        names = os.listdir(path)
    except OSError:
        return None
    found = {}
    for name in names:
        try:
            with open(f"{path}/{name}") as file:
                found[name] = int(file.read())
        except (OSError, ValueError):
            continue
    return found


def driver(interface: str) -> dict[str, int] | None:
    """What the driver counts; null where there is no ethtool or no such statistics."""
    try:
        run = subprocess.run(["ethtool", "-S", interface], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if run.returncode:
        return None
    return {name: int(value) for name, value in re.findall(r"^\s+(\S+): (\d+)$", run.stdout, re.MULTILINE)}


def main() -> None:
    """Read the argument, print all counters."""
    wanted = json.loads(sys.argv[1])
    interface = folder(f"/sys/class/net/{wanted['interface']}/statistics")
    if interface is not None:
        interface.update(
            (name, value)
            for name, value in (folder(f"/sys/class/net/{wanted['interface']}") or {}).items()
            if name == "carrier_changes"
        )
    port = f"/sys/class/infiniband/{wanted['device']}/ports/1"
    groups = [folder(f"{port}/{name}") for name in ("counters", "hw_counters")]
    rdma = {name: value for group in groups if group for name, value in group.items()}
    print(json.dumps({"interface": interface, "driver": driver(wanted["interface"]), "rdma": rdma or None}))


if __name__ == "__main__":
    main()
