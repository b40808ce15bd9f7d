"""The GPUs that were bought are there, each once, where the asset list and the golden topology say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from acceptance.checks import check
from acceptance.errors import Unmeasured
from acceptance.facts import Cluster, NodeFacts
from acceptance.findings import Findings
from acceptance.measure.gpus import each_gpu, fleet_of_gpus, reading, subject_at
from acceptance.site.assets import load_assets
from acceptance.site.contract import Contract
from acceptance.site.load import Site

CLAUSE = "Infrastructure Deployment / GPU Validation"


@check("gpu-inventory", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", daily=True, clause=CLAUSE,
       criterion="Every GPU node shows its contracted GPUs: count, model and memory, in NVML and nvidia-smi alike",
       remedy="nvidia-smi -L and lspci -d 10de: on the node; compare with the asset list; reseat the card or open a "
              "case with the vendor")
def test_gpu_inventory(node: NodeFacts, contract: Contract, site: Site, findings: Findings) -> None:
    expected = contract.gpu
    findings.equal("GPUs that NVML shows", measured=len(node.gpus), required=expected.count)
    for gpu in node.gpus:
        subject = node.subject(gpu)
        findings.equal("model", subject=subject, **reading(gpu, "name"), required=expected.name)
        findings.equal("memory", subject=subject, **reading(gpu, "memory_mib"), required=expected.memory_mib,
                       unit="MiB")
    if expected.asset_list:
        assets = load_assets(site.path.parent / Path(expected.asset_list).expanduser())
        findings.same_set("serial numbers", measured=[gpu.serial for gpu in node.gpus],
                          required=assets.get(node.name, []))
    findings.same_set("GPUs that nvidia-smi shows",
                      measured=[f"{g.name}, {g.memory_mib} MiB, {g.uuid}" for g in node.nvidia_smi.gpus],
                      required=[f"{g.name}, {g.memory_mib} MiB, {g.uuid}" for g in node.gpus])


@check("gpu-uuids", phase=2, layer="compute", area="gpu", daily=True, clause=CLAUSE,
       criterion="No two GPUs of the cluster have the same UUID",
       remedy="nvidia-smi -L on the nodes named; two equal UUIDs are one card counted twice or a mended board with a "
              "foreign identity: open a case with the vendor")
def test_gpu_uuids(cluster: Cluster, contract: Contract, findings: Findings) -> None:
    count = Counter(fleet_of_gpus(cluster, "uuid", contract.gpu.count))
    for node in cluster.of("gpu_nodes"):
        try:
            for subject, gpu in each_gpu(node):
                owner = reading(gpu, "uuid")
                times = count[gpu.uuid] if gpu.uuid is not None else None
                findings.equal("GPUs with this UUID", subject=subject, measured=times, required=1,
                               reason=owner.get("reason", f"UUID {gpu.uuid}"))
        except Unmeasured as problem:
            findings.blocked("GPUs with this UUID", str(problem), subject=node.name, required=1)


@check("gpu-topology", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", daily=True, clause=CLAUSE,
       criterion="Each GPU and the fabric port hang on the NUMA node of the golden topology",
       remedy="nvidia-smi topo -m and lspci -t on the node; a card in another slot or a BIOS setting (NUMA per socket) "
              "moved it; move it back or agree a new golden topology")
def test_gpu_topology(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    golden, found = contract.gpu.topology, node.topology
    findings.same_set("PCI addresses of GPUs", measured=found.gpus, required=golden.gpus)
    for address, numa_node in golden.gpus.items():
        if address in found.gpus:
            findings.equal(f"NUMA node of the GPU at {address}", measured=found.gpus[address], required=numa_node,
                           subject=subject_at(node, address))
    port = contract.network.fabric.interface
    findings.equal(f"NUMA node of {port}", measured=found.nics.get(port), required=golden.fabric_numa_node,
                   reason=f"{port} is not among the network cards that were read" if port not in found.nics else "")
