"""`python -m lab.vm [lab | rdma]`: the lab on Debian's own kernel, and RDMA between two machines with soft RoCE.

Software emulation of two processors: everything takes about ten times as long as on the machine itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from lab.errors import LabError
from lab.hosts import ROOT
from lab.vm import image
from lab.vm.machine import Machine, running

JOBS = Path(__file__).parent / "jobs"
REPORTS = ROOT / "reports" / "vm"
LAB_DEADLINE_S, RDMA_DEADLINE_S = 7200, 2400


def say(text: str) -> None:
    """One line of progress, with the time of day."""
    print(f"vm: {time.strftime('%H:%M:%S')} {text}", flush=True)


def run_lab() -> int:
    """The lab inside one machine; its exit code."""
    place, work = image.prepare(), _work("lab")
    say("the lab on Debian's kernel, about 30 minutes")
    machine = Machine(place, work, image.checkout(work, {"job": (JOBS / "lab.sh").read_text()}))
    with running([machine], LAB_DEADLINE_S, say):
        pass
    return machine.verdict(work)


def run_rdma() -> int:
    """Two machines with soft RoCE between them, the first also the operator's; the exit code."""
    place, work = image.prepare(), _work("rdma")
    say("RDMA between two machines, about 10 minutes")
    keys = _keys(work)
    machines = []
    ports = [_free_port() for _ in range(2)]
    for number, job in ((1, "rdma-operator.sh"), (2, "rdma-peer.sh")):
        folder = work / f"machine-{number}"
        folder.mkdir()
        files = {**keys, "job": (JOBS / job).read_text(), "setup": (JOBS / "rdma-setup.sh").read_text()}
        network = [word for index, port in enumerate(ports) for word in (
            "-netdev", f"socket,id=n{index},{'listen' if number == 1 else 'connect'}=127.0.0.1:{port}",
            "-device", f"virtio-net-pci,netdev=n{index},mac=52:54:00:00:0{index}:0{number}")]
        machines.append(Machine(place, folder, image.checkout(folder, files), memory_mib=1536, network=tuple(network)))
    with running(machines, RDMA_DEADLINE_S, say):
        pass
    return machines[0].verdict(work)


def _keys(work: Path) -> dict[str, str]:
    """The operator's key pair, the host key of both machines, and the host key pinned."""
    for name in ("operator_key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(work / name)], check=True)
    kind, blob, *_ = (work / "host_key.pub").read_text().split()
    return {
        "operator_key": (work / "operator_key").read_text(), "operator.pub": (work / "operator_key.pub").read_text(),
        "host_key": (work / "host_key").read_text(),
        "known_hosts": "".join(f"10.99.1.{n},rdma-node-0{n} {kind} {blob}\n" for n in (1, 2)),
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _work(name: str) -> Path:
    work = REPORTS / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


PARTS = {"lab": run_lab, "rdma": run_rdma}


def main(arguments: list[str]) -> int:
    """Run the named parts, or all of them; 0 when all succeeded."""
    parser = argparse.ArgumentParser(prog="python -m lab.vm", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="lab or rdma; both if left out")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise LabError("file systems of other users are made here, which needs root; run it with sudo")
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        raise LabError(f"expected {' or '.join(PARTS)}, found {unknown[0]!r}")
    worst = 0
    for name in options.parts or PARTS:
        code = PARTS[name]()
        say(f"{name}: {'as it should be' if code == 0 else 'NOT as it should be'}; see {REPORTS / name}")
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as error:
        print(f"vm: {error}", file=sys.stderr)
        sys.exit(4)
