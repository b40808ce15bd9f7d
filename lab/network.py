"""The lab's network: one bridge in a namespace of its own, one veth pair a host, nothing that leads outside."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from acceptance.site.contract import Contract
from lab.errors import LabError

FABRIC = "lab-fabric"
PORT = "ens3f0np0"
OPERATOR = ("operator", "10.100.0.10")
SERVICES = ("services", "10.100.0.20")
MIRROR = "apt.lab.internal"
SERVICE_NAMES = ("ldap.lab.internal", "ntp.lab.internal", MIRROR)
BARE_MTU, SWITCH_MTU = 1500, 9000


def namespace(host: str) -> str:
    """The network namespace of a host."""
    return f"lab-{host}"


def switch_port(host: str) -> str:
    """The switch's end of a host's cable."""
    return f"p-{host}"


def ip(*words: str) -> str:
    """Run `ip`; its output. Raises LabError with its message."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def namespaces() -> list[str]:
    """The lab's namespaces that exist."""
    names = (line.split()[0] for line in ip("netns", "list").splitlines() if line.strip())
    return [name for name in names if name.startswith("lab-")]


def rate_mbps(contract: Contract) -> float:
    """To what the ports are shaped, as the contract says of them. Raises LabError where it does not."""
    limit = contract.performance.collectives.port_limit_gbps
    if limit is None:
        raise LabError("performance.collectives.port_limit_gbps: expected the rate to which the lab's ports are shaped")
    return limit * 1000


def shape(contract: Contract, part: float = 1.0) -> list[str]:
    """Words for tc: a token bucket at `part` of the rate of the lab's ports."""
    return ["tbf", "rate", f"{rate_mbps(contract) * part:.0f}mbit", "burst", "256kb", "latency", "50ms"]


def build(hosts: Sequence[tuple[str, str]], contract: Contract) -> None:
    """Make the switch and one cabled namespace for each (name, address). What exists is left as it is.

    Where the contract has tagged VLANs, each GPU traffic VLAN is a device on the host's port.
    """
    existing = set(namespaces())
    if FABRIC not in existing:
        ip("netns", "add", FABRIC)
        ip("-n", FABRIC, "link", "set", "lo", "up")
        ip("-n", FABRIC, "link", "add", "br0", "mtu", str(SWITCH_MTU), "type", "bridge")
        ip("-n", FABRIC, "link", "set", "br0", "up")
    for name, address in (*hosts, OPERATOR, SERVICES):
        if namespace(name) not in existing:
            _cable(name, address, contract)


def _cable(name: str, address: str, contract: Contract) -> None:
    fabric, space, port = contract.network.fabric, namespace(name), switch_port(name)
    ip("netns", "add", space)
    ip("-n", space, "link", "set", "lo", "up")
    ip("-n", FABRIC, "link", "add", port, "mtu", str(SWITCH_MTU), "type", "veth", "peer", "name", PORT, "netns", space)
    ip("-n", FABRIC, "link", "set", port, "master", "br0", "up")
    ip("-n", space, "link", "set", PORT, "mtu", str(BARE_MTU), "up")
    ip("-n", space, "addr", "add", f"{address}/24", "dev", PORT)
    if (name, address) not in (OPERATOR, SERVICES):
        # as every server has one: without it the kernel refuses a Service's address before kube-proxy rewrites it
        ip("-n", space, "route", "add", "default", "via", SERVICES[1])
    if fabric.vlan_mode == "tagged":
        ip("-n", space, "link", "add", "link", PORT, "name", f"{PORT}.{fabric.vlan_id}", "type", "vlan", "id",
           str(fabric.vlan_id))
    if name == SERVICES[0]:
        return  # nothing is measured there, and all hosts get packages and images from it at once
    for where, device in ((FABRIC, port), (space, PORT)):
        done = subprocess.run(["tc", "-n", where, "qdisc", "replace", "dev", device, "root", *shape(contract)],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"tc on {device}: {done.stderr.strip()}")


def remove() -> None:
    """Delete every namespace of the lab, and with them cables and switch."""
    for name in namespaces():
        ip("netns", "delete", name)
