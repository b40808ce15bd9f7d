"""GPUs through NVML and through nvidia-smi, and where they sit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from acceptance.errors import Unmeasured
from acceptance.probe.parse import gpu as parse
from acceptance.probe.parse import integer
from acceptance.probe.run import Context, names_in, read
from acceptance.probe.sections.network import NET, numa_node

PCI = "/sys/bus/pci/devices"
MIB = 1 << 20


def nvml(_: Context) -> dict[str, Any]:
    import pynvml  # slow to compile, and only this section needs it

    try:
        pynvml.nvmlInit()
        driver, cuda = text(pynvml.nvmlSystemGetDriverVersion()), pynvml.nvmlSystemGetCudaDriverVersion_v2()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        raise Unmeasured(f"NVML: {error}") from None
    gpus = [Gpu(pynvml, index).facts() for index in range(count)]
    return {"driver": driver, "cuda": parse.cuda_version(cuda), "gpus": gpus}


def text(value: Any) -> str:
    """NVML's texts are bytes in older bindings."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class Gpu:
    """Reads one GPU; every call that fails leaves None and its reason."""

    def __init__(self, library: Any, index: int) -> None:
        self.library, self.index = library, index
        self.errors: dict[str, str] = {}

    def get(self, name: str, call: Callable[[], Any]) -> Any:
        """What a call returns, or None with NVML's reason noted."""
        try:
            return call()
        except self.library.NVMLError as error:
            self.errors[name] = f"NVML: {error}"
        except Unmeasured as error:
            self.errors[name] = str(error)
        return None

    def facts(self) -> dict[str, Any]:
        n = self.library
        handle = self.get("handle", lambda: n.nvmlDeviceGetHandleByIndex(self.index))
        facts: dict[str, Any] = {"index": self.index}
        for name, call in _calls(n, handle).items():
            facts[name] = None if handle is None else self.get(name, call)
        for name, parts in _SPLIT.items():
            values = facts.pop(name)
            for position, part in enumerate(parts):
                facts[part] = None if values is None else values[position]
                if values is None and name in self.errors:
                    self.errors[part] = self.errors[name]
        bus_id = facts["pci_bus_id"]
        facts["numa_node"] = bus_id and self.get("numa_node", lambda: _numa_of(parse.sysfs_address(bus_id)))
        return {**facts, "errors": self.errors}


_SPLIT = {
    "ecc_mode": ("ecc_current", "ecc_pending"),
    "remapped": ("remap_correctable", "remap_uncorrectable", "remap_pending", "remap_failed"),
}


def _calls(n: Any, h: Any) -> dict[str, Callable[[], Any]]:
    """What is read of a GPU, by field. `n` is pynvml, `h` the GPU's handle."""
    def errors(kind: int, counter: int) -> Callable[[], Any]:
        return lambda: n.nvmlDeviceGetTotalEccErrors(h, kind, counter)

    corrected, uncorrected = n.NVML_MEMORY_ERROR_TYPE_CORRECTED, n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    return {
        "uuid": lambda: text(n.nvmlDeviceGetUUID(h)), "serial": lambda: text(n.nvmlDeviceGetSerial(h)),
        "name": lambda: text(n.nvmlDeviceGetName(h)), "vbios": lambda: text(n.nvmlDeviceGetVbiosVersion(h)),
        "memory_mib": lambda: n.nvmlDeviceGetMemoryInfo(h).total // MIB,
        "pci_bus_id": lambda: text(n.nvmlDeviceGetPciInfo(h).busId),
        "ecc_mode": lambda: [mode == 1 for mode in n.nvmlDeviceGetEccMode(h)],
        "ecc_uncorrected_volatile": errors(uncorrected, n.NVML_VOLATILE_ECC),
        "ecc_corrected_volatile": errors(corrected, n.NVML_VOLATILE_ECC),
        "ecc_uncorrected_aggregate": errors(uncorrected, n.NVML_AGGREGATE_ECC),
        "ecc_corrected_aggregate": errors(corrected, n.NVML_AGGREGATE_ECC),
        "remapped": lambda: _remapped(*n.nvmlDeviceGetRemappedRows(h)),
        "pcie_generation": lambda: n.nvmlDeviceGetCurrPcieLinkGeneration(h),
        "pcie_generation_max": lambda: n.nvmlDeviceGetMaxPcieLinkGeneration(h),
        "pcie_width": lambda: n.nvmlDeviceGetCurrPcieLinkWidth(h),
        "pcie_width_max": lambda: n.nvmlDeviceGetMaxPcieLinkWidth(h),
        "pcie_replays": lambda: n.nvmlDeviceGetPcieReplayCounter(h),
        "persistence": lambda: n.nvmlDeviceGetPersistenceMode(h) == 1,
        "mig": lambda: n.nvmlDeviceGetMigMode(h)[0] != 0,
        "power_limit_w": lambda: n.nvmlDeviceGetPowerManagementLimit(h) / 1000,
        "power_default_limit_w": lambda: n.nvmlDeviceGetPowerManagementDefaultLimit(h) / 1000,
        "power_w": lambda: n.nvmlDeviceGetPowerUsage(h) / 1000,
        "temperature_c": lambda: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
        "throttle_reasons": lambda: _throttle_reasons(n, h),
        "nvlinks_active": lambda: _nvlinks(n, h), "processes": lambda: _processes(n, h),
    }


