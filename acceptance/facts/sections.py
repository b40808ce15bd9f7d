"""What one host says of itself, section by section, as typed frozen models.

A value of None could not be read on that host; `errors` of the same model says why, by field name. A whole section
that could not be read has no model: asking `NodeFacts` for it raises Unmeasured.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from acceptance.errors import Unmeasured


class Section(BaseModel):
    """Base: strict about types and unknown keys, frozen, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Identity(Section):
    """Who the machine says it is. Vendor, product and serial are DMI's; None where DMI does not tell."""

    hostname: str
    boot_id: str
    uptime_s: float
    vendor: str | None
    product: str | None
    serial: str | None
    errors: dict[str, str]


class Os(Section):
    """/etc/os-release and the running kernel's release."""

    id: str
    version_id: str
    kernel: str


class Cpu(Section):
    """Sockets, physical cores and hardware threads; the distinct scaling governors of all cores, sorted.

    `governors` is None where a core has no readable governor.
    """

    model: str
    sockets: int
    cores: int
    threads: int
    numa_nodes: int
    governors: list[str] | None
    errors: dict[str, str]


class Memory(Section):
    """MemTotal of /proc/meminfo: what the kernel may use, a little less than what is fitted."""

    total_mib: int


class BlockDevice(Section):
    """One disk; partitions, loop and RAM devices are left out."""

    name: str
    size_bytes: int
    model: str | None


class Filesystem(Section):
    """One mounted file system that stores data; `used_percent` as df reckons it."""

    mount: str
    device: str
    type: str
    size_bytes: int
    used_percent: float


class Disks(Section):
    """Disks and mounted file systems. `errors` has an entry by mount point that did not answer."""

    block: list[BlockDevice]
    filesystems: list[Filesystem]
    errors: dict[str, str]


class Interface(Section):
    """One network interface. Speed and duplex are None where the driver gives none (or the link is down)."""

    mac: str
    mtu: int
    operstate: str
    speed_mbps: int | None
    duplex: str | None
    carrier_changes: int
    addresses: list[str]
    numa_node: int | None
    pci: str | None
    counters: dict[str, int]


class Vlan(Section):
    """One VLAN device of the host, by 802.1Q id and parent interface."""

    id: int
    parent: str


class LldpNeighbor(Section):
    """What the switch says through LLDP of the port that an interface is plugged into."""

    interface: str
    chassis: str | None
    port: str | None
    vlan_ids: list[int]


class Net(Section):
    """Interfaces by name, VLAN devices by name, and LLDP neighbours."""

    interfaces: dict[str, Interface]
    vlans: dict[str, Vlan]
    lldp_neighbors: list[LldpNeighbor] | None
    errors: dict[str, str]

    @property
    def lldp(self) -> list[LldpNeighbor]:
        """LLDP neighbours; raises Unmeasured, with the reason, where they could not be read."""
        if self.lldp_neighbors is None:
            raise Unmeasured(f"LLDP neighbours: {self.errors.get('lldp_neighbors', 'not read')}")
        return self.lldp_neighbors


class Gid(Section):
    """One entry of a port's GID table; empty entries are left out. `type` is "RoCE v2", "IB/RoCE v1", ..."""

    index: int
    gid: str
    type: str
    ndev: str | None


class RdmaPort(Section):
    """One port of an RDMA device: `state` "ACTIVE", `phys_state` "LinkUp", `link_layer` "Ethernet"."""

    state: str
    phys_state: str
    link_layer: str
    rate_gbps: float
    active_mtu: int | None
    gids: list[Gid]
    counters: dict[str, int]
    hw_counters: dict[str, int]


class RdmaDevice(Section):
    """One RDMA device; ports by number, as text. `netdev` is the interface of its first GID."""

    netdev: str | None
    numa_node: int | None
    firmware: str | None
    ports: dict[str, RdmaPort]


class Rdma(Section):
    """RDMA devices by name. `errors["active_mtu"]` says why active_mtu is None."""

    devices: dict[str, RdmaDevice]
    errors: dict[str, str]


class Qos(Section):
    """RoCE settings of the fabric interface: trust "dscp" or "pcp", 802.1p priorities with PFC, with ECN."""

    interface: str
    trust: str | None
    pfc_enabled: list[int] | None
    ecn_np: list[int] | None
    ecn_rp: list[int] | None
    errors: dict[str, str]


