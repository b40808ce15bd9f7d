"""An emulated machine: started, listened to on its serial line, ended by its process id."""

from __future__ import annotations

import contextlib
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.errors import LabError
from lab.vm.image import RESULT_MIB

MEMORY_MIB = 5120
MARK = "VM: "  # a job's lines with this mark are shown; all others go to the log only


class Machine:
    """One machine that runs `.vm/job` of its checkout disk and powers off."""

    def __init__(self, place: Path, work: Path, checkout: Path, *, memory_mib: int = MEMORY_MIB,
                 network: tuple[str, ...] = ("-nic", "none")) -> None:
        self.work = work
        self.result = work / "result.img"
        with self.result.open("wb") as file:
            file.truncate(RESULT_MIB << 20)
        drives = [word for image, snapshot in ((place / "base.img", "on"), (checkout, "on"), (self.result, "off"))
                  for word in ("-drive", f"file={image},if=virtio,format=raw,snapshot={snapshot}")]
        self.process = subprocess.Popen(
            ["nice", "-n", "19", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-cpu", "max",
             "-m", str(memory_mib), "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
             "-kernel", str(place / "vmlinuz"), "-initrd", str(place / "initrd.gz"),
             "-append", "console=ttyS0 quiet loglevel=3 net.ifnames=0 systemd.show_status=0", *drives, *network],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def follow(self, say: Callable[[str], None]) -> None:
        """Hand over the job's marked lines as they come, and keep everything in console.log; returns at its end."""
        assert self.process.stdout is not None
        with (self.work / "console.log").open("w") as log, self.process.stdout as stdout:
            for raw in stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                log.write(line + "\n")
                log.flush()
                if MARK in line:
                    say(line.partition(MARK)[2])

    def end(self) -> None:
        """Power off, by its process id."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def verdict(self, target: Path) -> int:
        """Unpack what the job wrote to its result disk, a tar archive, and return its exit code. Raises LabError."""
        try:
            with tarfile.open(self.result, "r:") as archive:
                archive.extractall(target, filter="data")
            return int((target / "vm" / "exit-code").read_text())
        except (tarfile.ReadError, OSError, ValueError):
            raise LabError(f"the machine left no result; see {self.work / 'console.log'}") from None


@contextlib.contextmanager
def running(machines: list[Machine], deadline_s: float, say: Callable[[str], None]) -> Iterator[None]:
    """All machines followed at once until the last has powered off; ended at the deadline, or when the caller fails.

    Raises LabError at the deadline.
    """
    threads = [threading.Thread(target=machine.follow, args=(say,), daemon=True) for machine in machines]
    for thread in threads:
        thread.start()
    until = time.monotonic() + deadline_s
    try:
        yield
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            raise LabError(f"not finished within {deadline_s / 60:.0f} minutes; see {machines[0].work}/console.log")
    finally:
        for machine in machines:
            machine.end()
