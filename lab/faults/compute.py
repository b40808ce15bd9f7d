"""Faults of servers: operating system, hardware, clock, kernel and services."""

from __future__ import annotations

import re

from lab.faults.base import Change, CommandFault, Expect, Fault, FileFault

CMDLINE, MEMINFO = "/proc/cmdline", "/proc/meminfo"


def kernel_log_fault(name: str, breaks: str, text: str) -> FileFault:
    """A fault that the kernel's log tells of; `text` is a line as the kernel writes it."""

    def change(log: str) -> str:
        number = len(log.splitlines())
        return log + f"3,{number},{number * 1000000},-;{text}\n"

    return FileFault(name, breaks, (Expect("kernel-log", "{host}*"),), path="/var/lib/lab-kernel/kmsg", change=change)


def replaced(pattern: str, text: str) -> Change:
    """A change that replaces what a pattern matches, in every line."""
    return lambda old: re.sub(pattern, text, old, flags=re.MULTILINE)


def kernel_fault(name: str, breaks: str, path: str, change: Change, after: str = "") -> FileFault:
    """A fault of a kernel setting that shows in one file."""
    return FileFault(name, breaks, (Expect("kernel-settings", "{host}*"),), path=path, change=change, after=after)


FAULTS: tuple[Fault, ...] = (
    FileFault("other-kernel", "one node runs another kernel", (Expect("os", "{host}*"),),
              path="/proc/sys/kernel/osrelease", change=lambda _: "5.15.0-25-generic\n"),
    FileFault("other-distribution", "one node has another release", (Expect("os", "{host}*"),),
              path="/etc/os-release", change=replaced(r"^VERSION_ID=.*$", 'VERSION_ID="10"')),
    FileFault("memory-missing", "half the memory is not there", (Expect("hardware", "{host}*"),),
              path=MEMINFO, change=replaced(r"^MemTotal:.*$", "MemTotal:       263852460 kB")),
    FileFault("other-server-model", "a server of another model was delivered", (Expect("hardware", "{host}*"),),
              path="/sys/class/dmi/id/product_name", change=lambda _: "PowerEdge R740\n"),
    CommandFault(
        "disk-full", "the containers' file system is 95 % full", (Expect("hardware", "{host}*"),),
        inject_command=("mount -t tmpfs -o size=20m lab-fault /var/lib/containerd && "
                        "head -c 19M /dev/zero > /var/lib/containerd/fill"),
        clear_command="! grep -q '^lab-fault /var/lib/containerd' /proc/mounts || umount -l /var/lib/containerd",
    ),
    CommandFault(
        "chrony-stopped", "the time service is stopped",
        (Expect("time-sync", "{host}*"), Expect("services", "{host}*")),
        inject_command="systemctl stop chrony", clear_command="systemctl start chrony && chronyc waitsync 30 0.5 0 1",
    ),
    CommandFault(
        "chrony-no-source", "no time server is configured", (Expect("time-sync", "{host}*"),),
        inject_command="cp -a /etc/chrony /etc/chrony.lab && find /etc/chrony -name '*.sources' -delete && "
                       "sed -i -E '/^(server|pool|sourcedir) /d' /etc/chrony/chrony.conf "
                       "$(find /etc/chrony/conf.d -name '*.conf') && systemctl restart chrony",
        clear_command="[ ! -d /etc/chrony.lab ] || { rm -rf /etc/chrony && mv /etc/chrony.lab /etc/chrony && "
                      "systemctl restart chrony && chronyc waitsync 30 0.5 0 1; }",
    ),
    kernel_log_fault("xid-79", "a GPU fell off the bus, says the kernel",
                     "NVRM: Xid (PCI:0000:17:00): 79, pid=1234, GPU has fallen off the bus."),
    kernel_log_fault("aer-error", "a PCIe error was reported",
                     "pcieport 0000:16:00.0: AER: Uncorrected (Non-Fatal) error received: 0000:17:00.0"),
    kernel_log_fault("machine-check", "a machine check was reported",
                     "mce: [Hardware Error]: Machine check events logged"),
    kernel_log_fault("hung-task", "a task hung",
                     "INFO: task python3:4242 blocked for more than 120 seconds."),
    CommandFault(
        "acs-on", "access control services are on for a bridge", (Expect("kernel-settings", "{host}*"),),
        inject_command="setpci -d ::0604 ECAP_ACS+6.w=001d",
        clear_command="setpci -d ::0604 ECAP_ACS+6.w=0000",
    ),
    kernel_fault("iommu-translated", "the IOMMU translates every access", CMDLINE, replaced(r" ?\biommu=pt\b", "")),
    kernel_fault("numa-balancing-on", "NUMA balancing is on", "/proc/sys/kernel/numa_balancing", lambda _: "1\n"),
    kernel_fault("governor-powersave", "a core's governor saves power",
                 "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", lambda _: "powersave\n"),
    CommandFault(
        "memlock-limited", "locked memory is limited", (Expect("kernel-settings", "{host}*"),),
        inject_command="printf '* - memlock 64\\nroot - memlock 64\\n' > /etc/security/limits.d/zz-lab.conf",
        clear_command="rm -f /etc/security/limits.d/zz-lab.conf",
    ),
    CommandFault("nouveau-loaded", "the nouveau module is loaded", (Expect("kernel-settings", "{host}*"),),
                 inject_command="mkdir -p /sys/module/nouveau && echo live > /sys/module/nouveau/initstate",
                 clear_command="rm -rf /sys/module/nouveau"),
    CommandFault("service-stopped", "the node exporter is stopped", (Expect("services", "{host}*"),),
                 inject_command="systemctl stop prometheus-node-exporter",
                 clear_command="systemctl start prometheus-node-exporter"),
    CommandFault("service-disabled", "the node exporter does not start at boot", (Expect("services", "{host}*"),),
                 inject_command="systemctl disable --quiet prometheus-node-exporter",
                 clear_command="systemctl enable --quiet prometheus-node-exporter"),
    CommandFault("failed-unit", "a unit has failed", (Expect("services", "{host}*"),),
                 inject_command="systemd-run --quiet --unit lab-broken false; sleep 0.3; "
                                "systemctl is-failed lab-broken",
                 clear_command="systemctl reset-failed lab-broken || true"),
)
