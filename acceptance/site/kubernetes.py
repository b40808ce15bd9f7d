"""The contract's section `kubernetes`: the cluster, its add-ons, its tenants, and who may do and reach what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from acceptance.site.access import Flows, Rbac
from acceptance.site.base import Count, Model, Percent, Positive

Names = Annotated[list[str], Field(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Level = Literal["baseline", "restricted"]


class Etcd(Model):
    """etcd on the hosts of k8s_control: where it answers there, and what it may take.

    The p99 are judged since its start and, where at least `min_observations` were made meanwhile, over the last
    `sample_seconds`.
    """

    client_port: Port
    metrics_url: Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:\d+$")]
    ca_file: str
    cert_file: str
    key_file: str
    max_fsync_p99_ms: Positive
    max_commit_p99_ms: Positive
    max_db_percent: Percent
    sample_seconds: Annotated[int, Field(ge=1, le=60)]
    min_observations: Count


class Certificates(Model):
    """How long certificates must last, and where they are: TLS ports and files by inventory group (or all).

    `api_server_names` are names that the API server's certificate must hold, beside its addresses.
    """

    min_days: Positive
    api_server_names: Names
    ports: Annotated[dict[str, list[Port]], Field(min_length=1)]
    files: Annotated[dict[str, list[str]], Field(min_length=1)]


class Workload(Model):
    """A DaemonSet on the hosts of a group (or all), or a Deployment of so many replicas."""

    kind: Literal["DaemonSet", "Deployment"]
    namespace: str
    name: str
    hosts: str | None = None
    replicas: Count | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Workload:
        if (self.kind == "DaemonSet") != (self.hosts is not None) or (self.hosts is None) == (self.replicas is None):
            raise ValueError(f"{self.name}: a DaemonSet has `hosts`, a Deployment `replicas`")
        return self

    @property
    def subject(self) -> str:
        """How findings call it."""
        return f"{self.namespace}/{self.name}"


class Cni(Model):
    """The pod network: its DaemonSet, the pods' MTU, and the names of the pods' interfaces on a host (a shell pattern).

    `overhead_bytes` is what the encapsulation adds to a packet: 50 for VXLAN, 20 for IP in IP, 0 without.
    """

    daemonset: Workload
    pod_mtu: Annotated[int, Field(ge=1280, le=9216)]
    overhead_bytes: Annotated[int, Field(ge=0, le=200)]
    host_interfaces: str


class Dns(Model):
    """The cluster's name service; `external_names` are names outside that every pod must be able to resolve."""

    namespace: str
    service: str
    deployment: Workload
    domain: str
    external_names: Names


class GpuOperator(Model):
    """The GPU Operator: its policy, its DaemonSets on every GPU node, and the labels that they give to the nodes."""

    namespace: str
    policy: str
    daemonsets: Names
    node_labels: Annotated[dict[str, str], Field(min_length=1)]


class Storage(Model):
    """The default StorageClass, and the size of the claim that is tried on it."""

    default_class: str
    claim_mib: Count


class Probes(Model):
    """Pods that the suite runs, in a namespace of its own and in those of the tenants.

    `image` has python3 and `gpu_image` has sh and nvidia-smi; `start_seconds` is how long a pod may take to start.
    """

    namespace: str
    image: str
    gpu_image: str
    service_account: str
    start_seconds: Positive
    connect_seconds: Positive


class Defaults(Model):
    """What a LimitRange gives to a container that asks for nothing."""

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str


class Team(Model):
    """One tenant: labels of its namespace, its GPUs, and the group of the directory whose members work there."""

    labels: Annotated[dict[str, str], Field(min_length=1)]
    gpus: Count
    group: str


class Tenants(Model):
    """The teams' namespaces, and what each of them holds: quota, LimitRange, policies, role and binding, by name."""

    pod_security: Level
    quota: str
    limit_range: str
    policies: Names
    role: str
    container_defaults: Defaults
    teams: Annotated[dict[str, Team], Field(min_length=1)]


class Kubernetes(Model):
    """The cluster: its version, and the name and port under which everybody reaches its API server.

    `kubeconfig` is of the suite's own, least privileged user.
    `allowed_taints` are the taints that nodes of an inventory group have, as "key:effect" or "key=value:effect".
    """

    version: Annotated[str, Field(pattern=r"^1\.\d+\.\d+$")]
    control_plane_endpoint: Annotated[str, Field(pattern=r"^[a-z0-9.-]+:\d+$")]
    kubeconfig: str
    min_version: str
    max_minors_behind: Annotated[int, Field(ge=0, le=3)]
    api_port: Port
    max_restarts: Annotated[int, Field(ge=0)]
    max_metrics_age_s: Positive
    allowed_taints: dict[str, list[str]]
    etcd: Etcd
    certificates: Certificates
    workloads: Annotated[list[Workload], Field(min_length=1)]
    cni: Cni
    dns: Dns
    gpu_operator: GpuOperator
    storage: Storage
    probes: Probes
    tenants: Tenants
    rbac: Rbac
    flows: Flows

    @model_validator(mode="after")
    def _tenants_are_judged(self) -> Kubernetes:
        teams = set(self.tenants.teams)
        judged = {"rbac.namespaces": self.rbac.namespaces, "flows.destinations": self.flows.destinations}
        for place, names in judged.items():
            if teams - set(names):
                raise ValueError(f"{place} leaves out {', '.join(sorted(teams - set(names)))}")
        known = teams | {self.probes.namespace}
        unknown = {*self.flows.sources, *self.flows.destinations} - known
        if unknown:
            raise ValueError(f"flows: {', '.join(sorted(unknown))}: neither a team nor the probes' namespace")
        return self
