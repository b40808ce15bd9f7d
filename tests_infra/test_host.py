"""The servers are the ones that were bought, with the contracted system on them."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.facts import Cluster, NodeFacts
from acceptance.findings import Findings
from acceptance.measure.fleet import same_as_fleet, values_of
from acceptance.site.contract import Contract

CLAUSE = "Infrastructure Deployment / Deployment Overview"


@check("os", phase=2, layer="compute", area="infra", hosts="all", daily=True, clause=CLAUSE,
       criterion="Every host runs the contracted distribution, and all run one kernel",
       remedy="cat /etc/os-release; uname -r on the host; install the common kernel, make it the default and reboot")
def test_os(node: NodeFacts, cluster: Cluster, contract: Contract, findings: Findings) -> None:
    findings.equal("distribution", measured=node.os.id, required=contract.host.os_id)
    findings.equal("release", measured=node.os.version_id, required=contract.host.os_version)
    same_as_fleet(findings, "kernel, as on the other hosts", measured=node.os.kernel,
                  values=values_of(cluster, lambda other: other.os.kernel))


@check("hardware", phase=2, layer="compute", area="infra", hosts="all", daily=True, clause=CLAUSE,
       criterion="Every GPU server has the contracted model, processors, memory and disks; no host's disk is full",
       remedy="dmidecode, lscpu, free -m, lsblk, df on the host; missing memory is a failed or unseated module "
              "(iDRAC names the slot)")
def test_hardware(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    if "gpu_nodes" in node.groups:  # the contract describes the GPU servers; a control plane host may be another model
        _judge_server(node, contract, findings)
    errors = {mount: why for mount, why in node.disks.errors.items() if mount.startswith("/")}
    used = {entry.mount: entry.used_percent for entry in node.disks.filesystems}
    for mount in dict.fromkeys([*contract.host.filesystems, *used, *errors]):
        findings.at_most(f"space used on {mount}", measured=used.get(mount), unit="%",
                         required=contract.host.max_filesystem_used_percent,
                         reason="" if mount in used else errors.get(mount, f"no file system is mounted at {mount}"))


def _judge_server(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    expected, identity = contract.host, node.identity
    errors = identity.errors
    findings.equal("vendor", measured=identity.vendor, required=expected.vendor, reason=errors.get("vendor", ""))
    findings.equal("model", measured=identity.product, required=expected.model, reason=errors.get("product", ""))
    findings.equal("processor sockets", measured=node.cpu.sockets, required=expected.sockets)
    findings.equal("processor cores", measured=node.cpu.cores, required=expected.sockets * expected.cores_per_socket)
    findings.within("memory", measured=node.memory.total_mib, required=expected.memory_mib, unit="MiB",
                    tolerance=expected.memory_mib * expected.memory_tolerance_percent / 100)
    findings.at_least("disks", measured=len(node.disks.block), required=expected.min_disks)
