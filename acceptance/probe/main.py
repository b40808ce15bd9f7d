"""Entry on the node: every section in a child of its own, all at once, each under its own deadline.

A child that hangs, in a driver for instance, costs its own section only. It is killed; where even that does not
end it (uninterruptible sleep in the kernel) it is left behind, holding no file of the session.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from acceptance.errors import Unmeasured
from acceptance.probe.run import Context
from acceptance.probe.sections import SECTIONS


class Child:
    """One running section: its process, the pipe it answers through, and when it must have answered."""

    def __init__(
        self, name: str, function: Callable[[Context], Any], parameters: dict[str, Any], limit_s: float
    ) -> None:
        self.name, self.limit_s = name, limit_s
        self.parts: list[bytes] = []
        self.started = time.monotonic()
        self.pipe, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _work(function, Context(parameters, limit_s), writing)
        os.close(writing)

    def left_s(self) -> float:
        return self.started + self.limit_s - time.monotonic()

    def answer(self, in_time: bool) -> dict[str, Any]:
        """What the child said; it is gone afterwards, or left behind if not even SIGKILL ends it."""
        os.close(self.pipe)
        if not in_time:
            _kill_group(self.pid)
            return {"ok": False, "error": f"no answer within {self.limit_s:g} s"}
        try:
            answer: dict[str, Any] = json.loads(b"".join(self.parts).decode("ascii"))
        except ValueError:
            return {"ok": False, "error": "the section's process ended without an answer"}
        answer["seconds"] = round(time.monotonic() - self.started, 3)
        return answer


def _work(function: Callable[[Context], Any], context: Context, writing: int) -> None:
    """In the child: run the section, write its answer, and end without the parent's clean-up."""
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # a child that is left behind must not hold the session open
            os.dup2(null, descriptor)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(_answer(function, context).encode("ascii"))
    finally:
        os._exit(0)


def _answer(function: Callable[[Context], Any], context: Context) -> str:
    try:
        return json.dumps({"ok": True, "data": function(context)}, allow_nan=False)
    except Unmeasured as error:
        return json.dumps({"ok": False, "error": str(error)})
    except Exception as error:  # a section that fails in a way nobody thought of must not take the others along
        return json.dumps({"ok": False, "error": f"unexpected: {type(error).__name__}: {error}"})


def _kill_group(pid: int) -> None:
    """Kill a child and what it started; its own group exists as soon as it has run at all."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            end(pid, signal.SIGKILL)


def collect(parameters: dict[str, Any]) -> dict[str, Any]:
    """The whole document. `parameters["sections"]` names the sections wanted; None means all."""
    factor = float(parameters.get("deadline_factor", 1))
    wanted = parameters.get("sections")
    answers: dict[str, Any] = {}
    waiting: dict[int, Child] = {}
    for name, (function, limit_s) in SECTIONS.items():
        if wanted is not None and name not in wanted:
            answers[name] = {"ok": False, "error": "not asked of this host"}
            continue
        child = Child(name, function, parameters, limit_s * factor)
        waiting[child.pipe] = child
    while waiting:
        ready = select.select(list(waiting), [], [], max(0.0, min(c.left_s() for c in waiting.values())))[0]
        for pipe in ready:
            data = os.read(pipe, 1 << 16)
            if data:
                waiting[pipe].parts.append(data)
            else:
                child = waiting.pop(pipe)
                answers[child.name] = child.answer(True)
        for pipe, child in [(p, c) for p, c in waiting.items() if c.left_s() <= 0]:
            del waiting[pipe]
            answers[child.name] = child.answer(False)
    return {"probe": 1, "hostname": os.uname().nodename, "python": sys.version.split()[0], "sections": answers}


def main(parameters: dict[str, Any]) -> None:
    """Print the document as one line of ASCII."""
    gc.disable()
    gc.freeze()  # else each child's first collection would copy every page that it shares with the parent
    sys.stdout.write(json.dumps(collect(parameters), allow_nan=False) + "\n")
    sys.stdout.flush()
