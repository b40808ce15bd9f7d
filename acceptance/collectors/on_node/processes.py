"""Run commands on a node, in batches, or start servers that outlive this program, or stop those again.

Argument, one of
- {"run": [[[word, ...], ...], ...], "deadline_s": seconds for each batch}: batch after batch, those of a batch at
  once. Prints for each batch a list of {"exit_code": int, or null when killed at the deadline, "stdout", "stderr",
  "start_s", "end_s"}, times from the start of the batch.
- {"start": [{"command": [word, ...], "port": number}, ...], "life_s": seconds, "wait_s": seconds}: answers when all
  listen. Each server runs under `timeout` in a process group of its own, so that it ends even if nobody comes back.
  Prints {"groups": [...]}, or {"error": "...", "groups": []} when one could not be started; then none is left.
- {"stop": [process group, ...]}. Prints {"stopped": [...]}.
With "interface": name, everything runs on the processors of that card's NUMA node, where there is one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any


def pin(interface: str | None) -> None:
    """Stay on the NUMA node of a network card: crossing sockets costs bandwidth."""
    try:
        with open(f"/sys/class/net/{interface}/device/numa_node") as file:
            node = int(file.read())
        with open(f"/sys/devices/system/node/node{node}/cpulist") as file:
            parts = [part.split("-") for part in file.read().strip().split(",")]
        near = {cpu for part in parts for cpu in range(int(part[0]), int(part[-1]) + 1)}
        os.sched_setaffinity(0, near & os.sched_getaffinity(0))
    except (OSError, ValueError):
        return


def run_batch(commands: list[list[str]], deadline_s: float) -> list[dict[str, Any]]:
    """All at once; whatever still runs at the deadline is killed."""
    begin = time.monotonic()
    running: dict[int, tuple[subprocess.Popen[bytes], Any, Any]] = {}
    results: list[dict[str, Any]] = [{} for _ in commands]
    for place, words in enumerate(commands):
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - read when the child has ended
        results[place] = {"start_s": time.monotonic() - begin}
        try:
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            running[place] = (child, out, err)
        except OSError as error:
            results[place].update(exit_code=127, stdout="", stderr=str(error), end_s=time.monotonic() - begin)
    while running:
        late = time.monotonic() - begin > deadline_s
        for place, (child, out, err) in list(running.items()):
            code = child.poll()
            if code is None and not late:
                continue
            if code is None:
                child.kill()
                child.wait()
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode(errors="replace"))
            results[place].update(exit_code=code, stdout=texts[0], stderr=texts[1], end_s=time.monotonic() - begin)
            del running[place]
        time.sleep(0.005)
    return results


def listening() -> set[int]:
    """TCP ports in state LISTEN (0A) in this network namespace."""
    ports = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path) as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        ports |= {int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == "0A"}
    return ports


def stop(groups: list[int]) -> list[int]:
    """Kill what still runs of these groups, if the leader is still ours; a number may have been used again."""
    stopped = []
    for group in groups:
        try:
            with open(f"/proc/{group}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if words[0] == b"timeout":
                os.killpg(group, signal.SIGKILL)
                stopped.append(group)
        except OSError:
            continue
    return stopped


def start(wanted: dict[str, Any]) -> dict[str, Any]:
    """Start all, wait until all listen; if one cannot, stop the others and say why."""
    ports = {server["port"] for server in wanted["start"]}
    limit = time.monotonic() + wanted["wait_s"]
    while listening() & ports:  # a server of the last round may be on its way out
        if time.monotonic() > limit:
            return {"error": f"port {min(listening() & ports, default=0)} is already in use", "groups": []}
        time.sleep(0.005)
    children = []
    groups: list[int] = []
    try:
        for server in wanted["start"]:
            errors = tempfile.TemporaryFile()  # noqa: SIM115 - read when the child has ended
            words = ["timeout", "-k", "1", str(wanted["life_s"]), *server["command"]]
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
            )
            children.append((child, errors, server))
            groups.append(child.pid)
        while not ports <= listening():
            for child, errors, server in children:
                if child.poll() is not None:
                    errors.seek(0)
                    said = errors.read().decode(errors="replace").strip()
                    raise OSError(f"{server['command'][0]} ended with {child.returncode}: {said[:200]}")
            if time.monotonic() > limit:
                raise OSError(f"{server['command'][0]} does not listen after {wanted['wait_s']} s")
            time.sleep(0.005)
        return {"groups": groups}
    except OSError as error:
        stop(groups)
        return {"error": str(error), "groups": []}


def main() -> None:
    """Read the argument, do it, print what came of it."""
    wanted = json.loads(sys.argv[1])
    os.environ["LC_ALL"] = "C"
    if wanted.get("interface"):
        pin(wanted["interface"])
    if "run" in wanted:
        answer: Any = [run_batch(batch, wanted["deadline_s"]) for batch in wanted["run"]]
    elif "start" in wanted:
        answer = start(wanted)
    else:
        answer = {"stopped": stop(wanted["stop"])}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
