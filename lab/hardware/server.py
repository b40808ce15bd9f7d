"""A simulated PowerEdge R750xa: DMI, processors, memory, disks, and what its kernel said at boot."""

from __future__ import annotations

import hashlib

from lab.hardware import pci
from lab.hardware.gpus import DRIVER_VERSION
from lab.hardware.tree import Tree

SOCKETS, CORES, THREADS = 2, 32, 2
CPUS = SOCKETS * CORES * THREADS
MODEL = "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"
MEMORY_KIB = 527_952_216  # 512 GiB less what firmware and kernel keep
DISK_SECTORS = 3_750_748_848  # 1.92 TB
DISK_MODEL = "Dell Ent NVMe CM6 RI 1.92TB"
KERNEL_ARGUMENTS = "ro intel_iommu=on iommu=pt console=tty0 quiet"

FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse sse2 ss ht "
    "tm pbe syscall nx pdpe1gb rdtscp lm constant_tsc arch_perfmon pebs bts rep_good nopl xtopology nonstop_tsc "
    "aperfmperf pni pclmulqdq monitor vmx ssse3 fma cx16 sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand "
    "abm 3dnowprefetch epb fsgsbase bmi1 avx2 smep bmi2 erms invpcid avx512f avx512dq rdseed adx smap avx512ifma "
    "clflushopt clwb intel_pt avx512cd sha_ni avx512bw avx512vl xsaveopt xsavec xgetbv1 avx512vbmi vaes vpclmulqdq"
)


def socket_of(cpu: int) -> int:
    """Dell's firmware deals processors out to the sockets in turn."""
    return cpu % SOCKETS


def core_of(cpu: int) -> int:
    """Core number inside its socket."""
    return cpu // SOCKETS % CORES


def service_tag(host: str) -> str:
    """Seven letters and digits, the same at every start."""
    letters = "0123456789BCDFGHJKLMNPQRSTVWXYZ"
    return "".join(letters[byte % len(letters)] for byte in hashlib.sha256(host.encode()).digest()[:7])


def write_identity(tree: Tree, host: str) -> None:
    """DMI. The class entry is a link into the devices, on machines that have DMI of their own as well."""
    tree.texts("devices/virtual/dmi/id", {
        "sys_vendor": "Dell Inc.",
        "product_name": "PowerEdge R750xa",
        "product_serial": service_tag(host),
        "bios_vendor": "Dell Inc.",
        "bios_version": "1.12.1",
        "board_vendor": "Dell Inc.",
        "chassis_type": "23",
    })
    tree.link("class/dmi/id", "devices/virtual/dmi/id")


def write_processors(tree: Tree) -> None:
    """Topology and governors of all processors, and the NUMA nodes.

    `cpu/online` stays the kernel's own: it is what programs size their thread pools by, and those cores are real.
    """
    for cpu in range(CPUS):
        folder = f"devices/system/cpu/cpu{cpu}"
        siblings = f"{cpu % (CPUS // THREADS)},{cpu % (CPUS // THREADS) + CPUS // THREADS}"
        tree.texts(f"{folder}/topology", {
            "core_id": core_of(cpu), "physical_package_id": socket_of(cpu), "thread_siblings_list": siblings,
        })
        tree.texts(f"{folder}/cpufreq", {
            "scaling_governor": "schedutil",
            "scaling_available_governors": "conservative ondemand userspace powersave performance schedutil",
        })
    for node in range(SOCKETS):
        _write_node(tree, node)
    tree.texts("devices/system/node", dict.fromkeys(("online", "possible", "has_cpu", "has_memory"), "0-1"))


def _write_node(tree: Tree, node: int) -> None:
    folder = f"devices/system/node/node{node}"
    own = [cpu for cpu in range(CPUS) if socket_of(cpu) == node]
    for cpu in own:
        tree.link(f"{folder}/cpu{cpu}", f"devices/system/cpu/cpu{cpu}")
    share = MEMORY_KIB // SOCKETS
    tree.texts(folder, {
        "cpulist": ",".join(map(str, own)),
        "cpumap": _cpu_map(own),
        "distance": " ".join("10" if other == node else "20" for other in range(SOCKETS)),
        "meminfo": f"Node {node} MemTotal:       {share} kB\nNode {node} MemFree:        {share - 4_000_000} kB",
    })
    for size in (2048, 1048576):
        tree.text(f"{folder}/hugepages/hugepages-{size}kB/nr_hugepages", 0)


def _cpu_map(cpus: list[int]) -> str:
    digits = f"{sum(1 << cpu for cpu in cpus):0{CPUS // 4}x}"
    return ",".join(digits[start : start + 8] for start in range(0, len(digits), 8))


def write_disks(tree: Tree, host: str) -> None:
    """Two NVMe disks in place of the disks of the machine that the lab runs on."""
    for number, device in enumerate(pci.disks()):
        controller = f"{pci.device_folder(device)}/nvme/nvme{number}"
        disk = f"{controller}/nvme{number}n1"
        tree.texts(controller, {"model": DISK_MODEL, "serial": f"{service_tag(host)}{number}", "state": "live"})
        tree.texts(disk, {"size": DISK_SECTORS, "removable": 0, "ro": 0, "dev": f"259:{number}"})
        tree.text(f"{disk}/queue/rotational", 0)
        tree.text(f"{disk}/queue/logical_block_size", 512)
        tree.link(f"{disk}/device", controller)
        for listing in ("class/block", "block"):
            tree.link(f"{listing}/nvme{number}n1", disk)
        tree.link(f"dev/block/259:{number}", disk)


