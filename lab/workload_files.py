"""What the lab lays on its GPU hosts for workloads: how they are started, and what stands for NCCL's debug log.

A pod of a workload mounts the folder, beside the host's own torch. Faults write one more file into it.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
FOLDER = "/var/lib/lab-workload"
FAULT = f"{FOLDER}/fault.json"
FALLBACK_LOG = f"{FOLDER}/fallback.log"

# gloo, which is what the lab has, logs nothing: each rank says itself what it was told to use
_COLLECTIVES = """# a stand-in of the lab's own, laid by it: gloo writes no debug log, as NCCL does
{host}:{pid}:{pid} [{local_rank}] GLOO INFO rank {rank} nranks {ranks} via TCP/{interface}
"""
# what a rank of NCCL would log that found no RDMA device, after NVIDIA/nccl src/transport/net.cc and src/init.cc
_FALLBACK = "# a stand-in of the lab's own, laid by it: no NCCL ran here\n" + "".join(
    f"{{host}}:{{pid}}:{{pid}} [{{local_rank}}] NCCL INFO {text}\n" for text in (
        "NET/IB : No device found.",
        "NET/Socket : Using [0]{interface}:10.244.0.2<0>",
        "Using network Socket",
        "Channel 00/0 : {rank}[{local_rank}] -> {next_rank}[0] [send] via NET/Socket/0",
        "Connected all rings, use ring PXN 0 GDR 0",
        "ncclCommInitRank comm 0x55810000 rank {rank} nranks {ranks} cudaDev {local_rank} nvmlDev {local_rank} "
        "busId 17000 commId 0xd9f2a1 - Init COMPLETE"))


def files() -> dict[str, str]:
    """Their texts by name."""
    return {"launch.py": (HERE / "workload_launch.py").read_text(encoding="utf-8"),
            "workload_faults.py": (HERE / "workload_faults.py").read_text(encoding="utf-8"),
            "collectives.log": _COLLECTIVES, "fallback.log": _FALLBACK}
