"""Reading `site.yaml`: extends, nearest names for misspelt keys, one clear line for what is wrong."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from acceptance.errors import ContractError
from acceptance.site.agreement import agree, warnings
from acceptance.site.contract import Contract
from acceptance.site.inventory import Host, load_inventory
from acceptance.site.unique import load_yaml

SHOWN = 3  # things wrong with a contract that are told in its one line


@dataclass(frozen=True)
class Site:
    """A contract, the file it came from, and the hosts of its inventory in the inventory's order."""

    path: Path
    contract: Contract
    hosts: tuple[Host, ...]

    def group(self, name: str | None) -> tuple[Host, ...]:
        """Hosts of one inventory group; "all" or None are all hosts."""
        if name in (None, "all"):
            return self.hosts
        return tuple(host for host in self.hosts if name in host.groups)

    def host(self, name: str) -> Host:
        """The host of that name. Raises KeyError."""
        return next(host for host in self.hosts if host.name == name)

    @property
    def warnings(self) -> list[str]:
        """What can be used and should not be left so; a line each."""
        return warnings(self.path, self.contract)

    @property
    def digest(self) -> str:
        """SHA-256 over the contract and the inventory, as hex: a later change shows."""
        text = self.contract.model_dump_json() + json.dumps([[h.name, h.address, *h.groups] for h in self.hosts])
        return hashlib.sha256(text.encode()).hexdigest()


def find_site_file(option: str | None, root: Path) -> Path:
    """`--site`, else ACCEPTANCE_SITE, else site.yaml in `root`. Raises ContractError when there is none."""
    source, name = ("--site", option) if option else ("ACCEPTANCE_SITE", os.environ.get("ACCEPTANCE_SITE"))
    path = Path(name).expanduser() if name else root / "site.yaml"
    if not path.is_file():
        where = f"{source}: " if name else ""
        raise ContractError(f"{where}no contract at {path}: expected a YAML file; name one with --site FILE")
    return path


def load_site(path: Path) -> Site:
    """Contract and inventory. Raises ContractError or InventoryError, each one line."""
    contract = load_contract(path)
    inventory = Path(os.path.expanduser(contract.inventory))
    if not inventory.is_absolute():
        inventory = path.parent / inventory
    site = Site(path, contract, load_inventory(inventory, contract, path))
    agree(path, contract, site.hosts)
    return site


def load_contract(path: Path) -> Contract:
    """The contract alone. Raises ContractError."""
    data = _read(path, ())
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        wrong = sorted(error.errors(), key=lambda part: part["type"] != "missing")  # what else is wrong may follow
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ContractError(f"{path}: " + "; ".join(_explain(part) for part in wrong[:SHOWN]) + more) from None


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ContractError(f"{path}: extends itself: " + " → ".join(str(p) for p in seen))
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f" at line {line + 1}" if line is not None else ""
        raise ContractError(f"{path}: not YAML{at}: {getattr(error, 'problem', None) or 'syntax'}") from None
    if not isinstance(data, dict):
        raise ContractError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    base = data.pop("extends", None)
    if base is None:
        return data
    merged = _merge(_read(path.parent / str(base), (*seen, path.resolve())), data)
    if "inventory" not in data:  # a path is relative to the file that states it
        merged["inventory"] = os.path.relpath(path.parent / Path(str(base)).parent / merged["inventory"], path.parent)
    return merged


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), _keys_at(error["loc"][:-1]), n=1)
        return f"unknown key {where}" + (f"; did you mean {near[0]}?" if near else "; see `acceptance schema`")
    if error["type"] == "missing":
        return f"key {where} is missing"
    found = repr(error.get("input"))
    shown = found if len(found) <= 60 else found[:57] + "..."
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}; found {shown}" if where else f"contract: {message}"


def _keys_at(location: Iterable[Any]) -> list[str]:
    model: Any = Contract
    for part in location:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(part)
            model = field.annotation if field else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
