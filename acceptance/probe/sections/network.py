"""Interfaces, VLANs, LLDP neighbours, RDMA devices, RoCE settings, name resolution."""

from __future__ import annotations

import os
import re
from typing import Any

from acceptance.errors import ParseError, Unmeasured
from acceptance.probe.parse import integer, network, word
from acceptance.probe.run import Context, names_in, read
from acceptance.probe.sections.hardware import optional

NET = "/sys/class/net"
RDMA = "/sys/class/infiniband"
PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
NO_GID = re.compile(r"[0:]*")


def net(context: Context) -> dict[str, Any]:
    errors: dict[str, str] = {}
    addresses, vlans = network.ip_addresses(context.run(["ip", "-json", "-details", "address", "show"]))
    names = [name for name in names_in(NET) if os.path.isdir(f"{NET}/{name}")]
    interfaces = {name: _interface(name, addresses) for name in names}
    return {"interfaces": interfaces, "vlans": vlans, "errors": errors,
            "lldp_neighbors": optional(errors, "lldp_neighbors", _lldp, context)}


def _lldp(context: Context) -> list[dict[str, Any]]:
    command = ["lldpcli", "-f", "json", "show", "neighbors", "details"]
    return network.lldp_neighbors(context.run(command, limit_s=3))


def _interface(name: str, addresses: dict[str, list[str]]) -> dict[str, Any]:
    path = f"{NET}/{name}"
    if name not in addresses:
        raise ParseError(f"ip address: says nothing of {name}")
    statistics = f"{path}/statistics"
    return {
        "mac": read(f"{path}/address").strip(), "mtu": integer(read(f"{path}/mtu"), f"{name}: mtu"),
        "operstate": word(read(f"{path}/operstate"), f"{name}: operstate"),
        "speed_mbps": _speed(path), "duplex": _duplex(path),
        "carrier_changes": integer(read(f"{path}/carrier_changes"), f"{name}: carrier_changes"),
        "addresses": addresses[name], "numa_node": numa_node(path), "pci": _pci(path),
        "counters": {c: integer(read(f"{statistics}/{c}"), f"{name}: {c}") for c in names_in(statistics)},
    }


def _or_none(path: str) -> str | None:
    """A file's text; None where there is none, or the driver refuses because the link is down."""
    try:
        return read(path).strip()
    except Unmeasured:
        return None


def _speed(path: str) -> int | None:
    text = _or_none(f"{path}/speed")
    speed = -1 if text is None else integer(text, f"{path}/speed")
    return speed if speed > 0 else None


def _duplex(path: str) -> str | None:
    text = _or_none(f"{path}/duplex")
    return text if text in ("full", "half") else None


def numa_node(path: str) -> int | None:
    """NUMA node of the device behind a sysfs entry; -1: the firmware gives none; None: it has no device."""
    text = _or_none(f"{path}/device/numa_node")
    return None if text is None else integer(text, f"{path}/device/numa_node")


def _pci(path: str) -> str | None:
    name = os.path.basename(os.path.realpath(f"{path}/device"))
    return name if PCI_ADDRESS.fullmatch(name) else None


def rdma(context: Context) -> dict[str, Any]:
    errors: dict[str, str] = {}
    names = names_in(RDMA) if os.path.isdir(RDMA) else []
    return {"devices": {name: _rdma_device(context, name, errors) for name in names}, "errors": errors}


def _active_mtus(context: Context, device: str) -> dict[str, int]:
    return network.ibv_active_mtu(context.run(["ibv_devinfo", "-v", "-d", device], limit_s=4)).get(device, {})


def _rdma_device(context: Context, name: str, errors: dict[str, str]) -> dict[str, Any]:
    path = f"{RDMA}/{name}"
    mtus = optional(errors, "active_mtu", _active_mtus, context, name) or {}
    ports = {number: _rdma_port(f"{path}/ports/{number}", mtus.get(number)) for number in names_in(f"{path}/ports")}
    netdevs = [gid["ndev"] for port in ports.values() for gid in port["gids"] if gid["ndev"]]
    return {"netdev": netdevs[0] if netdevs else None, "numa_node": numa_node(path),
            "firmware": _or_none(f"{path}/fw_ver"), "ports": ports}


def _rdma_port(path: str, active_mtu: int | None) -> dict[str, Any]:
    return {
        "state": network.ib_number_and_name(read(f"{path}/state"), f"{path}/state"),
        "phys_state": network.ib_number_and_name(read(f"{path}/phys_state"), f"{path}/phys_state"),
        "link_layer": word(read(f"{path}/link_layer"), f"{path}/link_layer"),
        "rate_gbps": network.ib_rate_gbps(read(f"{path}/rate"), f"{path}/rate"),
        "active_mtu": active_mtu, "gids": _gids(path),
        "counters": _counters(f"{path}/counters"), "hw_counters": _counters(f"{path}/hw_counters"),
    }


def _gids(path: str) -> list[dict[str, Any]]:
    found = []
    for index in sorted(int(name) for name in names_in(f"{path}/gids") if name.isdigit()):
        gid = read(f"{path}/gids/{index}").strip()
        if not NO_GID.fullmatch(gid):  # an empty entry has no type either: the kernel answers "Invalid argument"
            kind = word(read(f"{path}/gid_attrs/types/{index}"), f"type of GID {index}", r"\S.*")
            ndev = _or_none(f"{path}/gid_attrs/ndevs/{index}")
            found.append({"index": index, "gid": gid, "type": kind, "ndev": ndev})
    return found


def _counters(path: str) -> dict[str, int]:
    """Counters in a directory; "lifespan" is a setting. A driver without such counters has no directory."""
    names = names_in(path) if os.path.isdir(path) else []
    return {name: integer(read(f"{path}/{name}"), name) for name in names if name != "lifespan"}


def qos(context: Context) -> dict[str, Any]:
    interface = str(context.parameters["fabric_interface"])
    errors: dict[str, str] = {}
    told = optional(errors, "pfc_enabled", _mlnx_qos, context, interface)
    if told is None:
        errors["trust"] = errors["pfc_enabled"]
        told = {"trust": None, "pfc_enabled": None}
    for side in ("np", "rp"):
        path = f"{NET}/{interface}/ecn/roce_{side}/enable"
        told[f"ecn_{side}"] = optional(errors, f"ecn_{side}", _ecn, path)
    return {"interface": interface, **told, "errors": errors}


def _mlnx_qos(context: Context, interface: str) -> dict[str, Any]:
    return network.mlnx_qos(context.run(["mlnx_qos", "-i", interface], limit_s=4))


def _ecn(path: str) -> list[int]:
    return network.ecn([read(f"{path}/{priority}") for priority in range(8)], path)


def resolve(context: Context) -> dict[str, Any]:
    import socket

    names: dict[str, list[str]] = {}
    for name in context.parameters["names"]:
        try:
            found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
            names[name] = sorted({str(entry[4][0]) for entry in found})
        except (OSError, UnicodeError):  # whatever the cause, this host has no address for the name
            names[name] = []
    return {"names": names}
