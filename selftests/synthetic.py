"""A healthy cluster as facts, made from the contract alone, with places to break it."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence
from acceptance.facts import Cluster, NodeFacts
from acceptance.facts.kubernetes import KubeFacts
from acceptance.findings import Finding, Findings, Verdict
from acceptance.selection import load_catalogue
from acceptance.site.contract import Contract
from acceptance.site.inventory import Host
from acceptance.site.load import Site, load_site

ROOT = Path(__file__).parents[1]
SITE = load_site(ROOT / "site.yaml")

Sections = dict[str, Any]
Break = Callable[[Sections], Any]


def gpu(contract: Contract, host: Host, index: int) -> dict[str, Any]:
    """One healthy GPU as NVML would tell of it."""
    expected = contract.gpu
    address = list(expected.topology.gpus)[index]
    return {
        "index": index, "uuid": f"GPU-{host.name}-{index}", "serial": f"{host.name}-{index}", "name": expected.name,
        "memory_mib": expected.memory_mib, "vbios": "92.00.25.00.08", "pci_bus_id": address,
        "numa_node": expected.topology.gpus[address], "ecc_current": True, "ecc_pending": True,
        "ecc_uncorrected_volatile": 0, "ecc_corrected_volatile": 0, "ecc_uncorrected_aggregate": 0,
        "ecc_corrected_aggregate": 0, "remap_correctable": 0, "remap_uncorrectable": 0, "remap_pending": False,
        "remap_failed": False, "pcie_generation": 4, "pcie_generation_max": 4, "pcie_width": 16, "pcie_width_max": 16,
        "pcie_replays": 0, "persistence": True, "mig": False, "power_limit_w": 250.0, "power_default_limit_w": 250.0,
        "power_w": 40.0, "temperature_c": 35, "throttle_reasons": 1, "nvlinks_active": 0, "processes": [], "errors": {},
    }


def sections(site: Site, host: Host) -> Sections:
    """Every section of a healthy host that the checks of this suite judge."""
    contract = site.contract
    gpus = [gpu(contract, host, index) for index in range(contract.gpu.count)] if "gpu_nodes" in host.groups else []
    return _hardware(contract, host, gpus) | _system(contract, host) | _security(contract, host)


def _hardware(contract: Contract, host: Host, gpus: list[dict[str, Any]]) -> Sections:
    server, golden = contract.host, contract.gpu.topology
    return {
        "identity": {"hostname": host.name, "boot_id": "b", "uptime_s": 1000.0, "vendor": server.vendor,
                     "product": server.model, "serial": "S", "errors": {}},
        "cpu": {"model": "Xeon", "sockets": 2, "cores": 64, "threads": 128, "numa_nodes": 2,
                "governors": [contract.kernel.governor], "errors": {}},
        "memory": {"total_mib": server.memory_mib - 9000},
        "disks": {"block": [{"name": f"sd{c}", "size_bytes": 10**12, "model": None} for c in "ab"], "errors": {},
                  "filesystems": [{"mount": "/", "device": "/dev/sda1", "type": "ext4", "size_bytes": 10**12,
                                   "used_percent": 20.0}]},
        "nvml": {"driver": "535.104.05", "cuda": "12.2", "gpus": gpus},
        "nvidia_smi": {"gpus": [{key: g[key] for key in ("index", "name", "memory_mib", "uuid")} for g in gpus]},
        "topology": {"gpus": dict(golden.gpus), "nics": {contract.network.fabric.interface: golden.fabric_numa_node}},
    }


def _system(contract: Contract, host: Host) -> Sections:
    unit = {"active": "active", "sub": "running", "enabled": "enabled", "load": "loaded"}
    return {
        "os": {"id": contract.host.os_id, "version_id": contract.host.os_version, "kernel": "5.15.0-91-generic"},
        "kernel_log": {"since_boot": True, "source": "/dev/kmsg", "truncated": False, "records_read": 900, "entries": [
            {"level": 4, "seconds": 3.5, "text": "ACPI: SPCR: Unexpected SPCR Access Width."},
            {"level": 6, "seconds": 1.0, "text": "pcieport 0000:00:1c.0: AER: enabled with IRQ 122"}]},
        "kernel": {"cmdline": "ro quiet iommu=pt", "numa_balancing": 0, "modules": ["nvidia", "mlx5_core"],
                   "acs_enabled": [], "pci_bridges_read": 8, "iommu_mode": "pt", "errors": {}},
        "limits": {"memlock_soft": "unlimited", "memlock_hard": "unlimited"},
        "services": {"units": {name: dict(unit) for name in contract.services.of(host.groups)}, "failed": []},
        "time": {"epoch_s": 1.7e9, "errors": {},
                 "chrony": {"synchronised": True, "stratum": 3, "offset_s": -0.0004, "reference": "ntp"},
                 "sources": [{"name": name, "state": "*", "reach": 255} for name in contract.time.servers]},
    }


def _security(contract: Contract, host: Host) -> Sections:
    firewall = contract.security.firewall
    rules = [{"port": str(p.port), "protocol": p.protocol, "source": str(p.source), "action": "allow",
              "direction": "in", "destination": "any",
              "interface": None, "v6": False, "remark": ""} for p in contract.ports_of(host.groups)]
    names = contract.security.login_users
    users = [{"name": name, "uid": 0 if name == "root" else 1000 + n, "shell": "/bin/bash", "login": True,
              "password_locked": True} for n, name in enumerate(names)]
    return {
        "sshd": {"options": {"passwordauthentication": "no", "kbdinteractiveauthentication": "no",
                             "permitrootlogin": "no"}},
        "firewall": {"active": True, "at_boot": True, "ipv6": True, "default_incoming": firewall.default_incoming,
                     "default_routed": firewall.default_routed, "default_incoming_v6": firewall.default_incoming,
                     "default_routed_v6": firewall.default_routed, "rules": rules},
        "accounts": {"users": [*users, {"name": "daemon", "uid": 1, "shell": "/usr/sbin/nologin", "login": False,
                                        "password_locked": True}],
                     "sudoers": list(contract.security.sudo_users)},
    }


@dataclass
class Broken:
    """A cluster in which some hosts are broken, some sections failed, and some hosts do not answer."""

    site: Site = SITE
    breaks: dict[str, list[Break]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    down: tuple[str, ...] = ()

    def cluster(self) -> Cluster:
        """Its facts."""
        return Cluster({host.name: self._node(host) for host in self.site.hosts})

    def _node(self, host: Host) -> NodeFacts:
        if host.name in self.down:
            return NodeFacts(host.name, host.groups, host.address, None, "unreachable: no route to host", "e0")
        data = copy.deepcopy(sections(self.site, host))
        for change in self.breaks.get(host.name, []):
            change(data)
        parts: dict[str, Any] = {name: {"ok": True, "data": part, "seconds": 0.1} for name, part in data.items()}
        for name, error in self.failed.get(host.name, {}).items():
            parts[name] = {"ok": False, "error": error}
        document = {"probe": 1, "hostname": host.name, "sections": parts}
        return NodeFacts(host.name, host.groups, host.address, document, None, "e1")


def broken(host: str, *changes: Break) -> Cluster:
    """A cluster of which one host is broken."""
    return Broken(breaks={host: list(changes)}).cluster()


def judge_check(id: str, cluster: Cluster, node: str, evidence: Evidence | None = None, site: Site = SITE) -> Findings:
    """Judge a check of the catalogue as the engine does: Unmeasured becomes a BLOCKED finding."""
    check = load_catalogue(ROOT)[id]
    function = getattr(sys.modules[check.module], check.function)
    findings = Findings(node if check.hosts else "cluster")
    offered = {"node": cluster[node], "cluster": cluster, "contract": site.contract, "site": site,
               "evidence": evidence or Evidence(()), "findings": findings, "kube": KubeFacts(evidence or Evidence(()))}
    try:
        function(**{name: offered[name] for name in inspect.signature(function).parameters})
    except Unmeasured as problem:
        findings.blocked("facts", str(problem))
    return findings


def reds(findings: Findings) -> list[Finding]:
    """Findings that are not PASS."""
    return [finding for finding in findings.found if finding.verdict is not Verdict.PASS]


def subjects(found: Iterable[Finding]) -> set[str]:
    """What they are about."""
    return {finding.subject for finding in found}