class SmiGpu(Section):
    """One line of nvidia-smi."""

    index: int
    name: str
    memory_mib: int
    uuid: str


class NvidiaSmi(Section):
    """What nvidia-smi says; must agree with NVML."""

    gpus: list[SmiGpu]


class Topology(Section):
    """NUMA node by GPU's PCI bus id (NVML's form) and by network interface, from sysfs; -1: the firmware gives none."""

    gpus: dict[str, int]
    nics: dict[str, int]


class LogEntry(Section):
    """One kernel message: syslog level 0 (emergency) to 7, seconds since boot, text."""

    level: int
    seconds: float
    text: str


class KernelLog(Section):
    """Kernel messages of level 4 or worse, and any that mention hardware errors.

    `since_boot` is False where older messages are gone: then what is not there proves nothing. `truncated` is True
    where messages on hardware had to be left out. Of other warnings the first 300 are kept.
    """

    since_boot: bool
    source: str
    truncated: bool
    records_read: int
    entries: list[LogEntry]


class Kernel(Section):
    """Settings of the running kernel.

    `iommu_mode` is "pt" (passthrough), "translated" or "off", from command line and kernel; `acs_enabled` are PCI
    bridges with a redirecting ACS control bit set, of `pci_bridges_read` bridges read.
    """

    cmdline: str
    numa_balancing: int | None
    modules: list[str] | None
    acs_enabled: list[str] | None
    pci_bridges_read: int | None
    iommu_mode: str | None
    errors: dict[str, str]


class Limits(Section):
    """Locked memory of a login session of the ssh user: "unlimited" or a number of bytes."""

    memlock_soft: str | int
    memlock_hard: str | int


class Unit(Section):
    """State of one systemd unit: ActiveState, SubState, UnitFileState ("" for none), LoadState."""

    active: str
    sub: str
    enabled: str
    load: str


class Services(Section):
    """The units that were asked for, by the name they were asked by, and all failed units."""

    units: dict[str, Unit]
    failed: list[str]


class Sshd(Section):
    """sshd's effective configuration (`sshd -T`); keys in lower case, repeated keys joined by blanks."""

    options: dict[str, str]


class FirewallRule(Section):
    """One rule in force. `port` is "22", "5201:5232" or "any"; `source` and `destination` a network, an
    address or "any"; `remark` is what else the rule says, "" for a plain one.
    """

    port: str
    protocol: str
    destination: str
    source: str
    action: str
    direction: str
    interface: str | None
    v6: bool
    remark: str


class Firewall(Section):
    """ufw as the kernel carries it out; `at_boot` whether it is turned on again after a reboot. The defaults are
    "allow", "deny" or "reject", those for IPv6 None in a kernel without it (`ipv6` false).
    """

    active: bool
    at_boot: bool
    ipv6: bool
    default_incoming: str
    default_routed: str
    default_incoming_v6: str | None
    default_routed_v6: str | None
    rules: list[FirewallRule]


class User(Section):
    """One account. `login` is whether its shell lets a person in; `password_locked` whether no password fits."""

    name: str
    uid: int
    shell: str
    login: bool
    password_locked: bool


class Accounts(Section):
    """Accounts, and everyone whom sudoers names: members of groups by name, "%group" where they
    cannot be told (a group of a directory service that does not answer).
    """

    users: list[User]
    sudoers: list[str]


class Chrony(Section):
    """chronyd's own view. `offset_s` is positive where the clock is ahead of the time server."""

    synchronised: bool
    stratum: int
    offset_s: float
    reference: str


class TimeSource(Section):
    """One time source: `state` "*" selected, "+" combined, "?" unreachable, ...; `reach` the last polls, as bits."""

    name: str
    state: str
    reach: int


class Time(Section):
    """The clock at the moment of reading, and chrony; `chrony` is None where chronyd does not answer."""

    epoch_s: float
    chrony: Chrony | None
    sources: list[TimeSource] | None
    errors: dict[str, str]


class Resolve(Section):
    """IPv4 addresses by name as this host resolves them; an empty list: the name is unknown here."""

    names: dict[str, list[str]]
