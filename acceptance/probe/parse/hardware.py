"""Processor, memory, operating system, mounts."""

from __future__ import annotations

import re
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import blocks, integer, lines, short


def cpuinfo(text: str) -> dict[str, Any]:
    """/proc/cpuinfo of x86: model, sockets, physical cores, threads."""
    threads, cores, sockets, models = 0, set(), set(), set()
    for block in blocks(text, "/proc/cpuinfo"):
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block)}
        missing = [key for key in ("processor", "model name", "physical id", "core id") if not fields.get(key)]
        if missing:
            raise ParseError(f"/proc/cpuinfo: a processor without {', '.join(missing)}")
        socket = integer(fields["physical id"], "/proc/cpuinfo: physical id")
        if integer(fields["processor"], "/proc/cpuinfo: processor") != threads:
            raise ParseError(f"/proc/cpuinfo: processor {threads} is not there")
        threads += 1
        sockets.add(socket)
        cores.add((socket, integer(fields["core id"], "/proc/cpuinfo: core id")))
        models.add(fields["model name"])
    if len(models) != 1:
        raise ParseError(f"/proc/cpuinfo: expected one model of processor, found {sorted(models) or 'none'}")
    return {"model": models.pop(), "sockets": len(sockets), "cores": len(cores), "threads": threads}


def meminfo_total_mib(text: str) -> int:
    """MemTotal of /proc/meminfo, in MiB."""
    found = re.findall(r"^MemTotal: +([0-9]{1,20}) kB$", "\n".join(lines(text, "/proc/meminfo")), re.MULTILINE)
    if len(found) != 1:
        raise ParseError(f"/proc/meminfo: expected one MemTotal in kB, found {len(found)}")
    return int(found[0]) // 1024


def os_release(text: str) -> dict[str, str]:
    """ID and VERSION_ID of /etc/os-release."""
    fields = {}
    for line in lines(text, "/etc/os-release"):
        key, equals, value = line.partition("=")
        if not line.strip() or line.startswith("#"):
            continue
        if not equals:
            raise ParseError(f"/etc/os-release: expected NAME=VALUE, found {short(line)}")
        fields[key] = _unquoted(value)
    for key in ("ID", "VERSION_ID"):
        if not fields.get(key):
            raise ParseError(f"/etc/os-release: no {key}")
    return {"id": fields["ID"], "version_id": fields["VERSION_ID"]}


def _unquoted(value: str) -> str:
    match = re.fullmatch(r"""(["']?)(.*)\1""", value.strip())
    inner = match.group(2) if match else value
    if inner[:1] in ("'", '"') or inner[-1:] in ("'", '"'):
        raise ParseError(f"/etc/os-release: quotes do not match in {short(value)}")
    return inner


def mounts(text: str) -> list[dict[str, str]]:
    """/proc/self/mounts: device, mount point and type of each; octal escapes are resolved."""
    found = []
    for line in lines(text, "/proc/self/mounts"):
        parts = line.split(" ")
        if len(parts) != 6:
            raise ParseError(f"/proc/self/mounts: expected six fields, found {short(line)}")
        device, mount, kind = (re.sub(r"\\([0-3][0-7]{2})", lambda m: chr(int(m.group(1), 8)), p) for p in parts[:3])
        found.append({"device": device, "mount": mount, "type": kind})
    return found
