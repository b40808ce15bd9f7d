"""Faults of the prerequisites: operator's tools, the contract's plan, reachability, ssh, names, directory, clock."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import directory
from lab.faults.base import PORT_DOWN, PORT_UP, CommandFault, Expect, Fault, FileFault
from lab.hosts import Lab

ROOT = Path(__file__).parents[2]
CUT_OFF = (Expect("*", "*{host}*", required=False), Expect("*", "cluster", required=False))


@dataclass(frozen=True)
class ToolFault(Fault):
    """Another program of that name stands first on the operator's PATH."""

    tool: str = ""
    script: str = ""
    target: str = "operator"

    def inject(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        path = lab.home / "operator" / "bin" / self.tool
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + self.script)
        path.chmod(0o755)

    def clear(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        (lab.home / "operator" / "bin" / self.tool).unlink(missing_ok=True)


@dataclass(frozen=True)
class PlanFault(Fault):
    """Another contract or inventory is judged: what a site would get by writing them wrongly."""

    contract: Callable[[dict[str, Any]], None] = lambda _: None
    inventory: Callable[[dict[str, Any]], None] = lambda _: None
    alone: bool = True
    target: str = "gpu-node-04"

    def inject(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        folder = site_override(lab)
        folder.mkdir(parents=True, exist_ok=True)
        hosts = yaml.safe_load((ROOT / "inventory/hosts.yml").read_text())
        change: dict[str, Any] = {
            "extends": os.path.relpath(ROOT / "lab/site.yaml", folder), "inventory": "hosts.yml"}
        self.contract(change)
        self.inventory(hosts["all"]["children"]["gpu_nodes"]["hosts"])
        (folder / "hosts.yml").write_text(yaml.safe_dump(copy.deepcopy(hosts)))
        (folder / "site.yaml").write_text(yaml.safe_dump(change))

    def clear(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        for path in (site_override(lab) / "site.yaml", site_override(lab) / "hosts.yml"):
            path.unlink(missing_ok=True)


def site_override(lab: Lab) -> Path:
    """Where a fault of the plan keeps the contract that is judged instead of the lab's."""
    return lab.home / "operator" / "site"


@dataclass(frozen=True)
class DirectoryFault(Fault):
    """Breaks the directory; every one leaves it to `clear` to put all of it back."""

    break_it: Callable[[], None] = lambda: None
    target: str = "services"

    def inject(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        self.break_it()

    def clear(self, lab: Lab, target: str) -> None:  # noqa: ARG002
        directory.restore()


def directory_fault(name: str, breaks: str, break_it: Callable[[], None]) -> DirectoryFault:
    """A fault that must turn the check `ldap` red."""
    return DirectoryFault(name, breaks, (Expect("ldap", "ldaps://ldap.lab.internal:636*"),), break_it=break_it)


def _ninth_host(hosts: dict[str, Any]) -> None:
    hosts["gpu-node-09"] = {"ansible_host": "10.100.0.109"}


def _last_host_away(hosts: dict[str, Any]) -> None:
    del hosts["gpu-node-08"]

FAULTS: tuple[Fault, ...] = (
    ToolFault("helm-too-old", "an older helm is first on PATH", (Expect("tool-versions", "*"),), tool="helm",
              script="echo 'v3.9.4+gdbc6d8e'\n"),
    ToolFault("ansible-removed", "ansible is not there", (Expect("tool-versions", "*"),), tool="ansible",
              script="echo 'ansible: command not found' >&2; exit 127\n"),
    ToolFault("kubectl-unparsable", "kubectl answers something else", (Expect("tool-versions", "*"),),
              tool="kubectl", script="echo 'version: unknown'\n"),
    PlanFault("address-twice", "two hosts have one address",
              (Expect("inventory", "{host}"), Expect("inventory", "gpu-node-03"), *CUT_OFF,
               Expect("*", "*gpu-node-03*", required=False), Expect("host-names", "*", required=False)),
              inventory=lambda hosts: hosts["gpu-node-04"].update(ansible_host="10.100.0.103")),
    PlanFault("address-outside", "a host's address is outside the node range",
              (Expect("inventory", "*gpu-node-04*"), *CUT_OFF, Expect("address-plan", "*gpu-node-04*", required=False),
               Expect("host-names", "*", required=False)),
              inventory=lambda hosts: hosts["gpu-node-04"].update(ansible_host="10.101.0.104")),
    PlanFault("service-range-overlaps", "the service range contains the nodes", (Expect("address-plan", "*"),),
              contract=lambda change: change.update(network={"service_range": "10.96.0.0/12"})),
    PlanFault("host-missing", "the inventory lacks a contracted host", (Expect("exit code 4", "*gpu_nodes*7*8*"),),
              refusal="hosts.yml", inventory=_last_host_away),
    PlanFault("host-too-many", "the inventory has a host that was not contracted",
              (Expect("exit code 4", "*gpu_nodes*9*gpu-node-09*8*"),), refusal="hosts.yml", inventory=_ninth_host),
    directory_fault("ldap-certificate-expired", "the directory's certificate has expired",
                    directory.expire_certificate),
    directory_fault("ldap-anonymous", "strangers can read the directory", directory.admit_strangers),
    directory_fault("ldap-down", "the directory does not run", directory.stop),
    directory_fault("ldap-group-empty", "the contracted group has no member", directory.empty_group),
    directory_fault("ldap-group-missing", "the contracted group is not there", directory.remove_group),
    directory_fault("ldap-bind-refused", "the service account has another password", directory.change_password),
    CommandFault("link-down", "a port is down",
                 (Expect("reachability", "{host}"), *CUT_OFF),
                 inject_command=PORT_DOWN, clear_command=PORT_UP),
    CommandFault("ping-loss", "every fifth ping of the operator is lost", (Expect("reachability", "{host}"),),
                 inject_command="nft add table ip labping && nft add chain ip labping in '{ type filter hook input "
                                "priority 0; }' && nft add rule ip labping in ip saddr 10.100.0.10 icmp type "
                                "echo-request numgen inc mod 5 == 0 drop",
                 clear_command="nft delete table ip labping 2>/dev/null || true"),
    CommandFault("ssh-key-removed", "the operator's key is not accepted", (Expect("ssh-access", "{host}"), *CUT_OFF),
                 inject_command="mv ~admin/.ssh/authorized_keys ~admin/.ssh/away",
                 clear_command="[ ! -e ~admin/.ssh/away ] || mv ~admin/.ssh/away ~admin/.ssh/authorized_keys"),
    CommandFault("host-key-changed", "the host answers with another key", (Expect("ssh-access", "{host}"), *CUT_OFF),
                 inject_command="mkdir -p /etc/ssh/lab && mv /etc/ssh/ssh_host_* /etc/ssh/lab/ && ssh-keygen -q -A && "
                                "systemctl restart ssh",
                 clear_command="[ ! -d /etc/ssh/lab ] || { mv -f /etc/ssh/lab/* /etc/ssh/ && rmdir /etc/ssh/lab && "
                               "systemctl restart ssh; }"),
    CommandFault("sudo-asks", "sudo asks for a password", (Expect("ssh-access", "{host}"), *CUT_OFF),
                 inject_command="cp -a /etc/sudoers.d /etc/sudoers.lab && sed -i 's/NOPASSWD: *//' /etc/sudoers.d/*",
                 clear_command="[ ! -d /etc/sudoers.lab ] || { cp -a /etc/sudoers.lab/. /etc/sudoers.d/ && "
                               "rm -rf /etc/sudoers.lab; }"),
    FileFault("wrong-host-entry", "one host knows another under a wrong address", (Expect("host-names", "{host}*"),),
              path="/etc/hosts", change=lambda text: text.replace("10.100.0.105", "10.100.0.99")),
    CommandFault("clock-off", "one clock is five seconds fast", (Expect("clock", "{host}"),),
                 # sessions only: the library in sshd itself would be ended by its own sandbox
                 inject_command="echo SetEnv FAKETIME=+5s LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) > "
                                "/etc/ssh/sshd_config.d/00-b-lab.conf && systemctl reload ssh",
                 clear_command="rm -f /etc/ssh/sshd_config.d/00-b-lab.conf && systemctl reload ssh"),
)