def cpuinfo() -> str:
    """/proc/cpuinfo."""
    return "".join(
        f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: {MODEL}\n"
        f"stepping\t: 6\nmicrocode\t: 0xd0003b9\ncpu MHz\t\t: 2000.000\ncache size\t: 49152 KB\n"
        f"physical id\t: {socket_of(cpu)}\nsiblings\t: {CORES * THREADS}\ncore id\t\t: {core_of(cpu)}\n"
        f"cpu cores\t: {CORES}\nfpu\t\t: yes\nflags\t\t: {FLAGS}\nbogomips\t: 4000.00\nclflush size\t: 64\n"
        f"cache_alignment\t: 64\naddress sizes\t: 46 bits physical, 57 bits virtual\npower management:\n\n"
        for cpu in range(CPUS)
    )


def meminfo() -> str:
    """/proc/meminfo of an idle server."""
    free = MEMORY_KIB - 8_000_000
    values = {
        "MemTotal": MEMORY_KIB, "MemFree": free, "MemAvailable": free + 3_000_000, "Buffers": 210_000,
        "Cached": 3_900_000, "SwapCached": 0, "Active": 2_100_000, "Inactive": 2_700_000, "SwapTotal": 0,
        "SwapFree": 0, "Dirty": 140, "AnonPages": 900_000, "Mapped": 420_000, "Shmem": 24_000, "Slab": 1_900_000,
        "SReclaimable": 600_000, "CommitLimit": MEMORY_KIB // 2, "Committed_AS": 2_400_000,
    }
    lines = [f"{name + ':':<15}{value:>10} kB" for name, value in values.items()]
    lines += ["HugePages_Total:       0", "HugePages_Free:        0", "Hugepagesize:       2048 kB"]
    return "\n".join(lines) + "\n"


# Name, size, users.
MODULES = (("mlx5_ib", 462848, ()), ("ib_uverbs", 184320, ("mlx5_ib",)), ("ib_core", 495616, ("mlx5_ib", "ib_uverbs")),
           ("mlx5_core", 2043904, ("mlx5_ib",)), ("nvme", 65536, ()), ("nvme_core", 212992, ("nvme",)))
GPU_MODULES = (("nvidia_uvm", 1527808, ()), ("nvidia_drm", 86016, ()), ("nvidia_modeset", 1314816, ("nvidia_drm",)),
               ("nvidia", 56750080, ("nvidia_uvm", "nvidia_modeset")))


def proc_modules(gpus: bool) -> str:
    """/proc/modules; nouveau is not among them."""
    return "".join(
        f"{name} {size} {len(users)} {''.join(f'{user},' for user in users) or '-'} Live 0x0000000000000000"
        f"{' (POE)' if name.startswith('nvidia') else ''}\n"
        for name, size, users in (*(GPU_MODULES if gpus else ()), *MODULES)
    )


def write_modules(tree: Tree, gpus: bool) -> None:
    """The same in /sys/module, for kernels without loadable modules, which have no /proc/modules to be laid over.

    Built-in code has folders there too, but no `initstate`.
    """
    tree.remove("module/nouveau")
    for name, size, users in (*(GPU_MODULES if gpus else ()), *MODULES):
        tree.texts(f"module/{name}", {"initstate": "live", "refcnt": len(users), "coresize": size})


def kernel_log(gpus: bool) -> str:
    """/dev/kmsg of a healthy boot: `priority,sequence,microseconds,flags;text`, from sequence 0 on."""
    said = [
        (5, "Linux version 6.1.0-26-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.1.112-1"),
        (6, f"Command line: BOOT_IMAGE=/boot/vmlinuz root=/dev/nvme0n1p2 {KERNEL_ARGUMENTS}"),
        (6, "DMI: Dell Inc. PowerEdge R750xa/0H60JK, BIOS 1.12.1 10/10/2023"),
        (6, f"smpboot: Allowing {CPUS} CPUs, 0 hotplug CPUs"),
        (6, "mce: CPU0: Thermal monitoring enabled (TM1)"),
        (6, "DMAR: IOMMU enabled"),
        (6, "iommu: Default domain type: Passthrough (set via kernel command line)"),
        *((6, f"pcieport {device.address}: AER: enabled with IRQ {30 + number}")
          for number, device in enumerate(one for one in devices(gpus) if one.secondary_bus is not None)),
        (6, "nvme nvme0: 128/0/0 default/read/poll queues"),
        (6, f"mlx5_core {pci.NIC_ADDRESS}: firmware version: 22.39.2048"),
        (6, f"mlx5_core {pci.NIC_ADDRESS} ens3f0np0: Link up"),
    ]
    if gpus:
        said += [
            (4, "nvidia: loading out-of-tree module taints kernel."),
            (4, f"NVRM: loading NVIDIA UNIX x86_64 Kernel Module  {DRIVER_VERSION}  Wed Jun 26 06:46:07 UTC 2024"),
            (6, f"nvidia-modeset: Loading NVIDIA Kernel Mode Setting Driver for UNIX platforms  {DRIVER_VERSION}"),
        ]
    said.append((6, "systemd[1]: Reached target multi-user.target - Multi-User System."))
    return "".join(f"{level},{number},{number * 250_000},-;{text}\n" for number, (level, text) in enumerate(said))


def devices(gpus: bool) -> list[pci.Device]:
    """All PCI devices, each behind a root port of its own."""
    return pci.with_bridges([*(pci.gpus() if gpus else []), pci.fabric_port(), *pci.disks()])
