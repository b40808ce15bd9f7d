"""Commands on the operator's host, and the one place where processes are started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from acceptance.transport.shell import Outcome

MAX_OUTPUT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class LocalShell:
    """Runs commands here, whatever host is named. A program that is not there exits with 127, as in a shell."""

    environment: Mapping[str, str] | None = None
    deadline_factor: float = 1

    def run(self, host: str, argv: Sequence[str], *, stdin: bytes = b"", deadline_s: float,
            sudo: bool = False) -> Outcome:
        """See `Shell.run`."""
        del host
        return run_process([*(("sudo", "-n") if sudo else ()), *argv], stdin, deadline_s * self.deadline_factor,
                           self.environment)


def run_process(argv: Sequence[str], stdin: bytes, deadline_s: float,
                environment: Mapping[str, str] | None = None) -> Outcome:
    """Start a process in a group of its own, feed it, and kill the whole group at the deadline.

    Output beyond 32 MiB a stream is cut, and the outcome is then no exit but "timed-out" with the reason: cut output
    is not evidence.
    """
    started = time.monotonic()
    try:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True, env=None if environment is None else dict(environment))
    except OSError as error:
        return Outcome("exited", 127, "", f"{argv[0]}: {error.strerror}", time.monotonic() - started)
    streams = [_Reader(process.stdout), _Reader(process.stderr)]
    writer = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
    writer.start()
    detail = ""
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        detail = f"no end within {deadline_s:g} s"
    finally:
        _kill_group(process.pid if detail or process.poll() is None else None)
        process.wait()
    # a background child that kept the pipes open must not keep us
    left = max(0.5, deadline_s - (time.monotonic() - started)) if not detail else 0.5
    for stream in streams:
        stream.join(left)
    if any(stream.cut for stream in streams):
        detail = f"more than {MAX_OUTPUT_BYTES} bytes of output"
    out, err = (stream.text() for stream in streams)
    seconds = time.monotonic() - started
    if detail:
        return Outcome("timed-out", None, out, err, seconds, detail)
    return Outcome("exited", process.returncode, out, err, seconds)


class _Reader(threading.Thread):
    """Drains one pipe to memory."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        assert pipe is not None
        self._pipe, self._parts, self._size, self.cut = pipe, list[bytes](), 0, False
        self.start()

    def run(self) -> None:
        while chunk := os.read(self._pipe.fileno(), 65536):
            self._size += len(chunk)
            if self._size > MAX_OUTPUT_BYTES:
                self.cut = True
            else:
                self._parts.append(chunk)
        self._pipe.close()

    def text(self) -> str:
        return b"".join(self._parts).decode("utf-8", "backslashreplace")


def _feed(pipe: IO[bytes] | None, data: bytes) -> None:
    assert pipe is not None
    # it may end without reading everything; its exit status tells. Closing writes what is left, so it fails again.
    with contextlib.suppress(BrokenPipeError):
        pipe.write(data)
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _kill_group(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
