"""The lab's mock NVML, called through the real pynvml, and the nvidia-smi that sits on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.hardware import gpus
from lab.packages import LIBRARY, compile_nvml, compile_smi

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
ROOT = Path(__file__).parents[1]

# Runs in a process of its own: the loader reads LD_LIBRARY_PATH at start only. The program's value is what it prints.
PROLOGUE = """
import json, sys
import pynvml as n
def text(value):
    return value.decode() if isinstance(value, bytes) else value
def fails(call, *arguments):
    try:
        call(*arguments)
    except n.NVMLError as error:
        return [type(error).__name__, str(error)]
    return None
"""
Call = Callable[[str], Any]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    compile_nvml(folder / LIBRARY)
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.ini"
    path.write_text(gpus.healthy_state("gpu-node-03", 2))
    return path


@pytest.fixture
def environment(library: Path, state: Path) -> dict[str, str]:
    return os.environ | {"LD_LIBRARY_PATH": str(library), "LAB_GPU_STATE": str(state)}


@pytest.fixture
def evaluate(environment: dict[str, str]) -> Call:
    """Evaluates an expression with NVML initialised, `h` the third GPU's handle."""

    def call(expression: str) -> Any:
        program = f"{PROLOGUE}\nn.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(2)\nprint(json.dumps({expression}))"
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True,
                              timeout=30, check=True)
        return json.loads(done.stdout)

    return call


def change(state: Path, **values: object) -> None:
    """Set keys; a double underscore stands for the dot."""
    lines = [f"{key.replace('__', '.')} = {value}" for key, value in values.items()]
    state.write_text(state.read_text() + "\n".join(lines) + "\n")


HEALTHY: list[tuple[str, Any]] = [
    ("text(n.nvmlSystemGetDriverVersion())", "535.183.06"),
    ("text(n.nvmlSystemGetNVMLVersion())", "12.535.183.06"),
    ("n.nvmlSystemGetCudaDriverVersion()", 12020),
    ("n.nvmlSystemGetCudaDriverVersion_v2()", 12020),
    ("n.nvmlDeviceGetCount()", 4),
    ("text(n.nvmlDeviceGetName(h))", "NVIDIA A100-PCIE-40GB"),
    ("text(n.nvmlDeviceGetUUID(h))", gpus.gpu_uuid("gpu-node-03", 2)),
    ("text(n.nvmlDeviceGetSerial(h))", gpus.gpu_serial(2, 2)),
    ("text(n.nvmlDeviceGetVbiosVersion(h))", "92.00.25.00.08"),
    ("text(n.nvmlDeviceGetBoardPartNumber(h))", "900-21001-0000-000"),
    ("n.nvmlDeviceGetIndex(h)", 2),
    ("n.nvmlDeviceGetMinorNumber(h)", 2),
    ("n.nvmlDeviceGetMemoryInfo(h).total", 40960 << 20),
    ("n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).used", 4 << 20),
    ("text(n.nvmlDeviceGetPciInfo(h).busId)", "00000000:B1:00.0"),
    ("[n.nvmlDeviceGetPciInfo_v3(h).bus, hex(n.nvmlDeviceGetPciInfo_v3(h).pciDeviceId)]", [0xB1, "0x20f110de"]),
    ("n.nvmlDeviceGetEccMode(h)", [1, 1]),
    ("[n.nvmlDeviceGetTotalEccErrors(h, kind, span) for kind in (0, 1) for span in (0, 1)]", [0, 0, 0, 0]),
    ("n.nvmlDeviceGetRemappedRows(h)", [0, 0, 0, 0]),
    ("[n.nvmlDeviceGetCurrPcieLinkGeneration(h), n.nvmlDeviceGetMaxPcieLinkGeneration(h)]", [4, 4]),
    ("[n.nvmlDeviceGetCurrPcieLinkWidth(h), n.nvmlDeviceGetMaxPcieLinkWidth(h)]", [16, 16]),
    ("n.nvmlDeviceGetPcieReplayCounter(h)", 0),
    ("n.nvmlDeviceGetPersistenceMode(h)", 0),
    ("n.nvmlDeviceGetMigMode(h)", [0, 0]),
    ("[n.nvmlDeviceGetPowerManagementLimit(h), n.nvmlDeviceGetPowerManagementDefaultLimit(h)]", [250000, 250000]),
    ("n.nvmlDeviceGetPowerManagementLimitConstraints(h)", [150000, 250000]),
    ("n.nvmlDeviceGetEnforcedPowerLimit(h)", 250000),
    ("30000 < n.nvmlDeviceGetPowerUsage(h) < 40000", True),
    ("30 < n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU) < 40", True),
    ("30 < n.nvmlDeviceGetTemperatureV(h, n.NVML_TEMPERATURE_GPU) < 40", True),
    ("n.nvmlDeviceGetTemperatureThreshold(h, n.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)", 92),
    ("n.nvmlDeviceGetCurrentClocksThrottleReasons(h)", 1),
    ("n.nvmlDeviceGetCurrentClocksEventReasons(h)", 1),
    ("[n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM), n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_MEM)]", [210, 1215]),
    ("[n.nvmlDeviceGetUtilizationRates(h).gpu, n.nvmlDeviceGetPerformanceState(h)]", [0, 0]),
    ("[n.nvmlDeviceGetNvLinkState(h, link) for link in range(12)]", [0] * 12),
    ("n.nvmlDeviceGetComputeRunningProcesses(h)", []),
    ("n.nvmlDeviceGetGraphicsRunningProcesses(h)", []),
    ("n.nvmlDeviceGetCudaComputeCapability(h)", [8, 0]),
    ("n.nvmlDeviceGetComputeMode(h)", 0),
    ("n.nvmlDeviceGetTotalEnergyConsumption(h)", 0),
    ("[n.nvmlDeviceGetTopologyCommonAncestor(n.nvmlDeviceGetHandleByIndex(i), h) for i in range(4)]", [50, 50, 0, 40]),
    ("n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h).encode()))", 2),
    ("n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(b'00000000:31:00.0'))", 1),
    ("text(n.nvmlErrorString(15))", "GPU is lost"),
    ("fails(n.nvmlDeviceGetFanSpeed, h)[0]", "NVMLError_NotSupported"),
    ("fails(n.nvmlDeviceGetNumaNodeId, h)[0]", "NVMLError_NotSupported"),
    ("fails(n.nvmlDeviceGetHandleByIndex, 4)[0]", "NVMLError_InvalidArgument"),
    ("fails(n.nvmlDeviceGetNvLinkState, h, 12)[0]", "NVMLError_InvalidArgument"),
    ("fails(n.nvmlSystemGetProcessName, 1)[0]", "NVMLError_NotFound"),
    ("[n.nvmlShutdown(), fails(n.nvmlDeviceGetName, h)[0], fails(n.nvmlShutdown)[0]]",
     [None, "NVMLError_Uninitialized", "NVMLError_Uninitialized"]),
]


