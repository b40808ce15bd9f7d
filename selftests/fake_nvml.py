"""NVML without a GPU or a library: calls that fail on demand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As in pynvml: base of all its errors."""


class FunctionNotFound(NVMLError):
    """The library has no such function."""


class InvalidArgument(NVMLError):
    """A number that names nothing."""


class NotSupported(NVMLError):
    """The board cannot do it."""


VALUES: dict[str, Any] = {
    "HandleByIndex": "h", "UUID": b"GPU-1", "Serial": "S", "Name": "A100", "VbiosVersion": "92",
    "MemoryInfo": SimpleNamespace(total=40960 << 20), "PciInfo": SimpleNamespace(busId=b"00000000:17:00.0"),
    "EccMode": [1, 0], "TotalEccErrors": 0, "RemappedRows": (1, 0, 1, 0), "CurrPcieLinkGeneration": 4,
    "MaxPcieLinkGeneration": 4, "CurrPcieLinkWidth": 16, "MaxPcieLinkWidth": 16, "PcieReplayCounter": 0,
    "PersistenceMode": 1, "MigMode": [0, 0], "PowerManagementLimit": 250000, "PowerManagementDefaultLimit": 250000,
    "PowerUsage": 40123, "Temperature": 35, "CurrentClocksThrottleReasons": 1, "NvLinkState": 0,
    "ComputeRunningProcesses": [SimpleNamespace(pid=1, usedGpuMemory=None)],
}


class FakeNvml:
    """pynvml with one GPU. `broken` are errors by the name of the call without "nvmlDeviceGet"."""

    NVMLError = NVMLError
    NVMLError_FunctionNotFound = FunctionNotFound
    NVMLError_InvalidArgument = InvalidArgument
    NVMLError_NotSupported = NotSupported
    NVML_NVLINK_MAX_LINKS, NVML_FEATURE_ENABLED, NVML_TEMPERATURE_GPU = 4, 1, 0
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_VOLATILE_ECC, NVML_AGGREGATE_ECC = 0, 1

    def __init__(self, **broken: Exception) -> None:
        self.broken = broken

    def __getattr__(self, name: str) -> Callable[..., Any]:
        key = name.removeprefix("nvmlDeviceGet")

        def call(*_: Any) -> Any:
            if key in self.broken:
                raise self.broken[key]
            if key not in VALUES:
                raise FunctionNotFound("Function Not Found")
            return VALUES[key]

        return call
