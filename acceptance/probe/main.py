"""Entry on the node: sections in children, all at once, each section under its own deadline.

Those that only read a few files share one child, because starting a process costs more than they do. A section that
hangs, in a driver for instance, or that takes its process along, costs itself only: its child is killed, and what
shared it begins anew, each in a child of its own. Where even SIGKILL does not end a child (uninterruptible sleep in
the kernel) it is left behind, holding no file of the session.
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
from acceptance.probe.sections import GPU_SECTIONS, SECTIONS, TOGETHER


class Child:
    """A process that runs sections one after the other, the pipe it answers through, a line a section."""

    def __init__(self, names: list[str], parameters: dict[str, Any]) -> None:
        self.names, self.parameters = names, parameters
        self.factor = float(parameters.get("deadline_factor", 1))
        self.buffer = b""
        self.started = time.monotonic()
        self.pipe, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(writing)
        os.close(writing)

    def _work(self, writing: int) -> None:
        """In the child: run the sections, write their answers, and end without the parent's clean-up."""
        try:
            os.setpgid(0, 0)
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):  # a child that is left behind must not hold the session open
                os.dup2(null, descriptor)
            with os.fdopen(writing, "wb") as pipe:
                for name in self.names:
                    function, limit_s = SECTIONS[name]
                    context = Context(self.parameters, limit_s * self.factor)
                    pipe.write(_answer(function, context).encode("ascii") + b"\n")
                    pipe.flush()
        finally:
            os._exit(0)

    @property
    def limit_s(self) -> float:
        """Of the section that is running."""
        return SECTIONS[self.names[0]][1] * self.factor

    def left_s(self) -> float:
        return self.started + self.limit_s - time.monotonic()

    def take(self, answers: dict[str, Any]) -> bool:
        """Read what is there; False at the end. The next section's time begins when one has answered."""
        data = os.read(self.pipe, 1 << 16)
        *lines, self.buffer = (self.buffer + data).split(b"\n") if b"\n" in data else [self.buffer + data]
        for line in lines[:len(self.names)]:
            now = time.monotonic()
            try:
                answer = {**json.loads(line.decode("ascii")), "seconds": round(now - self.started, 3)}
            except (ValueError, TypeError):
                answer = {"ok": False, "error": "the section's answer is not what a section writes"}
            answers[self.names.pop(0)] = answer
            self.started = now
        return bool(data)


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
    """The whole document. `parameters["sections"]` names the sections wanted, None all; those about GPUs and their
    fabric are left out where `parameters["gpus"]` is false.
    """
    wanted, gpus = parameters.get("sections"), parameters.get("gpus", True)
    names = [name for name in SECTIONS if (wanted is None or name in wanted) and (gpus or name not in GPU_SECTIONS)]
    answers: dict[str, Any] = {name: {"ok": False, "error": "not asked of this host"}
                               for name in SECTIONS if name not in names}
    alone = [[name] for name in names if name not in TOGETHER]
    together = [name for name in names if name in TOGETHER]
    waiting = [Child(group, parameters) for group in [*alone, together] if group]
    while waiting:
        ready = select.select([c.pipe for c in waiting], [], [], max(0.0, min(c.left_s() for c in waiting)))[0]
        for child in list(waiting):
            ended = child.pipe in ready and not child.take(answers)
            late = bool(child.names) and child.left_s() <= 0
            if ended or late or not child.names:
                waiting.remove(child)
                os.close(child.pipe)
                waiting += _lost(child, ended, answers)
    return {"probe": 1, "hostname": os.uname().nodename, "python": sys.version.split()[0], "sections": answers}


def _lost(child: Child, ended: bool, answers: dict[str, Any]) -> list[Child]:
    """Note the section in which a child ended or was late, if there is one; those behind it begin anew, each alone."""
    if not child.names:
        return []
    error = "the section's process ended without an answer" if ended else f"no answer within {child.limit_s:g} s"
    _kill_group(child.pid)  # gone afterwards, or left behind if not even SIGKILL ends it
    name, *others = child.names
    answers[name] = {"ok": False, "error": error}
    return [Child([other], child.parameters) for other in others]


def main(parameters: dict[str, Any]) -> None:
    """Print the document as one line of ASCII."""
    gc.disable()
    gc.freeze()  # else each child's first collection would copy every page that it shares with the parent
    sys.stdout.write(json.dumps(collect(parameters), allow_nan=False) + "\n")
    sys.stdout.flush()
