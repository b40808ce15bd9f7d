"""Try all ports of one address at once, and say how each ended and from which address it was tried.

Argument: {"address", "ports": [...], "timeout_s"}. Prints {"origin": address, "ends": {port: "connected", "refused",
"timed out" or an errno name}}.
"""

from __future__ import annotations

import errno
import json
import selectors
import socket
import sys
import time

ATTEMPTS = 3  # at once, so that a lossy path is not taken for a closed port
ENDS = {0: "connected", errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timed out"}


def origin(address: str) -> str | None:
    """The address that connections to `address` come from; a UDP socket that is connected sends nothing."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
            route.connect((address, 9))
            return str(route.getsockname()[0])
    except OSError:
        return None


def connect(address: str, ports: list[int], timeout_s: float) -> dict[str, str]:
    """How the best of a port's attempts ended within the time."""
    waiting = selectors.DefaultSelector()
    attempts = [(socket.socket(), port) for port in ports for _ in range(ATTEMPTS)]
    ends: dict[int, set[str]] = {port: set() for port in ports}
    for attempt, port in attempts:
        attempt.setblocking(False)
        code = attempt.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            waiting.register(attempt, selectors.EVENT_WRITE, (attempt, port))
        else:
            ends[port].add(end(code))
    deadline = time.monotonic() + timeout_s
    while waiting.get_map() and time.monotonic() < deadline:
        for key, _ in waiting.select(deadline - time.monotonic()):
            attempt, port = key.data
            waiting.unregister(attempt)
            ends[port].add(end(attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
    return {str(port): best(found) for port, found in ends.items()}


def best(found: set[str]) -> str:
    """One answer is enough: what was lost on the way says nothing of the port."""
    return next((word for word in ("connected", "refused") if word in found), min(found, default="timed out"))


def end(code: int) -> str:
    """An errno in words."""
    return ENDS.get(code, errno.errorcode.get(code, str(code)))


def main() -> None:
    """Read the argument, connect, print."""
    wanted = json.loads(sys.argv[1])
    address = wanted["address"]
    ends = connect(address, wanted["ports"], wanted["timeout_s"])
    print(json.dumps({"origin": origin(address), "ends": ends}))


main()
