"""The lab as its users see it: hosts on which commands run, files are read and written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from acceptance.site.load import Site, load_site
from lab import network
from lab.errors import LabError
from lab.rootfs import cache_folder

ROOT = Path(__file__).parents[1]
SITE = Path(os.environ.get("LAB_SITE") or ROOT / "lab" / "site.yaml")
LDAP_PASSWORD = "validator-password"  # of the lab's own directory, which holds nothing
Command = str | Sequence[str]
Done = subprocess.CompletedProcess[str]


def home() -> Path:
    """Where the lab keeps its state: LAB_HOME or /var/lib/gpu-lab."""
    return Path(os.environ.get("LAB_HOME") or "/var/lib/gpu-lab")


def _words(command: Command) -> list[str]:
    return ["sh", "-euc", command] if isinstance(command, str) else list(command)


def _run(words: list[str], where: str, *, stdin: str | None, check: bool, timeout: float,
         env: dict[str, str] | None = None) -> Done:
    try:
        done = subprocess.run(words, input=stdin, text=True, capture_output=True, timeout=timeout, check=False, env=env,
                              errors="replace")
    except subprocess.TimeoutExpired:
        raise LabError(f"{where}: no end within {timeout:g} s: {words[-1][:200]}") from None
    if check and done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise LabError(f"{where}: exit status {done.returncode}: {last}")
    return done


@dataclass(frozen=True)
class Place:
    """Somewhere commands run: one of the lab's network namespaces, on the machine's own file system."""

    name: str

    def enter(self) -> list[str]:
        """The words that lead there, in front of a command."""
        return ["nsenter", f"--net=/run/netns/{network.namespace(self.name)}"]

    def environment(self) -> dict[str, str] | None:
        """The environment of commands; None is this process's own."""
        return None

    def run(self, command: Command, *, stdin: str | None = None, check: bool = True, timeout: float = 60) -> Done:
        """Run a command there as root; a string is given to `sh -eu`. Raises LabError when `check` and it fails."""
        return _run([*self.enter(), *_words(command)], self.name, stdin=stdin, check=check, timeout=timeout,
                    env=self.environment())


@dataclass(frozen=True)
class Operator(Place):
    """The operator's host: the machine's own file system, the lab's network and names, no route out."""

    def enter(self) -> list[str]:
        operator = home() / "operator"
        script = (f"mount --bind {operator}/hosts /etc/hosts && mount --bind {operator}/resolv.conf "
                  '"$(readlink -f /etc/resolv.conf)" && exec "$@"')
        return [*super().enter(), "unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh"]

    def environment(self) -> dict[str, str]:
        path = [home() / "operator" / "bin", Path(sys.executable).parent, cache_folder() / "bin"]
        return os.environ | {
            "PATH": ":".join([*map(str, path), os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")]),
            "ACCEPTANCE_SITE": str(SITE), "ACCEPTANCE_LDAP_PASSWORD": LDAP_PASSWORD,
            "KUBECONFIG": str(home() / "operator" / "admin.conf"),
        }


@dataclass(frozen=True)
class LabHost(Place):
    """One systemd host."""

    def pid(self) -> int | None:
        """The process id of its systemd, or None when it is not running."""
        try:
            outer = int((home() / "hosts" / self.name / "pid").read_text())
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        except (OSError, ValueError):
            return None
        return int(children[0]) if children else None

    def enter(self) -> list[str]:
        pid = self.pid()
        if pid is None:
            raise LabError(f"{self.name} is not running; run `python -m lab up`")
        return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]

    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}

    def read(self, path: str) -> str:
        """A file's text."""
        return self.run(["cat", path]).stdout

    def write(self, path: str, text: str) -> None:
        """Write a file in place: what is mounted or watched there sees the new content."""
        self.run(f"cat > '{path}'", stdin=text)

    def append(self, path: str, text: str) -> None:
        """Add to a file's end."""
        self.run(f"cat >> '{path}'", stdin=text)


@dataclass(frozen=True)
class Lab:
    """The running lab."""

    site: Site = field(repr=False)

    @classmethod
    def open(cls) -> Lab:
        """The lab that is up. Raises LabError when it is not."""
        lab = cls(load_site(SITE))
        if any(lab.host(name).pid() is None for name in lab.nodes):
            raise LabError("the lab is not up; run `python -m lab up`")
        return lab

    @property
    def home(self) -> Path:
        """Where the lab keeps its state."""
        return home()

    @cached_property
    def nodes(self) -> list[str]:
        """All hosts of the inventory."""
        return [host.name for host in self.site.hosts]

    @cached_property
    def gpu_nodes(self) -> list[str]:
        """The hosts with GPUs."""
        return [host.name for host in self.site.group("gpu_nodes")]

    def host(self, name: str) -> LabHost:
        """One host."""
        return LabHost(name)

    def address(self, name: str) -> str:
        """A host's address."""
        return self.site.host(name).address

    def port(self, name: str) -> str:
        """A host's port on the switch."""
        return network.switch_port(name)

    @property
    def ops(self) -> Operator:
        """The operator's host."""
        return Operator("operator")

    @property
    def services(self) -> Place:
        """Where directory, time server and package mirror run."""
        return Place("services")

    @property
    def fabric(self) -> Place:
        """The switch."""
        return Place("fabric")
