"""The lab's central services, in a namespace of their own: time, names and packages; see also `directory`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from lab import cgroup, network
from lab.detached import start_detached
from lab.errors import LabError
from lab.hosts import home


def folder() -> Path:
    """Where the services keep their files."""
    return home() / "services"


def start_time_and_packages() -> None:
    """Start the time server, the package mirror and the name server, where they do not run yet."""
    cgroup.create("services")
    folder().mkdir(parents=True, exist_ok=True)
    start("chronyd", ["chronyd", "-x", "-n", "-f", str(_time_config())])
    start("apt", ["python3", "-m", "http.server", "80", "--bind", network.SERVICES[1], "--directory",
                  str(folder() / "apt")])
    # the hosts file is all that it knows; every other name does not exist
    start("dnsmasq", ["dnsmasq", "-k", "-C", "/dev/null", "-u", "root", "--no-resolv", "--address=/#/",
                      f"--listen-address={network.SERVICES[1]}", "--bind-interfaces", "--pid-file="])


def start(name: str, command: list[str]) -> None:
    """Start a service unless it runs; its process id is kept in a file."""
    pid_file = folder() / f"{name}.pid"
    if pid_file.exists() and Path(f"/proc/{pid_file.read_text()}").exists():
        return
    # private mount namespace: the lab's names, without touching the machine's own
    script = f'mount --bind {home()}/operator/hosts /etc/hosts && mkdir -p /run/chrony && exec "$@"'
    start_detached(
        ["nsenter", f"--net=/run/netns/{network.namespace('services')}", "unshare", "-m", "--propagation", "slave",
         "sh", "-c", script, "sh", *command],
        group="services", pid_file=pid_file, log=folder() / f"{name}.log")


def stop(name: str) -> None:
    """End one service by its process id."""
    file = folder() / f"{name}.pid"
    if not file.exists():
        return
    pid = int(file.read_text())
    try:
        os.kill(pid, signal.SIGTERM)
        wait(name, lambda: not _alive(pid))
    except (ProcessLookupError, FileNotFoundError):
        pass
    file.unlink()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait(name: str, ready: Callable[[], bool], deadline_s: float = 15.0) -> None:
    """Until `ready`. Raises LabError after `deadline_s`."""
    until = time.monotonic() + deadline_s
    while not ready():
        if time.monotonic() > until:
            raise LabError(f"{name}: no change within {deadline_s:g} s; see {folder() / name}.log")
        time.sleep(0.05)


def _time_config() -> Path:
    path = folder() / "chrony.conf"
    path.write_text(f"local stratum 3\nallow 10.100.0.0/24\nbindaddress {network.SERVICES[1]}\ncmdport 0\n"
                    f"pidfile {folder() / 'chronyd-own.pid'}\nbindcmdaddress /\n")
    return path
