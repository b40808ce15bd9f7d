"""The GPUs are sound: memory errors, PCIe link, temperature, nothing of others running."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.facts import NodeFacts
from acceptance.findings import Findings
from acceptance.measure.gpus import each_gpu, reading, slowdowns
from acceptance.site.contract import Contract

CLAUSE = "Infrastructure Deployment / GPU Validation"


@check("gpu-ecc", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", daily=True, clause=CLAUSE,
       criterion="ECC is on; no uncorrected memory error, few corrected ones, no row remap pending or failed",
       remedy="nvidia-smi -q -d ECC,ROW_REMAPPER on the node; a pending remap needs a GPU reset; an uncorrected error "
              "or failed remap is a case for the vendor (attach nvidia-bug-report)")
def test_gpu_ecc(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    limits = contract.gpu
    for subject, gpu in each_gpu(node):
        findings.equal("ECC on", subject=subject, **reading(gpu, "ecc_current"), required=limits.ecc)
        findings.equal("ECC on after a reboot", subject=subject, **reading(gpu, "ecc_pending"), required=limits.ecc)
        for field, quantity, limit in (
            ("ecc_uncorrected_volatile", "uncorrected errors since boot", 0),
            ("ecc_uncorrected_aggregate", "uncorrected errors in its life", 0),
            ("ecc_corrected_volatile", "corrected errors since boot", limits.max_corrected_volatile),
            ("ecc_corrected_aggregate", "corrected errors in its life", limits.max_corrected_aggregate),
        ):
            findings.at_most(quantity, subject=subject, **reading(gpu, field), required=limit)
        for field, quantity in (("remap_pending", "row remap pending"), ("remap_failed", "row remap failed")):
            findings.equal(quantity, subject=subject, **reading(gpu, field), required=False)


@check("gpu-thermals", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", daily=True, clause=CLAUSE,
       criterion="No GPU is too hot, and none is slowed down by its hardware",
       remedy="nvidia-smi -q -d TEMPERATURE,PERFORMANCE on the node; check fans, air flow, blanking panels and both "
              "power supplies")
def test_gpu_thermals(node: NodeFacts, contract: Contract, findings: Findings) -> None:
    for subject, gpu in each_gpu(node):
        state, limit = "idle", contract.gpu.max_idle_temperature_c
        if gpu.processes:
            state, limit = "loaded", contract.gpu.max_loaded_temperature_c
        findings.at_most(f"temperature, {state}", subject=subject, **reading(gpu, "temperature_c"), required=limit,
                         unit="°C")
        slowed = reading(gpu, "throttle_reasons")
        if slowed["measured"] is not None:
            slowed = {"measured": slowdowns(slowed["measured"])}
        findings.empty("hardware slowdowns", subject=subject, **slowed)


@check("gpu-idle", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", clause=CLAUSE,
       criterion="No GPU is in use by a process of somebody else when the cluster is handed over",
       remedy="nvidia-smi on the node; ask the owner of the process named to stop it")
def test_gpu_idle(node: NodeFacts, findings: Findings) -> None:
    for subject, gpu in each_gpu(node):
        running = reading(gpu, "processes")
        if gpu.processes is not None:
            running = {"measured": [f"{p.name} (pid {p.pid}, {p.used_mib} MiB)" for p in gpu.processes]}
        findings.empty("compute processes", subject=subject, **running)
