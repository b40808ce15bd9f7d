"""The hardware that the lab's hosts pretend to have: files in the form in which a kernel shows the real thing.

Every host is a PowerEdge R750xa with a ConnectX fabric port; those named gpu-node-* have four A100-PCIE-40GB. As
delivered: nothing is tuned (governor, ECN, PFC, NUMA balancing, ACS), which is what the playbooks are for; only
`iommu=pt`, which would need a reboot, is on the kernel's command line already.
"""

from __future__ import annotations

import os
from pathlib import Path

from lab.hardware import fabric, gpus, pci, server
from lab.hardware.tree import Tree

# Where the machine that the lab runs on would show what it has itself. Without IOMMU groups the kernel's command line
# tells the mode.
HIDDEN = ("bus/pci/devices", "class/block", "block", "class/infiniband", "devices/virtual/dmi/id",
          "devices/system/node", "kernel/iommu_groups")


def has_gpus(host: str) -> bool:
    """Whether a lab host is a GPU server."""
    return host.startswith("gpu-")


def simulated_tree(host: str, address: str, index: int, dest: Path) -> None:
    """Write what host number `index` at an IPv4 address shows, as delivered, into folders of `dest`.

    sys: upper layer of an overlay over a mounted sysfs. proc: files to be bind-mounted over those of the same path
    below /proc. kmsg: the file that is /dev/kmsg. gpu-state/state.ini (GPU servers only): /var/lib/lab-gpu.
    fabric-state: /var/lib/lab-fabric.
    """
    with_gpus = has_gpus(host)
    sys = Tree(dest / "sys")
    server.write_identity(sys, host)
    server.write_processors(sys)
    for folder in HIDDEN:
        sys.hide(folder)
    for device in server.devices(with_gpus):
        pci.write_device(sys, device)
    fabric.write_port(sys, host, address)
    server.write_disks(sys, host)
    server.write_modules(sys, with_gpus)
    _write_proc(Tree(dest / "proc"), with_gpus)
    files = Tree(dest)
    files.data("kmsg", server.kernel_log(with_gpus).encode())
    if with_gpus:
        files.data("gpu-state/state.ini", gpus.healthy_state(host, index).encode())
    fabric.write_tool_state(Tree(dest / "fabric-state"), index)


def _write_proc(tree: Tree, with_gpus: bool) -> None:
    tree.data("cpuinfo", server.cpuinfo().encode())
    tree.data("meminfo", server.meminfo().encode())
    tree.data("modules", server.proc_modules(with_gpus).encode())
    tree.text("cmdline", f"BOOT_IMAGE=/boot/vmlinuz root=/dev/nvme0n1p2 {server.KERNEL_ARGUMENTS}")
    # The kernel has one of these for all hosts of the lab; each needs its own.
    tree.text("sys/kernel/numa_balancing", 1)
    tree.text("sys/kernel/osrelease", os.uname().release)
