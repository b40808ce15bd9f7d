"""End the listeners of a run, known by their process name, and say how many there were.

Argument: {"mark": name}. Prints {"stopped": count}; 0 means that the child had ended before, so that a port found
closed meanwhile proves nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    """Read the argument, kill, print."""
    mark = json.loads(sys.argv[1])["mark"]
    stopped = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:  # "PID (name) STATE ..."; Z has ended, nobody has asked how
                name, _, state = file.read().partition("(")[2].rpartition(")")
            if name == mark and not state.startswith(" Z"):
                os.kill(int(pid), signal.SIGKILL)
                stopped += 1
        except OSError:
            continue
    print(json.dumps({"stopped": stopped}))


main()
