"""Processes of the lab that outlive the command that starts them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import cgroup
from lab.errors import LabError

DEADLINE_S = 60.0


def start_detached(command: Sequence[str], *, group: str, pid_file: Path, log: Path,
                   environment: Mapping[str, str] | None = None) -> None:
    """Start a command in a host's control group, as nobody's child; on return its process id is in `pid_file`.

    `setsid --fork` leaves it to the machine's init, which waits for its end. Raises LabError when it does not start.
    """
    pid_file.unlink(missing_ok=True)
    script = 'echo $$ > "$0.new" && mv "$0.new" "$0" && exec "$@"'
    with log.open("a") as output:
        subprocess.run(["setsid", "--fork", "sh", "-c", script, str(pid_file), *command], stdin=subprocess.DEVNULL,
                       stdout=output, stderr=output, check=True, preexec_fn=lambda: cgroup.enter(group),
                       env=environment)
    until = time.monotonic() + DEADLINE_S
    while not pid_file.exists():
        if time.monotonic() > until:
            raise LabError(f"{command[0]} did not start within {DEADLINE_S:g} s; see {log}")
        time.sleep(0.005)
