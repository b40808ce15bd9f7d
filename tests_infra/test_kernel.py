"""What the kernel has reported since boot, and how it is set."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.facts import NodeFacts
from acceptance.findings import Findings
from acceptance.measure.gpus import subject_at
from acceptance.parse.kernel_log import find_trouble
from acceptance.site.contract import Contract


@check("kernel-log", phase=2, layer="compute", area="infra", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / GPU Validation",
       criterion="Since boot the kernel has reported no fatal Xid, machine check, PCIe error or hung task",
       remedy="journalctl -k -b on the node; look the Xid up in NVIDIA's Xid catalogue; Xid 79 or AER errors: reseat "
              "card and riser; machine checks: iDRAC's log names the module")
def test_kernel_log(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    log = node.kernel_log
    found = [trouble for entry in log.entries if (trouble := find_trouble(entry.text))]
    bad = [t for t in found if t.xid is None or t.xid in contract.kernel.fatal_xids]
    groups: dict[tuple[str, str], list[str]] = {}
    for trouble in bad:
        subject = subject_at(node, trouble.pci) if trouble.pci else node.name
        groups.setdefault((subject, trouble.kind), []).append(trouble.text)
    for (subject, kind), lines in groups.items():
        findings.fail(kind, f"lines since boot: {len(lines)}; the first: {lines[0]}", measured=len(lines), required=0,
                      subject=subject)
    if log.since_boot is not True or log.truncated:
        findings.blocked("kernel log", f"{log.source} does not reach back to boot: what came before is unknown")
    elif not bad:
        findings.empty("lines that mean trouble", measured=[])


@check("kernel-settings", phase=2, layer="compute", area="infra", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / GPU Driver Installation",
       criterion="ACS, IOMMU, NUMA balancing, CPU governor, memlock and modules of every GPU node are as contracted",
       remedy="cat /proc/cmdline, sysctl kernel.numa_balancing, cpupower frequency-info, ulimit -l, lsmod, lspci -vvv "
              "on the node; run the deployment playbook again and reboot")
def test_kernel_settings(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    kernel, expected = node.kernel, contract.kernel
    if not kernel.pci_bridges_read or kernel.acs_enabled is None:
        why = kernel.errors.get("acs_enabled", "the settings of no PCI bridge could be read")
        findings.blocked("ACS on", why, required=expected.acs)
    else:
        bridges = ", ".join(kernel.acs_enabled)
        findings.equal("ACS on", measured=bool(kernel.acs_enabled), required=expected.acs,
                       reason=f"bridges with ACS on: {bridges or 'none'}")
    findings.equal("IOMMU mode", measured=kernel.iommu_mode, required=expected.iommu,
                   reason=kernel.errors.get("iommu_mode", f"command line: {kernel.cmdline}"))
    findings.equal("kernel.numa_balancing", measured=kernel.numa_balancing, required=expected.numa_balancing,
                   reason=kernel.errors.get("numa_balancing", ""))
    findings.equal("CPU governors", measured=node.cpu.governors or None, required=[expected.governor],
                   reason=node.cpu.errors.get("governors", ""))
    for kind, limit in (("soft", node.limits.memlock_soft), ("hard", node.limits.memlock_hard)):
        if isinstance(expected.memlock, str) or limit == "unlimited":
            findings.equal(f"memlock limit, {kind}", measured=limit, required="unlimited")
        else:
            findings.at_least(f"memlock limit, {kind}", measured=limit, required=expected.memlock, unit="bytes")
    if not kernel.modules:
        why = kernel.errors.get("modules", "the kernel's list of modules is empty")
        findings.blocked("forbidden modules", why, required=[])
    else:
        findings.empty("forbidden modules", measured=[m for m in kernel.modules if m in expected.forbidden_modules])