def test_healthy_gpus_answer_every_call(evaluate: Call) -> None:
    answers = evaluate("[" + ", ".join(expression for expression, _ in HEALTHY) + "]")
    wrong = [(expression, got, wanted) for (expression, wanted), got in zip(HEALTHY, answers, strict=True)
             if got != wanted]
    assert not wrong


def test_every_call_reads_the_state_afresh(evaluate: Call, state: Path) -> None:
    write = f"open({json.dumps(str(state))}, 'a').write('gpu2.pcie_replays = 7\\n') and None"
    counter = "n.nvmlDeviceGetPcieReplayCounter(h)"
    assert evaluate(f"[{counter}, {write}, {counter}]") == [0, None, 7]


@pytest.mark.parametrize(("key", "value", "expression", "expected"), [
    ("gpu2__temperature_c", 95, "n.nvmlDeviceGetTemperature(h, 0)", 95),
    ("gpu2__power_limit_w", 200.5, "n.nvmlDeviceGetPowerManagementLimit(h)", 200500),
    ("gpu2__throttle_reasons", 8, "n.nvmlDeviceGetCurrentClocksEventReasons(h)", 8),
    ("gpu2__nvlinks_active", 2, "[n.nvmlDeviceGetNvLinkState(h, link) for link in range(4)]", [1, 1, 0, 0]),
    ("gpu2__remap_pending", 1, "n.nvmlDeviceGetRemappedRows(h)", [0, 0, 1, 0]),
    ("gpu2__ecc_uncorrected_volatile", 3, "n.nvmlDeviceGetTotalEccErrors(h, 1, 0)", 3),
    ("gpu2__ecc_corrected_aggregate", 5, "n.nvmlDeviceGetTotalEccErrors(h, 0, 1)", 5),
    ("gpu2__ecc_pending", 0, "n.nvmlDeviceGetEccMode(h)", [1, 0]),
    ("gpu2__ecc_current", 0, "fails(n.nvmlDeviceGetTotalEccErrors, h, 1, 0)[0]", "NVMLError_NotSupported"),
    ("cuda_version", 11040, "n.nvmlSystemGetCudaDriverVersion()", 11040),
    ("count", 3, "n.nvmlDeviceGetCount()", 3),
    ("gpu2__memory_mib", "many", "fails(n.nvmlDeviceGetMemoryInfo, h)[0]", "NVMLError_Unknown"),
    ("gpu2__error__nvmlDeviceGetTemperature", 15, "fails(n.nvmlDeviceGetTemperature, h, 0)",
     ["NVMLError_GpuIsLost", "GPU is lost"]),
    ("gpu2__error__nvmlDeviceGetTemperature", 15, "n.nvmlDeviceGetUUID(h)[:4]", "GPU-"),
    ("gpu1__error__nvmlDeviceGetTemperature", 15, "fails(n.nvmlDeviceGetTemperature, h, 0)", None),
    ("error__nvmlDeviceGetMemoryInfo", 999, "fails(n.nvmlDeviceGetMemoryInfo, h)[0]", "NVMLError_Unknown"),
    ("error__nvmlSystemGetDriverVersion", 18, "fails(n.nvmlSystemGetDriverVersion)[0]",
     "NVMLError_LibRmVersionMismatch"),
    ("gpu1__error__nvmlDeviceGetHandleByIndex_v2", 15, "fails(n.nvmlDeviceGetHandleByIndex, 1)[0]",
     "NVMLError_GpuIsLost"),
])
def test_state_decides(evaluate: Call, state: Path, key: str, value: object, expression: str, expected: object) -> None:
    change(state, **{key: value})
    assert evaluate(expression) == expected


