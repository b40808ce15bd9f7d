"""Faults of the fabric: ports, paths, RoCE settings and bandwidth."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.faults.base import NET, CommandFault, Expect, Fault, FileFault
from lab.hosts import Lab
from lab.network import PORT, rate_mbps, shape

IB = "/sys/class/infiniband/mlx5_0/ports/1"
PAIRS = "*{host}*"
PFC = f"mlnx_qos -i {PORT} --pfc "


def sysfs_fault(name: str, breaks: str, check: str, path: str, value: str) -> FileFault:
    """A fault that shows in one file of sysfs."""
    return FileFault(name, breaks, (Expect(check, "{host}*"),), path=path, change=lambda _: value + "\n")


@dataclass(frozen=True)
class SwitchFault(Fault):
    """Broken on the switch: a command in the fabric's namespace; `{port}` stands for the target's switch port."""

    inject_command: str = ""
    clear_command: str = ""

    def inject(self, lab: Lab, target: str) -> None:
        lab.fabric.run(self.inject_command.replace("{port}", lab.port(target)))

    def clear(self, lab: Lab, target: str) -> None:
        lab.fabric.run(self.clear_command.replace("{port}", lab.port(target)), check=False)


@dataclass(frozen=True)
class SlowPort(Fault):
    """The host's port sends at a part of the rate of the others."""

    part: float = 0.5

    def inject(self, lab: Lab, target: str) -> None:
        self._shape(lab, target, self.part)

    def clear(self, lab: Lab, target: str) -> None:
        self._shape(lab, target, 1)

    def _shape(self, lab: Lab, target: str, part: float) -> None:
        words = shape(lab.site.contract, part)
        lab.host(target).run(["tc", "qdisc", "replace", "dev", PORT, "root", *words])


@dataclass(frozen=True)
class SlowLink(Fault):
    """Traffic between two hosts alone is policed: neither host is slow towards others."""

    peer: str = "gpu-node-06"

    def inject(self, lab: Lab, target: str) -> None:
        limit = f"limit rate over {0.4 * rate_mbps(lab.site.contract) * 1e3 / 8:.0f} kbytes/second drop"
        to_peer = f"nft add rule ip labfault out ip daddr {lab.address(self.peer)} tcp"
        lab.host(target).run(
            "nft add table ip labfault && nft add chain ip labfault out '{ type filter hook output priority 0; }' && "
            f"{to_peer} sport 5201-5232 {limit} && {to_peer} dport 5201-5232 {limit}")

    def clear(self, lab: Lab, target: str) -> None:
        lab.host(target).run("nft delete table ip labfault 2>/dev/null || true")


@dataclass(frozen=True)
class WrongVlan(Fault):
    """An access port: its switch announces another VLAN. A tagged one: its VLAN device has another id."""

    def inject(self, lab: Lab, target: str) -> None:
        self._move(lab, target, 2 * lab.site.contract.network.fabric.vlan_id)

    def clear(self, lab: Lab, target: str) -> None:
        self._move(lab, target, lab.site.contract.network.fabric.vlan_id)

    def _move(self, lab: Lab, target: str, number: int) -> None:
        fabric, host, lldp = lab.site.contract.network.fabric, lab.host(target), "/var/lib/lab-fabric/lldp.json"
        if fabric.vlan_mode == "tagged":
            device = f"{PORT}.{fabric.vlan_id}"
            host.run(f"ip link delete {device}; ip link add link {PORT} name {device} type vlan id {number}")
        else:
            host.write(lldp, re.sub(r'"vlan": *\d+', f'"vlan": {number}', host.read(lldp)))


@dataclass(frozen=True)
class Netem(Fault):
    """The target's switch port delivers as `netem` says; `{rate}` stands for a quarter of the lab's rate."""

    words: str = ""

    def inject(self, lab: Lab, target: str) -> None:
        rate = shape(lab.site.contract, 0.25)[2]
        words = self.words.replace("{rate}", rate).split()
        lab.fabric.run(["tc", "qdisc", "replace", "dev", lab.port(target), "root", "netem", *words])

    def clear(self, lab: Lab, target: str) -> None:
        words = shape(lab.site.contract)
        lab.fabric.run(["tc", "qdisc", "replace", "dev", lab.port(target), "root", *words])


def _kernel_offers(module: str) -> bool:
    """Whether the running kernel has a module, loaded or on disk."""
    try:
        on_disk = Path("/lib/modules", os.uname().release, "modules.dep").read_text()
    except OSError:
        on_disk = ""
    return Path("/sys/module", module).exists() or f"/{module}.ko" in on_disk


BANDWIDTH = (Expect("pair-bandwidth", PAIRS), Expect("fabric-errors", "{host}*", required=False))

