"""What a fault is, and the kinds of faults that most are.

A fault acts on the real thing inside a host (a sysctl, a unit, a route, a file that a program reads), never on the
suite. It declares which checks it must turn red and which subjects they must name; `lab.prove` compares both ways.
What is needed to clear it is kept on disk, so that another process can.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lab.hosts import Lab
from lab.network import PORT

Change = Callable[[str], str]

NET = f"/sys/class/net/{PORT}"
# the kernel counts link changes since boot and nothing resets it, so the simulated sysfs hides those of faults;
# it forgets the routes through a port that goes down, which a server's network configuration would bring back
PORT_DOWN = (f"cat {NET}/carrier_changes > /run/lab-carrier; ip route show default > /run/lab-route; "
             f"ip link set {PORT} down")
PORT_UP = (f"ip link set {PORT} up; [ ! -e /run/lab-carrier ] || {{ xargs -r ip route replace < /run/lab-route; "
           f"cat /run/lab-carrier > {NET}/carrier_changes; rm /run/lab-carrier; }}")


@dataclass(frozen=True)
class Expect:
    """One check that must turn red, and a pattern that every red subject of it must match.

    `{host}` in a pattern stands for the target. A `required` of False is a consequence that may show or not.
    """

    check: str
    subject: str = "{host}"
    required: bool = True

    def covers(self, check: str, subject: str, host: str) -> bool:
        """Whether a red finding of this check and subject is one that the fault announced."""
        pattern = self.subject.replace("{host}", host)
        return fnmatchcase(check, self.check) and fnmatchcase(subject, pattern)


@dataclass(frozen=True)
class Fault(ABC):
    """A named defect. `alone` ones change so much that no other fault may be injected beside them.

    `fabric` ones change what passes between hosts: not beside another such, nor beside a host that is cut off.

    `refusal` marks a defect of what the user wrote: no gate is run at all, exit code 4, and the one line of the error
    contains this text.

    `phases` is the pytest marks of the gates that judge it: such with other marks are proven in other runs.
    """

    name: str
    breaks: str
    expects: tuple[Expect, ...]
    target: str = "gpu-node-03"
    alone: bool = False
    fabric: bool = False
    refusal: str = ""
    phases: str = "phase1 or phase2"

    @abstractmethod
    def inject(self, lab: Lab, target: str) -> None:
        """Break it on `target`; raises LabError when that is not possible."""

    @abstractmethod
    def clear(self, lab: Lab, target: str) -> None:
        """Mend what `inject` broke; harmless when nothing is broken."""


@dataclass(frozen=True)
class CommandFault(Fault):
    """Injected and cleared by a shell command inside the host; `{host}` stands for the target."""

    inject_command: str = ""
    clear_command: str = ""

    def inject(self, lab: Lab, target: str) -> None:
        lab.host(target).run(self.inject_command.replace("{host}", target))

    def clear(self, lab: Lab, target: str) -> None:
        lab.host(target).run(self.clear_command.replace("{host}", target))


@dataclass(frozen=True)
class FileFault(Fault):
    """Changes a file inside the host, then runs `after` there; clearing puts the old content back.

    A file that did not exist is removed again. `create` permits a file that is not there yet.
    """

    path: str = ""
    change: Change = str
    after: str = ""
    create: bool = False

    def inject(self, lab: Lab, target: str) -> None:
        host = lab.host(target)
        exists = host.run(["test", "-e", self.path], check=False).returncode == 0
        if not exists and not self.create:
            raise FileNotFoundError(f"{target}: fault {self.name}: there is no {self.path} to change")
        old = host.read(self.path) if exists else None
        saved = _saved(lab, self.name, target)
        if not saved.exists():
            saved.parent.mkdir(parents=True, exist_ok=True)
            saved.write_text(json.dumps(old))
        new = self.change(old or "")
        if new == old:
            raise ValueError(f"{target}: fault {self.name} changes nothing in {self.path}")
        host.write(self.path, new)
        if self.after:
            host.run(self.after)

    def clear(self, lab: Lab, target: str) -> None:
        saved = _saved(lab, self.name, target)
        if not saved.exists():
            return
        host, old = lab.host(target), json.loads(saved.read_text())
        if old is None:
            host.run(["rm", "-f", self.path])
        else:
            host.write(self.path, old)
        if self.after:
            host.run(self.after)
        saved.unlink()


def _saved(lab: Lab, fault: str, target: str) -> Path:
    return lab.home / "faults" / f"{fault}@{target}.json"


def line_set(key: str, value: str) -> Change:
    """A change of `key = value` files: sets the key, adding the line where it is not there."""

    def change(text: str) -> str:
        kept = [line for line in text.splitlines() if line.split("=")[0].strip() != key]
        return "\n".join([*kept, f"{key} = {value}"]) + "\n"

    return change


def chain(*changes: Change) -> Change:
    """One change after the other."""

    def change(text: str) -> str:
        for one in changes:
            text = one(text)
        return text

    return change