LISTING = ("[text(n.nvmlDeviceGetUUID(g)) + ' ' + str(n.nvmlDeviceGetIndex(g)) for g in "
           "map(n.nvmlDeviceGetHandleByIndex, range(n.nvmlDeviceGetCount()))]")


@pytest.mark.parametrize(("visible", "gpus_seen"), [
    (None, [0, 1, 2, 3]), ("all", [0, 1, 2, 3]), ("", []), ("void", []), ("none", []), ("GPU-other", []),
    ("{1}", [1]), ("{3},{0}", [0, 3]), ("2", [2]), ("{1},3", [1, 3]),
])
def test_a_container_sees_the_gpus_that_it_holds(environment: dict[str, str], visible: str | None,
                                                gpus_seen: list[int]) -> None:
    uuids = [gpus.gpu_uuid("gpu-node-03", gpu) for gpu in range(4)]
    if visible is not None:
        environment["NVIDIA_VISIBLE_DEVICES"] = visible.format(*uuids)
    others = f"[u for u in {uuids} if fails(n.nvmlDeviceGetHandleByUUID, u.encode())]"
    program = (f"{PROLOGUE}\nn.nvmlInit()\nprint(json.dumps([{LISTING}, {others}, "
               "(fails(n.nvmlDeviceGetHandleByIndex, n.nvmlDeviceGetCount()) or [None])[0]]))")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30,
                          check=True)
    assert json.loads(done.stdout) == [
        [f"{uuids[gpu]} {index}" for index, gpu in enumerate(gpus_seen)],
        [uuid for gpu, uuid in enumerate(uuids) if gpu not in gpus_seen], "NVMLError_InvalidArgument"]


def test_a_gpu_that_goes_is_lost_to_its_handle(evaluate: Call, state: Path) -> None:
    path = json.dumps(str(state))
    got = evaluate(f"[open({path}, 'a').write('count = 2\\n') and None, fails(n.nvmlDeviceGetName, h)[0]]")
    assert got == [None, "NVMLError_GpuIsLost"]


def test_processes_use_memory_and_have_names(evaluate: Call, state: Path) -> None:
    change(state, gpu2__processes="4242:python3:2048, 77:trtexec:16")
    got = evaluate("[[[p.pid, p.usedGpuMemory >> 20, text(n.nvmlSystemGetProcessName(p.pid))] for p in "
                   "n.nvmlDeviceGetComputeRunningProcesses(h)], n.nvmlDeviceGetMemoryInfo(h).used >> 20]")
    assert got == [[[4242, 2048, "python3"], [77, 16, "trtexec"]], 4 + 2048 + 16]


