"""Workloads run for real, by Debian's torch over gloo on the loopback, and a fault in them where one is wanted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pynvml

from acceptance.measure.documents import documents_in
from lab.cluster import install
from lab.hardware import gpus
from lab.packages import LIBRARY, compile_nvml

ROOT = Path(__file__).parents[1]
PYTHON = "/usr/bin/python3"  # torch is Debian's: the package index's brings gigabytes of CUDA
TORCH = "python3-torch"  # 147 MB to fetch, 640 MB on the disk, a minute; only these tests need it
FAULTS = str(ROOT / "lab" / "workload_faults.py")
DEADLINE_S = 180

ALLREDUCE = "allreduce.py --device cpu --sizes 8 1K 4K --other-sizes 4 512 --repeats 3 --warmups 1 --operations 4"
GEMM = "gemm.py --device cpu --size 64 --repeats 3 --warmup-seconds 0 --multiplications 2"
MEMCPY = "memcpy.py --device cpu --bytes 64K --repeats 3 --copies 2"
DDP = ("ddp.py --device cpu --precision fp32 --layers 1 --width 32 --heads 2 --vocabulary 64 --sequence 16 --steps 12 "
       "--warmups 2 --learning-rate 0.01 --tflops 0.0001 --busbw 0.01")
BURNIN = "burnin.py --device cpu --dtype fp32 --size 64 --seconds 1 --iteration-seconds 0.3 --sample-seconds 0.1"
NODE = "gpu-node-03"


@cache
def python() -> str:
    """The Python that has torch, which is installed where it is not. Raises LabError."""
    install([TORCH])
    return PYTHON


def words(text: str) -> list[str]:
    """A workload and its arguments, the file with its whole path."""
    return [str(ROOT / "workloads" / word) if word.endswith(".py") else word for word in text.split()]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command(*more: str, ranks: int, pods: int = 1, pod: int = 0, port: int | None = None) -> list[str]:
    """torchrun as a pod calls it, on a port that is free."""
    return [python(), "-m", "torch.distributed.run", "--nnodes", str(pods), "--nproc_per_node", str(ranks),
            "--node_rank", str(pod), "--master_addr", "127.0.0.1", "--master_port", str(port or free_port()),
            "--redirects", "1", "--tee", "1", *more]


def environment(scratch: Path, **more: str) -> dict[str, str]:
    """What a pod would have set, and nothing of this process's own Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "NODE_NAME": NODE,
            "POD_NAME": "acceptance-0", **more}


def run(scratch: Path, *more: str, ranks: int = 2, **variables: str) -> subprocess.CompletedProcess[str]:
    """To its end. What torch prints when it is not there is the failure's text."""
    return subprocess.run(command(*more, ranks=ranks), env=environment(scratch, **variables), cwd=scratch, text=True,
                          capture_output=True, timeout=DEADLINE_S, check=False)


def run_pods(scratch: Path, pods: int, *more: str, ranks: int) -> list[tuple[int, str]]:
    """As several pods do: exit status and standard output of each."""
    port, running = free_port(), []
    for pod in range(pods):
        variables = environment(scratch, POD_NAME=f"acceptance-{pod}", NODE_NAME=f"gpu-node-{pod + 1:02}")
        running.append(subprocess.Popen(command(*more, ranks=ranks, pods=pods, pod=pod, port=port), env=variables,
                                        cwd=scratch, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    try:
        outputs = [each.communicate(timeout=DEADLINE_S)[0] for each in running]
        return [(each.returncode, output) for each, output in zip(running, outputs, strict=True)]
    finally:
        for each in running:
            if each.poll() is None:
                each.kill()


def printed(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The documents of a run that went well."""
    assert done.returncode == 0, done.stderr[-2000:]
    return documents_in(done.stdout)


def run_and_end(scratch: Path, ready: Callable[[], bool], end: Callable[[subprocess.Popen[str]], None],
                *more: str, ranks: int = 2) -> tuple[int, str]:
    """Until it is ready, then end it so; exit status and standard output."""
    with subprocess.Popen(command(*more, ranks=ranks), env=environment(scratch), cwd=scratch, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        try:
            limit = time.monotonic() + DEADLINE_S
            while not ready():
                assert running.poll() is None, "it ended by itself"
                assert time.monotonic() < limit, "it did not begin"
                time.sleep(0.1)
            end(running)
            output, _ = running.communicate(timeout=DEADLINE_S)
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGKILL)
    return running.returncode, output


def mock_nvml(folder: Path) -> dict[str, str]:
    """Variables with which a process has pynvml, and NVML with four GPUs."""
    compile_nvml(folder / LIBRARY)
    (folder / "state.ini").write_text(gpus.healthy_state(NODE, 2))
    (folder / "python").mkdir()
    (folder / "python" / "pynvml.py").symlink_to(Path(pynvml.__file__))
    return {"LD_LIBRARY_PATH": str(folder), "LAB_GPU_STATE": str(folder / "state.ini"),
            "PYTHONPATH": str(folder / "python"),
            "NVIDIA_VISIBLE_DEVICES": ",".join(gpus.gpu_uuid(NODE, slot) for slot in range(4))}
