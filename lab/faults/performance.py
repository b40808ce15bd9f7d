"""Faults of GPUs and network under load, which only workloads find: in a rank, on a port, or of the pods themselves.

Those of ranks are a file that the pod of a host reads, see `lab/workload_launch.py`; they act on the ranks of that
host, whichever global rank these have. Which GPU a local rank holds is the device plugin's and kubelet's choice.
"""

from __future__ import annotations

import json

from acceptance.collectors.kubernetes.workload_objects import FIRST
from lab.faults.base import CommandFault, Expect, Fault, FileFault
from lab.faults.kubectl import PERFORMANCE, SOUND, ClusterFault, may
from lab.faults.networking import SlowPort
from lab.images import PYTHON_NAMES
from lab.workload_files import FALLBACK_LOG, FAULT

GPU = "{host}/gpu*"
COPY_BYTES = "4194304"  # performance.memcpy.size of the lab's contract
ONE, EACH = ("--local-rank", "1"), ("--local-rank", "-1")
WORKLOADS = {**FIRST, "burn-in": "burnin"}  # by check, how it calls the workload itself, which left no document
IMAGE, KEPT = PYTHON_NAMES[0], "registry.lab.internal/kept:1"
IMAGES = "ctr -n k8s.io images"


def rank_fault(name: str, breaks: str, expects: tuple[Expect, ...], *words: str, alone: bool = False) -> FileFault:
    """Ranks of one host begin with a fault, as `lab/workload_faults.py` knows it by these words."""
    return FileFault(name, breaks, expects, phases=PERFORMANCE, path=FAULT, create=True, alone=alone,
                     change=lambda _: json.dumps(words) + "\n")


def at(subject: str, *checks: str) -> tuple[Expect, ...]:
    """Checks that must be red there."""
    return tuple(Expect(check, subject) for check in checks)


def without_document(*checks: str) -> tuple[Expect, ...]:
    """The host is named by each, and the workload itself, which wrote nothing, may be too."""
    return (*at("{host}", *checks), *may(*((check, WORKLOADS[check]) for check in checks)))


RANKS: tuple[Fault, ...] = (
    rank_fault("gemm-slow", "one GPU multiplies at a third of the rate", at(GPU, "gemm", "burn-in"),
               "slow-product", *ONE),
    # the burn-in compares some rows of the first product with float64, and may not see it
    rank_fault("gemm-wrong", "one GPU multiplies wrongly, always in the same way",
               (*at(GPU, "gemm"), *may(("burn-in", GPU))), "wrong-product", *ONE),
    rank_fault("burn-in-flips", "one product of a GPU is wrong, once", (*at(GPU, "burn-in"), *may(("gemm", GPU))),
               "flipped-product", *ONE, "--call", "9"),
    rank_fault("node-slow", "all GPUs of one node multiply at a third of the rate",
               (*at("{host}", "gemm", "burn-in"), *may(("gemm", GPU), ("burn-in", GPU))), "slow-product", *EACH),
    rank_fault("memcpy-slow", "one GPU copies at a third of the rate", at(GPU, "memcpy"),
               "slow-copy", *ONE, "--bytes", COPY_BYTES),
    rank_fault("memcpy-wrong", "copies of one GPU arrive changed", at(GPU, "memcpy"),
               "wrong-copy", *ONE, "--bytes", COPY_BYTES),
    rank_fault("reduction-corrupted", "large sums come out wrong on one GPU", at(GPU, "nccl-allreduce"),
               "corrupted-reduction", *ONE, "--bytes", "2097152"),
    rank_fault("rank-late", "one rank comes late to every collective", at(GPU, "nccl-allreduce"), "late", *ONE),
    rank_fault("replica-diverged", "one replica's parameters move away from the others'", at(GPU, "ddp-training"),
               "diverged-replica", *ONE),
    rank_fault("rank-killed", "one rank is killed in the middle of the collectives",
               without_document("nccl-allreduce", "ddp-training"), "killed", *ONE, "--call", "20", alone=True),
    rank_fault("socket-fallback", "the ranks of one node tell of NCCL over sockets",
               (*at("{host}", "nccl-allreduce"), *may(("nccl-allreduce", "cluster"))),
               "none", "--nccl-log", FALLBACK_LOG),
    rank_fault("nccl-log-missing", "the ranks of one node do not tell how they talk", at("{host}", "nccl-allreduce"),
               "none", "--nccl-log", ""),
)

RUNS: tuple[Fault, ...] = (
    # in a ring all wait for the slowest: which port it is, the bandwidth of pairs says
    SlowPort("port-quarter-rate", "one port sends at a quarter of the rate of the others",
             (Expect("nccl-allreduce", "all_reduce *"), *may(("ddp-training", "training"))), part=0.25, alone=True,
             fabric=True, target="gpu-node-05", phases=PERFORMANCE),
    ClusterFault("workload-unscheduled", "one node takes no pod of a workload", without_document(*WORKLOADS),
                 target="gpu-node-03", alone=True, phases=PERFORMANCE, inject_command="kubectl cordon {host}",
                 clear_command="kubectl uncordon {host}", mended=SOUND),
    CommandFault("workload-image-missing", "one node has not the image of the workloads, nor a way to get it",
                 without_document(*WORKLOADS), alone=True, phases=PERFORMANCE,
                 inject_command=f"{IMAGES} tag --force {IMAGE} {KEPT} && {IMAGES} rm {IMAGE}",
                 clear_command=f'[ -z "$({IMAGES} ls -q name=={KEPT})" ] || '
                               f"{{ {IMAGES} tag --force {KEPT} {IMAGE} && {IMAGES} rm {KEPT}; }}"),
)

FAULTS: tuple[Fault, ...] = (*RANKS, *RUNS)
