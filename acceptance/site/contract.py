"""The contract: what the client bought, as typed models of `site.yaml`.

Units stand in field names (`memory_mib`, `min_gbps`). Every expected value of every check comes from here.
Unknown keys are refused with the nearest known name. A contract may start with `extends: FILE` and then states only
what differs; mappings are merged key by key, everything else is replaced.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from acceptance.site.base import Count, Model, Percent, Positive
from acceptance.site.kubernetes import Kubernetes
from acceptance.site.performance import Performance


class SiteName(Model):
    """Which cluster this is, for whom, and whether it is real."""

    name: str
    client: str
    environment: Literal["production", "lab"]


class Ssh(Model):
    """How hosts are reached. The key is an ed25519 private key of mode 0600; host keys are pinned in known_hosts.

    `deadline_factor` multiplies every deadline of collecting, for hosts that are slow.
    """

    user: str
    private_key: str
    known_hosts: str
    port: int = 22
    connect_timeout_s: Positive
    command_timeout_s: Positive
    deadline_factor: Annotated[float, Field(ge=1, le=100)] = 1


class Fabric(Model):
    """The 100 GbE port of every GPU node and what it must carry."""

    interface: str
    speed_mbps: Count
    mtu: Annotated[int, Field(ge=1280, le=9216)]
    max_carrier_changes: int
    vlan_id: Annotated[int, Field(ge=1, le=4094)]
    vlan_mode: Literal["access", "tagged"]
    pair_min_gbps: Positive
    rdma_pair_min_gbps: Positive
    bandwidth_seconds: Count
    bandwidth_omit_seconds: Annotated[int, Field(ge=0, le=60)]
    bandwidth_processes: Count
    pair_symmetry_percent: Percent


class Rdma(Model):
    """RoCE settings of the fabric port. Priorities are 802.1p priorities, 0 to 7.

    `message_bytes` and `queue_pairs` are how ib_write_bw measures.
    """

    device: str
    active_mtu: Literal[256, 512, 1024, 2048, 4096]
    gid_type: Literal["RoCE v2"]
    trust: Literal["dscp", "pcp"]
    pfc_priorities: list[Annotated[int, Field(ge=0, le=7)]]
    ecn_priorities: list[Annotated[int, Field(ge=0, le=7)]]
    message_bytes: Annotated[int, Field(ge=4096)] = 1048576
    queue_pairs: Annotated[int, Field(ge=1, le=64)] = 4


class Network(Model):
    """Address ranges and the fabric."""

    node_range: IPv4Network
    pod_range: IPv4Network
    service_range: IPv4Network
    fabric: Fabric
    rdma: Rdma
    ping_count: Count


class Ldap(Model):
    """The directory. The password is read from the environment variable `password_env`, never from a file here."""

    url: Annotated[str, Field(pattern=r"^ldaps?://")]
    starttls: bool
    ca_file: str
    bind_dn: str
    password_env: str
    group_dn: str

    @model_validator(mode="after")
    def _encrypted(self) -> Ldap:
        if self.url.startswith("ldap://") and not self.starttls:
            raise ValueError("ldap:// without starttls would send passwords in clear; use ldaps:// or starttls: true")
        return self


class Time(Model):
    """Time servers and how far a clock may be off."""

    servers: Annotated[list[str], Field(min_length=1)]
    max_offset_ms: Positive
    max_host_difference_s: Positive


class Port(Model):
    """One permitted port (or range "first:last"), who may reach it, on which hosts it is open, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    port: int | Annotated[str, Field(pattern=r"^\d+:\d+$")]
    protocol: Literal["tcp", "udp"]
    source: Annotated[IPv4Network, Field(alias="from")]
    hosts: str
    reason: str


class Firewall(Model):
    """The whole rule set of a host: what is not listed is closed."""

    default_incoming: Literal["deny", "reject"]
    default_routed: Literal["allow", "deny", "reject", "disabled"]
    allow: Annotated[list[Port], Field(min_length=1)]
    probe_closed_port: Annotated[int, Field(ge=1024, le=65535)]


