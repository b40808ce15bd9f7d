"""Phase 5: what all GPUs and the network between them reach, by workloads that run on all of them at once.

The judgement is in `acceptance.measure`, which the report shares; it is imported when there is something to judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acceptance.checks import check

if TYPE_CHECKING:
    from acceptance.evidence import Evidence
    from acceptance.facts import Cluster
    from acceptance.findings import Findings
    from acceptance.site.load import Site

WORKLOADS, BURN_IN = ("facts", "kube-workloads"), ("facts", "kube-burn-in")
GPUS = "Infrastructure Deployment / GPU Validation"
TRAINING = "Integration Testing / Distributed Training Test"


@check("gemm", phase=5, layer="acceptance", area="gpu", needs=WORKLOADS, intrusive=True, performance=True, clause=GPUS,
       criterion="Every GPU multiplies matrices at the contracted rate, no slower than the others, and rightly",
       remedy="of one GPU: nvidia-smi -q -d CLOCK,PERFORMANCE,TEMPERATURE under load, then the same GPU in another "
              "slot; of a whole node: power supplies, fans, BIOS profile; a wrong result: take the GPU out of use")
def test_gemm(site: Site, evidence: Evidence, cluster: Cluster, findings: Findings) -> None:
    from acceptance.measure.gate import Given, judge_gemm

    judge_gemm(Given(site, evidence, cluster), findings)


@check("memcpy", phase=5, layer="acceptance", area="gpu", needs=WORKLOADS, intrusive=True, performance=True,
       clause=GPUS,
       criterion="Every GPU copies to and from the host, within itself and to its neighbours at the contracted rate, "
                 "no slower than the others, and rightly",
       remedy="nvidia-smi -q -d PCIE: generation and width under load; nvidia-smi topo -m; ACS and IOMMU on the node; "
              "memory channels of the processor beside the GPU")
def test_memcpy(site: Site, evidence: Evidence, cluster: Cluster, findings: Findings) -> None:
    from acceptance.measure.gate import Given, judge_memcpy

    judge_memcpy(Given(site, evidence, cluster), findings)


@check("burn-in", phase=5, layer="acceptance", area="gpu", needs=BURN_IN, intrusive=True, performance=True, clause=GPUS,
       criterion="Every GPU works under full load for the contracted time: right results, steady clock, temperature "
                 "within limits, no new memory errors",
       remedy="nvidia-smi -q -d TEMPERATURE,POWER,CLOCK,ECC on the node while it is loaded; fans, air flow and power "
              "supplies; the kernel log for Xid; open a Dell case for a GPU with wrong results or memory errors")
def test_burn_in(site: Site, evidence: Evidence, cluster: Cluster, findings: Findings) -> None:
    from acceptance.measure.gate import Given, judge_burnin

    judge_burnin(Given(site, evidence, cluster), findings)


@check("nccl-allreduce", phase=5, layer="acceptance", area="gpu", needs=WORKLOADS, intrusive=True, performance=True,
       clause=TRAINING,
       criterion="Collectives over all GPUs reach the contracted bus bandwidth and stay below the physical limit, "
                 "every result is right, every channel between nodes uses the contracted network, no rank is late",
       remedy="over sockets: rdma/hca in the pod, memlock, NCCL_IB_HCA; too slow: pytest -m phase2 -k "
              "'pair or rdma' for ports and pairs, NCCL_NET_GDR_LEVEL, ACS; a late rank: processors of its node")
def test_nccl_allreduce(site: Site, evidence: Evidence, cluster: Cluster, findings: Findings) -> None:
    from acceptance.measure.gate import Given
    from acceptance.measure.gate_network import judge_allreduce

    judge_allreduce(Given(site, evidence, cluster), findings)


@check("ddp-training", phase=5, layer="acceptance", area="gpu", needs=WORKLOADS, intrusive=True, performance=True,
       clause=TRAINING,
       criterion="A model trains on all GPUs together: the loss falls, all replicas stay equal, no GPU holds up the "
                 "others, and the contracted share of what the GPUs do alone is reached",
       remedy="the checks gemm and nccl-allreduce first: they say whether a GPU or the network is slow; a diverged "
              "replica or a lost rank: logs and kernel log of the node that is named")
def test_ddp_training(site: Site, evidence: Evidence, cluster: Cluster, findings: Findings) -> None:
    from acceptance.measure.gate import Given
    from acceptance.measure.gate_network import judge_ddp

    judge_ddp(Given(site, evidence, cluster), findings)
