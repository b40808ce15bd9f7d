"""Listen where nobody does, prove each port up from the node itself, and leave a child that holds the listeners.

Argument: {"address", "ports": [...], "life_s", "mark": name of the child}. The kernel completes connections; nothing
is read or answered, and the child ends after life_s. Prints {"ports": {port: {"up", "ours", "error"}}}.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any


def listen(address: str, port: int) -> tuple[socket.socket | None, dict[str, Any]]:
    """A listener, unless someone listens already or it is not permitted; and whether the port is up."""
    listener, error = None, None
    try:
        listener = socket.create_server((address, port))
    except OSError as problem:
        error = problem.strerror
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError as problem:
        error = error or problem.strerror or "timed out"
        return listener, {"up": False, "ours": listener is not None, "error": error}
    return listener, {"up": True, "ours": listener is not None, "error": None}


def hold(mark: str, life_s: float) -> None:
    """Fork a child that lives on alone, in a session of its own; return when it does."""
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os.read(ready, 1)
        return
    os.setsid()
    with open("/proc/self/comm", "w") as name:
        name.write(mark)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(tell)
    time.sleep(life_s)
    os._exit(0)


def main() -> None:
    """Read the argument, listen, leave the child, print."""
    wanted = json.loads(sys.argv[1])
    held, ports = [], {}
    for port in wanted["ports"]:
        listener, state = listen(wanted["address"], port)
        held.append(listener)
        ports[str(port)] = state
    hold(wanted["mark"], wanted["life_s"])
    print(json.dumps({"ports": ports}))


main()
