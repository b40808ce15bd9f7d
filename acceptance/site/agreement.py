"""What a contract must agree on with itself and with its inventory, beyond what the models of its parts can see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from acceptance.errors import ContractError
from acceptance.site.contract import Contract
from acceptance.site.inventory import Host


def agree(path: Path, contract: Contract, hosts: Sequence[Host]) -> None:
    """Raises ContractError, one line, where parts of the contract contradict each other or the inventory."""
    _endpoint(path, contract, hosts)
    _quotas(path, contract)


def warnings(path: Path, contract: Contract) -> list[str]:
    """What can be used and should not be left so; a line each."""
    client = contract.site.client.strip()
    if contract.site.environment == "production" and (not client or re.fullmatch(r"\[.*\]", client)):
        return [f"{path}: site.client is {client or 'empty'}, a placeholder, and environment is production; name the "
                "client, who signs the report"]
    return []


def _endpoint(path: Path, contract: Contract, hosts: Sequence[Host]) -> None:
    kubernetes = contract.kubernetes
    name = kubernetes.control_plane_endpoint.rpartition(":")[0]
    control = [host for host in hosts if "k8s_control" in host.groups]
    # a name in front of several API servers has to stand in their certificates; those of the service are for pods
    virtual = [one for one in kubernetes.certificates.api_server_names
               if one != "kubernetes" and not one.startswith("kubernetes.default")]
    if name in {*virtual, *(known for host in control for known in (host.name, host.address))}:
        return
    known = ", ".join(f"{host.name} at {host.address}" for host in control) or "none"
    raise ContractError(
        f"{path}: kubernetes.control_plane_endpoint: {name} is no host of the inventory's group k8s_control ({known}), "
        "nor a name of its own in kubernetes.certificates.api_server_names; mend the endpoint, or list its name there"
    )


def _quotas(path: Path, contract: Contract) -> None:
    teams = contract.kubernetes.tenants.teams
    nodes, each, wanted = contract.hosts.get("gpu_nodes", 0), contract.gpu.count, sum(t.gpus for t in teams.values())
    if wanted > nodes * each:
        quotas = " + ".join(f"{name} {team.gpus}" for name, team in teams.items())
        raise ContractError(
            f"{path}: kubernetes.tenants.teams: the quotas come to {wanted} GPUs ({quotas}), but hosts.gpu_nodes × "
            f"gpu.count is {nodes} × {each} = {nodes * each}; lower quotas, or contract more GPUs"
        )
