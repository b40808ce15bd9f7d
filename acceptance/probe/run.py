"""Reading files and running programs on the node: every failure is told, nothing has a default."""

from __future__ import annotations

import os
import select
import signal
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
        deadline = time.monotonic() + limit_s
        try:
            code, output, errors = _run(program, argv, self.environment, deadline)
        except TimeoutError:
            raise Unmeasured(f"{name}: no answer within {limit_s:.1f} s") from None
        except OSError as error:
            raise Unmeasured(f"{name}: cannot be started: {error.strerror}") from None
        if code not in accept:
            said = " ".join((errors or output).decode("utf-8", "backslashreplace").split())[:300]
            raise Unmeasured(f"{name}: exit status {code}: {said or 'said nothing'}")
        return output.decode("utf-8", "backslashreplace")


def _run(program: str, argv: Sequence[str], environment: dict[str, str], deadline: float) -> tuple[int, bytes, bytes]:
    """Exit status (of a signal: negative), output and errors. Raises TimeoutError; the program is killed then.

    Not by subprocess, whose import and start of a program would cost a node more than most programs do.
    """
    output, errors = os.pipe(), os.pipe()
    reading, writing = (output[0], errors[0]), (output[1], errors[1])
    try:
        try:
            files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                     *((os.POSIX_SPAWN_DUP2, pipe, number) for number, pipe in enumerate(writing, start=1))]
            # Python itself ignores these two signals, and programs would inherit that
            pid = os.posix_spawn(program, list(argv), environment, file_actions=files,
                                 setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
        finally:
            for pipe in writing:
                os.close(pipe)
        try:
            told = _read_all(reading, deadline)
            return (_exit_status(pid, deadline), *told)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
    finally:
        for pipe in reading:
            os.close(pipe)


def _read_all(pipes: tuple[int, int], deadline: float) -> tuple[bytes, bytes]:
    parts: dict[int, list[bytes]] = {pipe: [] for pipe in pipes}
    waiting = list(pipes)
    while waiting:
        ready = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready or time.monotonic() > deadline:  # a program may also print without end
            raise TimeoutError
        for pipe in ready:
            data = os.read(pipe, 1 << 16)
            parts[pipe].append(data)
            if not data:
                waiting.remove(pipe)
    return b"".join(parts[pipes[0]]), b"".join(parts[pipes[1]])


def _exit_status(pid: int, deadline: float) -> int:
    """Its end follows that of its output, mostly at once; there is nothing to wait on that Python 3.8 knows."""
    pause = 0.0002
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


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
