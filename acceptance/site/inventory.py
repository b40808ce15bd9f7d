"""The Ansible inventory, read as the contract's list of hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from acceptance.errors import InventoryError
from acceptance.site.contract import Contract
from acceptance.site.unique import load_yaml

# Small letters, as Kubernetes wants its nodes' names
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


@dataclass(frozen=True)
class Host:
    """One host: inventory name, address for ssh, and the groups it belongs to."""

    name: str
    address: str
    groups: tuple[str, ...]


def load_inventory(path: Path, contract: Contract, site_path: Path) -> tuple[Host, ...]:
    """Hosts of a YAML inventory, in file order. Raises InventoryError unless groups and counts are the contract's."""
    hosts = read_inventory(path)
    for group, count in contract.hosts.items():
        found = [host.name for host in hosts if group in host.groups]
        if len(found) != count:
            raise InventoryError(
                f"{path}: group {group} has {len(found)} hosts ({', '.join(found) or 'none'}), "
                f"but {site_path} contracts {count}; add or remove hosts until both agree"
            )
    for host in hosts:
        if not set(host.groups) & set(contract.hosts):
            raise InventoryError(f"{path}: host {host.name} is in no group that {site_path} contracts under `hosts`")
    return hosts


def read_inventory(path: Path) -> tuple[Host, ...]:
    """Hosts of a YAML inventory, whatever the contract says. Raises InventoryError."""
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(f"{path}: inventory cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InventoryError(f"{path}: inventory is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("all"), dict):
        raise InventoryError(f"{path}: expected an Ansible inventory with the key `all`")
    stated: dict[str, dict[str, str]] = {}  # host → group → address there, "" where the group states none
    for group, name, variables in _walk("all", data["all"], path):
        of_host = stated.setdefault(name, {})
        of_host[group] = _address(variables) or of_host.get(group, "")
    return tuple(_host(path, name, groups) for name, groups in stated.items())


def _address(variables: Any) -> str:
    return str(variables.get("ansible_host") or "") if isinstance(variables, dict) else ""


def _walk(group: str, node: Any, path: Path) -> Iterator[tuple[str, str, Any]]:
    if not isinstance(node, dict):
        raise InventoryError(f"{path}: group {group}: expected a mapping, found {type(node).__name__}")
    for name, variables in (node.get("hosts") or {}).items():
        yield group, str(name), variables
    for child, content in (node.get("children") or {}).items():
        yield from _walk(str(child), content or {}, path)


def _host(path: Path, name: str, groups: dict[str, str]) -> Host:
    if not _HOST_NAME.fullmatch(name):
        raise InventoryError(
            f"{path}: host {name!r} in group {next(iter(groups))}: no valid host name; expected small letters, digits "
            "and hyphens, in parts joined by dots, one name a host"
        )
    addresses: dict[str, str] = {}  # address → the first group that states it
    for group, stated in groups.items():
        if stated:
            addresses.setdefault(stated, group)
    if len(addresses) > 1:
        (first, one), (second, other) = list(addresses.items())[:2]
        raise InventoryError(
            f"{path}: host {name} has two addresses: {first} in group {one} and {second} in group {other}; expected "
            "one address a host: mend the wrong one, or give one of the hosts another name"
        )
    address = next(iter(addresses), "")
    try:
        IPv4Address(address)
    except ValueError:
        raise InventoryError(
            f"{path}: host {name}: ansible_host must be an IPv4 address, found {address or 'nothing'!r}"
        ) from None
    return Host(name, address, tuple(group for group in groups if group != "all"))