class Security(Model):
    """Who may log in and use sudo, and what the firewall lets in."""

    login_users: Annotated[list[str], Field(min_length=1)]
    sudo_users: Annotated[list[str], Field(min_length=1)]
    ssh_probe_user: str
    firewall: Firewall


class Host(Model):
    """The server itself."""

    os_id: str
    os_version: str
    vendor: str
    model: str
    sockets: Count
    cores_per_socket: Count
    memory_mib: Count
    memory_tolerance_percent: Percent
    min_disks: Count
    max_filesystem_used_percent: Percent
    filesystems: Annotated[list[str], Field(min_length=1)]


class Topology(Model):
    """NUMA node of each GPU by PCI bus id as NVML prints it, and of the fabric port."""

    gpus: dict[str, int]
    fabric_numa_node: int


class Gpu(Model):
    """The GPUs of one node."""

    count: Count
    name: str
    memory_mib: Count
    min_driver: str
    min_cuda: str
    asset_list: str | None
    ecc: bool
    max_corrected_volatile: int
    max_corrected_aggregate: int
    pcie_generation: Count
    pcie_width: Count
    persistence: bool
    mig: bool
    power_limit_w: Positive
    nvlinks_active: int
    max_idle_temperature_c: Positive
    max_loaded_temperature_c: Positive
    topology: Topology

    @model_validator(mode="after")
    def _topology_complete(self) -> Gpu:
        if len(self.topology.gpus) != self.count:
            raise ValueError(f"topology lists {len(self.topology.gpus)} GPUs, but count is {self.count}")
        return self


class Kernel(Model):
    """Kernel settings of every GPU node; Xids that mean trouble. `memlock` is "unlimited", or bytes at least."""

    fatal_xids: Annotated[list[int], Field(min_length=1)]
    governor: str
    iommu: str
    numa_balancing: int
    memlock: Literal["unlimited"] | Annotated[int, Field(gt=0)]
    acs: bool
    forbidden_modules: list[str]


class Services(Model):
    """systemd units that are active and enabled: on all hosts, and on each group."""

    all: list[str]
    gpu_nodes: list[str]
    k8s_control: list[str]

    def of(self, groups: tuple[str, ...]) -> list[str]:
        """Units that a host of these groups must run."""
        return self.all + [unit for group in groups for unit in getattr(self, group, [])]


class StandIn(Model):
    """Something in a lab that is not the real thing, and what that means for the verdicts."""

    component: str
    real: str
    stand_in: str


class Contract(Model):
    """The whole of `site.yaml`."""

    site: SiteName
    inventory: str
    hosts: Annotated[dict[str, Count], Field(min_length=1)]
    ssh: Ssh
    tools: Annotated[dict[str, str], Field(min_length=1)]
    network: Network
    ldap: Ldap
    time: Time
    security: Security
    host: Host
    gpu: Gpu
    kernel: Kernel
    services: Services
    kubernetes: Kubernetes
    performance: Performance
    stand_ins: list[StandIn]
    not_measurable: dict[str, str]  # check → why this lab cannot measure it; the report says so in place of a verdict

    @model_validator(mode="after")
    def _only_in_a_lab(self) -> Contract:
        for key, value in (("stand_ins", self.stand_ins), ("not_measurable", self.not_measurable)):
            if value and self.site.environment == "production":
                raise ValueError(f"{key} are for a lab; this site says environment: production")
        if self.performance.pods.device == "cpu" and self.site.environment == "production":
            raise ValueError("performance.pods.device: cpu is for a lab; this site says environment: production")
        return self

    @model_validator(mode="after")
    def _workloads_apart(self) -> Contract:
        taken = {self.kubernetes.probes.namespace, *self.kubernetes.tenants.teams}
        if self.performance.pods.namespace in taken:
            raise ValueError(f"performance.pods.namespace: {self.performance.pods.namespace} is the probes' or a "
                             "team's; workloads need one of their own, as it admits more")
        return self

    def ports_of(self, groups: tuple[str, ...]) -> list[Port]:
        """Permitted ports of a host that belongs to these groups."""
        return [p for p in self.security.firewall.allow if p.hosts == "all" or p.hosts in groups]
