"""GPUs as NVML tells of them."""

from __future__ import annotations

from acceptance.facts.sections import Section


class GpuProcess(Section):
    """A compute process on a GPU. Memory is None where the driver does not tell."""

    pid: int
    name: str | None
    used_mib: int | None


class GpuFacts(Section):
    """One GPU. A value of None: that call failed, and `errors` says how, by field name.

    Bytes are mebibytes, watts are watts, `ecc_uncorrected_*` and `ecc_corrected_*` total counts, volatile since the
    driver was loaded and aggregate since the board was made. `throttle_reasons` is NVML's bit mask.
    """

    index: int
    uuid: str | None
    serial: str | None
    name: str | None
    memory_mib: int | None
    vbios: str | None
    pci_bus_id: str | None
    numa_node: int | None
    ecc_current: bool | None
    ecc_pending: bool | None
    ecc_uncorrected_volatile: int | None
    ecc_corrected_volatile: int | None
    ecc_uncorrected_aggregate: int | None
    ecc_corrected_aggregate: int | None
    remap_correctable: int | None
    remap_uncorrectable: int | None
    remap_pending: bool | None
    remap_failed: bool | None
    pcie_generation: int | None
    pcie_generation_max: int | None
    pcie_width: int | None
    pcie_width_max: int | None
    pcie_replays: int | None
    persistence: bool | None
    mig: bool | None
    power_limit_w: float | None
    power_default_limit_w: float | None
    power_w: float | None
    temperature_c: int | None
    throttle_reasons: int | None
    nvlinks_active: int | None
    processes: list[GpuProcess] | None
    errors: dict[str, str]

    @property
    def label(self) -> str:
        """Its name among the GPUs of its host: "gpu2"."""
        return f"gpu{self.index}"


class Nvml(Section):
    """The driver and its GPUs. `cuda` is the newest CUDA the driver supports, as "12.2"."""

    driver: str
    cuda: str
    gpus: list[GpuFacts]