FAULTS: tuple[Fault, ...] = (
    sysfs_fault("link-speed-25g", "the link came up at 25 Gb/s", "link", f"{NET}/speed", "25000"),
    sysfs_fault("link-half-duplex", "the link runs half duplex", "link", f"{NET}/duplex", "half"),
    sysfs_fault("link-flaps", "the link flaps", "link", f"{NET}/carrier_changes", "57"),
    CommandFault("mtu-1500", "one node has MTU 1500",
                 (Expect("mtu", "{host}*"), Expect("jumbo-path", PAIRS),
                  Expect("pair-bandwidth", PAIRS, required=False)),
                 inject_command=f"ip link set {PORT} mtu 1500", clear_command=f"ip link set {PORT} mtu 9000",
                 fabric=True),
    SwitchFault("switch-port-mtu-1500", "one switch port drops jumbo frames",
                (Expect("jumbo-path", PAIRS), Expect("pair-bandwidth", PAIRS, required=False),
                 Expect("fabric-errors", "*", required=False)), fabric=True,
                inject_command="ip link set {port} mtu 1500", clear_command="ip link set {port} mtu 9000"),
    WrongVlan("wrong-vlan", "the port is in another VLAN", (Expect("vlan", "{host}*"),)),
    sysfs_fault("rdma-port-down", "the RDMA port is down", "rdma-device", f"{IB}/state", "1: DOWN"),
    CommandFault("rdma-gid-v1-only", "there is no RoCE v2 GID", (Expect("rdma-device", "{host}*"),),
                 inject_command=f"for i in 1 3; do echo 'IB/RoCE v1' > {IB}/gid_attrs/types/$i; done",
                 clear_command=f"for i in 1 3; do echo 'RoCE v2' > {IB}/gid_attrs/types/$i; done"),
    CommandFault("rdma-gid-without-address", "the fabric port's address is in no GID",
                 (Expect("rdma-device", "{host}*"),),
                 inject_command=f"cd {IB}/gids && cat 3 > /run/lab-gid && cat 0 > 2 && cat 0 > 3",
                 clear_command=f"[ ! -e /run/lab-gid ] || {{ cd {IB}/gids && cat /run/lab-gid > 2 && "
                               "cat /run/lab-gid > 3; }"),
    sysfs_fault("rdma-mtu-1024", "the RDMA MTU is 1024", "rdma-device", f"{IB}/lab_active_mtu", "1024"),
    sysfs_fault("rdma-infiniband", "the port's link layer is InfiniBand", "rdma-device", f"{IB}/link_layer",
                "InfiniBand"),
    CommandFault("pfc-off", "priority flow control is off", (Expect("roce-qos", "{host}*"),),
                 inject_command=PFC + "0,0,0,0,0,0,0,0", clear_command=PFC + "0,0,0,1,0,0,0,0"),
    CommandFault("pfc-wrong-priority", "flow control is on for another priority", (Expect("roce-qos", "{host}*"),),
                 inject_command=PFC + "0,0,0,0,0,1,0,0", clear_command=PFC + "0,0,0,1,0,0,0,0"),
    CommandFault("trust-pcp", "the port trusts the VLAN tag, not DSCP", (Expect("roce-qos", "{host}*"),),
                 inject_command=f"mlnx_qos -i {PORT} --trust pcp", clear_command=f"mlnx_qos -i {PORT} --trust dscp"),
    sysfs_fault("ecn-off", "ECN is off for the priority of RoCE", "roce-qos", f"{NET}/ecn/roce_np/enable/3", "0"),
    CommandFault(
        "port-errors-grow", "errors grow while the port is loaded", (Expect("fabric-errors", "{host}*"),),
        inject_command=f"f={IB}/hw_counters/out_of_sequence; cp $f /run/lab-fault-errors; systemd-run --quiet "
                       f"--unit lab-fault-errors sh -c 'n=1; while sleep 0.2; do n=$((n+7)); echo $n > {IB}/"
                       "hw_counters/out_of_sequence; done'",
        clear_command=f"systemctl stop lab-fault-errors; [ ! -e /run/lab-fault-errors ] || "
                      f"cat /run/lab-fault-errors > {IB}/hw_counters/out_of_sequence",
    ),
    SlowPort("node-half-rate", "one node reaches half the rate", BANDWIDTH, fabric=True, target="gpu-node-05"),
    SlowLink("link-slow", "one path between two nodes carries less than half",
             (Expect("pair-bandwidth", "*{host}*gpu-node-06*"), Expect("fabric-errors", "{host}*", required=False)),
             fabric=True),
    CommandFault("packet-loss", "one node loses every twentieth packet of the bandwidth run", BANDWIDTH, fabric=True,
                 inject_command="nft add table ip labfault && nft add chain ip labfault in "
                                "'{ type filter hook input priority 0; }' && nft add rule ip labfault in meta l4proto "
                                "tcp tcp dport 5201-5232 numgen inc mod 20 == 0 drop && nft add rule ip labfault in "
                                "tcp sport 5201-5232 numgen inc mod 20 == 0 drop",
                 clear_command="nft delete table ip labfault 2>/dev/null || true"),
)

if _kernel_offers("sch_netem"):
    FAULTS += (
        Netem("netem-doubles", "the switch delivers every packet twice", (Expect("reachability", "{host}"),),
              fabric=True, words="duplicate 100%"),
        Netem("netem-slow", "the switch delivers at a quarter of the rate, and late", BANDWIDTH, fabric=True,
              words="delay 5ms rate {rate}"),
    )
