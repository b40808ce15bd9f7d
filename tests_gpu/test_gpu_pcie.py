"""The PCIe link of every GPU is as wide and as fast as it was bought, and loses nothing."""

from __future__ import annotations

from acceptance.checks import check
from acceptance.errors import Unmeasured
from acceptance.evidence import Evidence
from acceptance.facts import GpuFacts, NodeFacts
from acceptance.findings import Findings
from acceptance.measure.gpus import each_gpu, reading
from acceptance.site.contract import Contract


@check("gpu-pcie", phase=2, layer="compute", area="gpu", hosts="gpu_nodes", daily=True, needs=("facts", "pcie-samples"),
       clause="Infrastructure Deployment / GPU Validation",
       criterion="The PCIe link of every GPU has the contracted generation and width, and its replay counter is still",
       remedy="nvidia-smi -q | grep -A9 'Link Info' and lspci -vv (LnkSta) on the node, under load; reseat card and "
              "riser; check the slot's settings in the BIOS")
def test_gpu_pcie(node: NodeFacts, contract: Contract, findings: Findings, evidence: Evidence) -> None:
    samples = [node.gpus, *_samples(node, evidence)]
    generation, width = contract.gpu.pcie_generation, contract.gpu.pcie_width
    for subject, gpu in each_gpu(node):
        series = [other for sample in samples for other in sample if other.index == gpu.index]
        findings.at_least("highest generation that card and slot allow", subject=subject,
                          **reading(gpu, "pcie_generation_max"), required=generation)
        best = max(series, key=lambda one: one.pcie_generation or 0)
        findings.equal("generation in use", subject=subject, required=generation,
                       **_explained(reading(best, "pcie_generation"), f"best of {len(series)} samples; an idle GPU may "
                                    "slow its link down: look again under load before reseating it"))
        narrowest = min(series, key=lambda one: one.pcie_width or 0)
        findings.equal("lanes in use", subject=subject, **reading(narrowest, "pcie_width"), required=width)
        _judge_replays(findings, subject, series)


def _samples(node: NodeFacts, evidence: Evidence) -> list[list[GpuFacts]]:
    """The GPUs of each further sample. Raises Unmeasured when there is none, or one could not be had."""
    records = evidence.of("pcie-samples", node.name)
    if not records:
        raise Unmeasured(f"{node.name}: the PCIe links were not watched")
    found = []
    for record in records:
        reason = record.outcome.reason() if record.outcome else (record.document or {}).get("error")
        found.append(NodeFacts(node.name, node.groups, node.address, record.document, reason, record.id).gpus)
    return found


def _explained(value: dict[str, object], reason: str) -> dict[str, object]:
    return {"reason": reason} | value


def _judge_replays(findings: Findings, subject: str, series: list[GpuFacts]) -> None:
    quantity = f"replays within {len(series)} samples"
    unread = next((gpu for gpu in series if gpu.pcie_replays is None), None)
    if unread:
        findings.equal(quantity, subject=subject, **reading(unread, "pcie_replays"), required=0)
        return
    counts = [gpu.pcie_replays for gpu in series if gpu.pcie_replays is not None]
    if len(counts) < 2 or counts != sorted(counts):
        findings.blocked(quantity, f"the counter cannot be compared: {counts}", subject=subject, required=0)
    else:
        findings.equal(quantity, subject=subject, measured=counts[-1] - counts[0], required=0,
                       reason=f"the counter went from {counts[0]} to {counts[-1]}")