def _remapped(correctable: int, uncorrectable: int, pending: int, failed: int) -> tuple[int, int, bool, bool]:
    return correctable, uncorrectable, pending != 0, failed != 0


def _throttle_reasons(n: Any, h: Any) -> Any:
    try:
        return n.nvmlDeviceGetCurrentClocksThrottleReasons(h)
    except n.NVMLError_FunctionNotFound:  # the name was changed in driver 535; either may be gone
        return n.nvmlDeviceGetCurrentClocksEventReasons(h)


def _nvlinks(n: Any, h: Any) -> int:
    """Active NVLinks; 0 on a board that has none. NVML refuses link numbers above the last."""
    active = 0
    for link in range(n.NVML_NVLINK_MAX_LINKS):
        try:
            active += n.nvmlDeviceGetNvLinkState(h, link) == n.NVML_FEATURE_ENABLED
        except (n.NVMLError_InvalidArgument, n.NVMLError_NotSupported):
            break
    return active


def _processes(n: Any, h: Any) -> list[dict[str, Any]]:
    return [
        {"pid": process.pid, "name": _process_name(n, process.pid),
         "used_mib": None if process.usedGpuMemory is None else process.usedGpuMemory // MIB}
        for process in n.nvmlDeviceGetComputeRunningProcesses(h)
    ]


def _process_name(n: Any, pid: int) -> str | None:
    try:
        return text(n.nvmlSystemGetProcessName(pid))
    except n.NVMLError:
        path = f"/proc/{pid}/comm"
        return read(path).strip() if os.path.exists(path) else None


def _numa_of(address: str) -> int:
    return integer(read(f"{PCI}/{address}/numa_node"), f"{address}: NUMA node")


def nvidia_smi(context: Context) -> dict[str, Any]:
    query = ["nvidia-smi", "--query-gpu=index,name,memory.total,uuid", "--format=csv,noheader"]
    return {"gpus": parse.smi_gpus(context.run(query))}


def topology(_: Context) -> dict[str, Any]:
    nics = {name: numa_node(f"{NET}/{name}") for name in names_in(NET)}
    gpus = {parse.nvml_bus_id(address): _numa_of(address) for address in names_in(PCI) if _is_nvidia_gpu(address)}
    return {"gpus": gpus, "nics": {name: node for name, node in nics.items() if node is not None}}


def _is_nvidia_gpu(address: str) -> bool:
    """Vendor 10de and class 03xx, a display controller; other functions of the board are audio and USB."""
    return read(f"{PCI}/{address}/vendor").strip() == "0x10de" and read(f"{PCI}/{address}/class").startswith("0x03")


