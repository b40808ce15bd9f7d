"""Interfaces, VLAN devices, LLDP, RoCE settings."""

from __future__ import annotations

import re
from typing import Any

from acceptance.errors import ParseError
from acceptance.probe.parse import from_json, integer, lines, listing, mapping, short, string


def ip_addresses(text: str) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """`ip -json -details address show`: addresses by interface, and VLAN devices by name."""
    addresses: dict[str, list[str]] = {}
    vlans = {}
    for entry in listing(from_json(text, "ip address"), "ip address"):
        if entry == {}:  # what iproute2 prints for a link that its filter leaves out
            continue
        link = mapping(entry, "ip address")
        name = string(link.get("ifname"), "ip address: ifname")
        infos = [mapping(info, "addr_info") for info in listing(link.get("addr_info"), f"ip address: {name}")]
        addresses[name] = [
            f"{string(i.get('local'), 'local')}/{_small(i.get('prefixlen'), 128, f'{name}: prefixlen')}" for i in infos
        ]
        kind = mapping(link.get("linkinfo", {}), f"ip address: {name}: linkinfo")
        if kind.get("info_kind") == "vlan":
            data = mapping(kind.get("info_data"), f"ip address: {name}: info_data")
            vlans[name] = {"id": _small(data.get("id"), 4095, f"{name}: VLAN id"),
                           "parent": string(link.get("link"), f"{name}: parent")}
    return addresses, vlans


def _small(value: Any, most: int, what: str) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ParseError(f"{what}: expected a number from 0 to {most}, found {short(repr(value))}")
    return value


def lldp_neighbors(text: str) -> list[dict[str, Any]]:
    """`lldpcli -f json show neighbors details`; the tool prints one of something as an object, several as a list."""
    root = mapping(mapping(from_json(text, "lldpcli"), "lldpcli").get("lldp"), "lldpcli: lldp")
    neighbors = []
    for group in _several(root.get("interface", [])):
        for interface, neighbor in mapping(group, "lldpcli: interface").items():
            fields = mapping(neighbor, f"lldpcli: {interface}")
            neighbors.append({
                "interface": interface, "chassis": _chassis(fields.get("chassis")), "port": _port(fields.get("port")),
                "vlan_ids": sorted({_vlan_id(vlan) for vlan in _several(fields.get("vlan", []))}),
            })
    return neighbors


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _vlan_id(vlan: Any) -> int:
    text = mapping(vlan, "lldpcli: vlan").get("vlan-id")
    return _small(int(text) if isinstance(text, str) and re.fullmatch("[0-9]{1,4}", text) else text, 4095,
                  "lldpcli: vlan-id")


def _chassis(value: Any) -> str | None:
    if value is None:
        return None
    fields = mapping(value, "lldpcli: chassis")
    named = [name for name, inner in fields.items() if isinstance(inner, dict) and "id" in inner]
    return named[0] if named else _id(fields)


def _port(value: Any) -> str | None:
    return None if value is None else _id(mapping(value, "lldpcli: port"))


def _id(fields: dict[str, Any]) -> str | None:
    if "id" not in fields:
        return None
    return string(mapping(fields["id"], "lldpcli: id").get("value"), "lldpcli: id")


def mlnx_qos(text: str) -> dict[str, Any]:
    """`mlnx_qos -i INTERFACE`: trust state, and priorities with flow control."""
    body = lines(text, "mlnx_qos")
    trust = [m.group(1) for m in (re.fullmatch(r"Priority trust state: (dscp|pcp|both)\s*", x) for x in body) if m]
    if len(trust) != 1:
        raise ParseError(f"mlnx_qos: expected one line on the trust state, found {len(trust)}")
    if "PFC configuration:" not in [line.strip() for line in body]:
        raise ParseError("mlnx_qos: no PFC configuration")
    start = [line.strip() for line in body].index("PFC configuration:")
    rows = {parts[0]: parts[1:] for parts in (line.split() for line in body[start + 1 : start + 3]) if parts}
    if rows.get("priority") != list("01234567") or "enabled" not in rows:
        raise ParseError(f"mlnx_qos: the PFC table is not readable: {short(' / '.join(body[start + 1 : start + 3]))}")
    return {"trust": trust[0], "pfc_enabled": _flags(rows["enabled"], "mlnx_qos: enabled")}


def _flags(values: list[str], what: str) -> list[int]:
    if len(values) != 8 or set(values) - {"0", "1"}:
        raise ParseError(f"{what}: expected eight flags, found {short(' '.join(values))}")
    return [priority for priority, value in enumerate(values) if value == "1"]


def ecn(values: list[str], what: str) -> list[int]:
    """The eight files ecn/roce_*/enable/PRIORITY in order: priorities with ECN."""
    return _flags([value.strip() for value in values], what)


def ibv_active_mtu(text: str) -> dict[str, dict[str, int]]:
    """`ibv_devinfo -v`: active MTU in bytes by device and port."""
    found: dict[str, dict[str, int]] = {}
    device = port = None
    for line in lines(text, "ibv_devinfo"):
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "hca_id":
            device, port = value, None
            found[device] = {}
        elif key == "port" and device:
            port = str(integer(value, "ibv_devinfo: port"))
        elif key == "active_mtu":
            match = re.fullmatch(r"(256|512|1024|2048|4096) \([1-5]\)", value)
            if not (device and port and match) or port in found[device]:
                raise ParseError(f"ibv_devinfo: active_mtu: found {short(line)}")
            found[device][port] = int(match.group(1))
    if not found or not all(found.values()):
        raise ParseError("ibv_devinfo: no active_mtu of " + (", ".join(d for d, p in found.items() if not p) or "any"))
    return found


def ib_number_and_name(text: str, what: str) -> str:
    """"4: ACTIVE" as in state and phys_state: the name."""
    match = re.fullmatch(r"[0-9]{1,2}: ([A-Za-z][A-Za-z_ ]*)", text.strip())
    if not match:
        raise ParseError(f"{what}: expected NUMBER: NAME, found {short(text)}")
    return match.group(1)


def ib_rate_gbps(text: str, what: str) -> float:
    """"100 Gb/sec (4X EDR)": the rate in Gb/s."""
    match = re.fullmatch(r"([0-9]{1,5}(?:\.[0-9]{1,3})?) Gb/sec(?: \([^)]*\))?", text.strip())
    if not match:
        raise ParseError(f"{what}: expected RATE Gb/sec, found {short(text)}")
    return float(match.group(1))
