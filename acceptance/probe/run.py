"""Reading files and running programs on the node: every failure is told, nothing has a default."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from acceptance.errors import Unmeasured

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Context:
    """What a section may use: the parameters sent along, and when it must be done."""

    def __init__(self, parameters: dict[str, Any], limit_s: float) -> None:
        self.parameters = parameters
        self.factor = float(parameters.get("deadline_factor", 1))  # of the limits of single programs
        self.deadline = time.monotonic() + limit_s
        self.environment = dict(os.environ, PATH=PATH, LC_ALL="C", LANG="C")

    def run(self, argv: Sequence[str], limit_s: float = 60.0, accept: Sequence[int] = (0,)) -> str:
        """Standard output of a program. Raises Unmeasured: not found, another exit status, no answer in time."""
        name = argv[0]
        program = find(name)
        if program is None:
            raise Unmeasured(f"{name}: command not found")
        # a little before the section's own end, so that the reason names the program
        limit_s = max(0.1, min(limit_s * self.factor, self.deadline - time.monotonic() - 0.3))
        process = subprocess.Popen(
            [program, *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.environment, cwd="/", start_new_session=False,
        )
        try:
            output, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=0.2)
            raise Unmeasured(f"{name}: no answer within {limit_s:.1f} s") from None
        if process.returncode not in accept:
            said = " ".join((errors or output).decode("utf-8", "backslashreplace").split())[:300]
            raise Unmeasured(f"{name}: exit status {process.returncode}: {said or 'said nothing'}")
        return output.decode("utf-8", "backslashreplace")


def find(name: str) -> str | None:
    """The program's path in the directories where system programs are, or None."""
    candidates = [os.path.join(folder, name) for folder in PATH.split(":")]
    return next((path for path in candidates if os.access(path, os.X_OK) and os.path.isfile(path)), None)


def read(path: str) -> str:
    """A file's text. Raises Unmeasured with the system's reason."""
    return read_bytes(path).decode("utf-8", "backslashreplace")


def read_bytes(path: str) -> bytes:
    """A file's bytes. Raises Unmeasured with the system's reason."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Unmeasured(f"{path}: {error.strerror or error}") from None


def names_in(path: str) -> list[str]:
    """Names in a directory, sorted. Raises Unmeasured with the system's reason."""
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        raise Unmeasured(f"{path}: {error.strerror or error}") from None
