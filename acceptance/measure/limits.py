"""The physical ceilings of the cluster that the contract describes, whatever was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from acceptance.errors import ContractError
from acceptance.measure import ceilings
from acceptance.measure.ceilings import Ceiling
from acceptance.site.contract import Contract

GPU_NODES = "gpu_nodes"


@dataclass(frozen=True)
class Limits:
    """Every ceiling by what it limits: collectives and data types by name."""

    tcp: Ceiling
    roce: Ceiling
    collectives: Mapping[str, Ceiling]
    inside: Ceiling
    host_device: Ceiling
    device_memory: Ceiling
    host_memory: Ceiling
    peak: Mapping[str, Ceiling]

    @property
    def all(self) -> tuple[Ceiling, ...]:
        """All of them, for the report."""
        return (self.tcp, self.roce, *self.collectives.values(), self.inside, self.host_device, self.device_memory,
                self.host_memory, *self.peak.values())


def ranks_of(contract: Contract) -> int:
    """Ranks of a run over the whole cluster: one a GPU. Raises ContractError."""
    if GPU_NODES not in contract.hosts:
        raise ContractError(f"hosts: no group {GPU_NODES}, so there is nothing to measure")
    return contract.hosts[GPU_NODES] * contract.gpu.count


def limits_of(contract: Contract) -> Limits:
    """The ceilings of a contract. Raises ContractError where it asks for more than its own hardware can give."""
    fabric, gpu, work = contract.network.fabric, contract.gpu, contract.performance
    wanted = work.collectives
    line = wanted.port_limit_gbps or fabric.speed_mbps / 1000
    try:
        tcp = ceilings.tcp_goodput(line, fabric.mtu, tagged=fabric.vlan_mode == "tagged")
        roce = ceilings.roce_payload(line, contract.network.rdma.active_mtu)
        link = ceilings.pcie(gpu.pcie_generation, gpu.pcie_width)
        found = Limits(
            tcp, roce,
            {name: ceilings.busbw(name, roce if wanted.network == "IB" else tcp, ranks=ranks_of(contract),
                                  ranks_per_node=gpu.count, ports_per_node=wanted.ports_per_node,
                                  algorithm=wanted.algorithm) for name in ("all_reduce", *wanted.others)},
            ceilings.busbw_inside("all_reduce", link, ranks=max(gpu.count, 2)), link,
            ceilings.data_sheet("device memory, read and write", work.memcpy.peak_device_gbyte_s, "GB/s", gpu.name),
            ceilings.Ceiling("host memory, read and write", work.memcpy.peak_host_gbyte_s, "GB/s",
                             f"memory of {contract.host.model}: {work.memcpy.peak_host_gbyte_s:g} GB/s"),
            {dtype: ceilings.data_sheet(f"{dtype} peak", value, "TFLOP/s", gpu.name)
             for dtype, value in work.gemm.peak_tflops.items()},
        )
    except ValueError as error:
        raise ContractError(f"performance: no ceiling follows from the contract: {error}") from None
    for key, floor, ceiling in (
        ("collectives.target_busbw_gbyte_s", wanted.target_busbw_gbyte_s, found.collectives["all_reduce"]),
        ("memcpy.min_host_to_device_gbyte_s", work.memcpy.min_host_to_device_gbyte_s, link),
        ("memcpy.min_device_to_host_gbyte_s", work.memcpy.min_device_to_host_gbyte_s, link),
    ):
        if ceiling.exceeded(floor):
            raise ContractError(f"performance.{key}: {floor:g} GB/s is beyond what the contracted hardware can give: "
                                f"{ceiling.derivation}")
    return found
