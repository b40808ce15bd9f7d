"""The GPUs run as they were ordered: driver, firmware, persistence, MIG, power limit, NVLink."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.facts import Cluster, NodeFacts
from acceptance.findings import Findings
from acceptance.measure.fleet import same_as_fleet, values_of
from acceptance.measure.gpus import each_gpu, fleet_of_gpus, reading
from acceptance.measure.versions import version_at_least
from acceptance.site.contract import Contract


@check("gpu-driver", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / GPU Driver Installation",
       criterion="One driver and one VBIOS on all GPU nodes; driver and CUDA at least as contracted",
       remedy="nvidia-smi -q | grep -E 'Driver|CUDA|VBIOS' on the node; install the common driver with "
              "playbooks/install-nvidia-drivers.yml; a differing VBIOS is a case for the vendor")
def test_gpu_driver(node: NodeFacts, cluster: Cluster, contract: Contract, findings: Findings) -> None:
    nvml, nodes = node.nvml, list(cluster.of("gpu_nodes"))
    version_at_least(findings, "driver", measured=nvml.driver, required=contract.gpu.min_driver)
    same_as_fleet(findings, "driver, as on the other nodes", measured=nvml.driver,
                  values=values_of(nodes, lambda other: other.nvml.driver))
    version_at_least(findings, "CUDA of the driver", measured=nvml.cuda, required=contract.gpu.min_cuda)
    everywhere = fleet_of_gpus(cluster, "vbios", contract.gpu.count)
    for subject, gpu in each_gpu(node):
        same_as_fleet(findings, "VBIOS, as on the other GPUs", subject=subject, **reading(gpu, "vbios"),
                      values=everywhere)


@check("gpu-settings", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", daily=True,
       clause="Infrastructure Deployment / GPU Driver Installation",
       criterion="Persistence mode, MIG, power limit and NVLink of every GPU are as contracted",
       remedy="nvidia-smi -q on the node; nvidia-smi -pm 1, -mig 0, -pl WATTS set them until the next boot; "
              "nvidia-persistenced.service keeps persistence")
def test_gpu_settings(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    expected = contract.gpu
    for subject, gpu in each_gpu(node):
        findings.equal("persistence", subject=subject, **reading(gpu, "persistence"), required=expected.persistence)
        findings.equal("MIG mode", subject=subject, **reading(gpu, "mig"), required=expected.mig)
        findings.equal("power limit", subject=subject, **reading(gpu, "power_limit_w"), required=expected.power_limit_w,
                       unit="W")
        findings.equal("active NVLinks", subject=subject, **reading(gpu, "nvlinks_active"),
                       required=expected.nvlinks_active)