def test_persistence_mode_is_written_to_the_state(evaluate: Call, state: Path) -> None:
    assert evaluate("[n.nvmlDeviceSetPersistenceMode(h, 1), n.nvmlDeviceGetPersistenceMode(h)]") == [None, 1]
    assert "gpu2.persistence = 1" in state.read_text().splitlines()
    assert "gpu1.persistence = 0" in state.read_text().splitlines()


def test_without_a_state_there_is_no_driver(environment: dict[str, str], state: Path) -> None:
    state.unlink()
    program = PROLOGUE + "print(fails(n.nvmlInit)[0])"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30,
                          check=True)
    assert done.stdout.strip() == "NVMLError_DriverNotLoaded"


def test_hang_blocks_until_it_is_over(environment: dict[str, str], state: Path) -> None:
    change(state, hang=1)
    program = PROLOGUE + "print('begun', flush=True); n.nvmlInit(); print(n.nvmlDeviceGetCount())"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        change(state, hang=0)
        assert process.communicate(timeout=30)[0] == "4\n"


@pytest.fixture
def smi(
    library: Path, environment: dict[str, str], tmp_path: Path,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    program = tmp_path / "nvidia-smi"
    compile_smi(program, library / LIBRARY)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *arguments], env=environment, capture_output=True, text=True, timeout=30,
                              check=False)

    return run


def test_smi_answers_as_nvml(smi: Callable[..., subprocess.CompletedProcess[str]], state: Path) -> None:
    change(state, gpu2__error__nvmlDeviceGetTemperature=15)
    done = smi("--query-gpu=index,name,memory.total,uuid", "--format=csv,noheader")
    assert done.stdout.splitlines()[1] == (
        f"1, NVIDIA A100-PCIE-40GB, 40960 MiB, {gpus.gpu_uuid('gpu-node-03', 1)}")
    done = smi("--query-gpu=index,temperature.gpu,power.limit", "--format=csv,nounits", "-i", "2")
    assert done.stdout.splitlines() == ["index, temperature.gpu, power.limit", "2, [GPU is lost], 250.00"]
    assert smi("-L").stdout.startswith("GPU 0: NVIDIA A100-PCIE-40GB (UUID: GPU-")
    parsed = ElementTree.fromstring(smi("-q", "-x").stdout)
    assert [gpu.findtext("fb_memory_usage/total") for gpu in parsed.iter("gpu")] == ["40960 MiB"] * 4
    assert [width.text for width in parsed.iter("max_link_width")] == ["16"] * 4
    assert "No running processes found" in smi().stdout


def test_smi_shows_processes(smi: Callable[..., subprocess.CompletedProcess[str]], state: Path) -> None:
    change(state, gpu1__processes="4242:a<b&:2048")
    parsed = ElementTree.fromstring(smi("-q", "-x").stdout)
    assert [p.findtext("process_name") for p in parsed.iter("process_info")] == ["a<b&"]
    assert "4242  C  a<b&" in smi().stdout


def test_smi_sets_persistence(smi: Callable[..., subprocess.CompletedProcess[str]], state: Path) -> None:
    assert smi("-i", "1", "-pm", "1").stdout.splitlines() == [
        "Enabled persistence mode for GPU 00000000:31:00.0.", "All done."]
    assert "gpu1.persistence = 1" in state.read_text().splitlines()


def test_smi_refuses_what_it_does_not_know(smi: Callable[..., subprocess.CompletedProcess[str]], state: Path) -> None:
    assert smi("--query-gpu=wonders", "--format=csv").returncode == 1
    assert [smi(*words).returncode for words in (("-q",), ("topo",), ("-pm", "2"), ("--wonders",))] == [2] * 4
    state.unlink()
    done = smi("-L")
    assert done.returncode == 9
    assert "couldn't communicate with the NVIDIA driver" in done.stdout


def test_persistence_daemon(library: Path, environment: dict[str, str], state: Path, tmp_path: Path) -> None:
    daemon = tmp_path / "daemon"
    subprocess.run(["gcc", "-o", str(daemon), str(ROOT / "lab/gpu/persistenced.c"), str(library / LIBRARY)], check=True,
                   timeout=60)
    reader = PROLOGUE + (
        "import time\nn.nvmlInit()\nh = n.nvmlDeviceGetHandleByIndex(3)\n"
        "while n.nvmlDeviceGetPersistenceMode(h) != 1: time.sleep(0.01)\nprint('on')")
    with subprocess.Popen([str(daemon)], env=environment) as process:
        subprocess.run([sys.executable, "-c", reader], env=environment, timeout=30, check=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert state.read_text().count(".persistence = 0") == 4
