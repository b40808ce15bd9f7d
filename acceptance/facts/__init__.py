"""Node facts: what was read on every host, typed, each section measured or not, never guessed.

    node.cpu.sockets          the value, or Unmeasured with the reason: host down, section failed, malformed answer
    cluster.of("gpu_nodes")   the nodes of one inventory group
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from acceptance.errors import Unmeasured
from acceptance.facts import sections as s
from acceptance.facts.gpu import GpuFacts, GpuProcess, Nvml
from acceptance.facts.sections import Section

__all__ = ["Cluster", "GpuFacts", "GpuProcess", "NodeFacts", "Nvml", "Section"]

PROBE_FORMAT = 1

Model = TypeVar("Model", bound=Section)


class Exchange(Section):
    """When the operator's host asked and when it had the answer, by the operator's clock."""

    sent_epoch_s: float
    received_epoch_s: float


class NodeFacts:
    """Facts of one host. Every section raises Unmeasured, with the reason, where it could not be measured.

    `reason` is None when the host answered; `evidence_id` names the record the facts come from.
    """

    def __init__(
        self, name: str, groups: tuple[str, ...] = (), address: str = "", document: Mapping[str, Any] | None = None,
        reason: str | None = None, evidence_id: str = "",
    ) -> None:
        self.name = name
        self.groups = tuple(groups)
        self.address = address
        self.evidence_id = evidence_id
        self.document, self.reason = _usable(document, reason)

    @classmethod
    def from_document(
        cls, name: str, groups: tuple[str, ...], address: str, document: Mapping[str, Any] | None,
        reason: str | None, evidence_id: str,
    ) -> NodeFacts:
        """Facts of a host from the probe's document, or, without one, the reason why there is none."""
        return cls(name, groups, address, document, reason, evidence_id)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"NodeFacts({self.name!r}, evidence_id={self.evidence_id!r})"

    @property
    def answered(self) -> bool:
        """Whether the host gave a usable answer at all."""
        return self.document is not None

    def subject(self, gpu: GpuFacts) -> str:
        """How a GPU of this host is called in findings: "gpu-node-03/gpu2"."""
        return f"{self.name}/{gpu.label}"

    def section(self, name: str, model: type[Model]) -> Model:
        """One section as its model. Raises Unmeasured: host without answer, section failed, missing or malformed."""
        if self.document is None:
            raise Unmeasured(f"{self.name}: no facts: {self.reason}")
        entry = self.document["sections"].get(name)
        if not isinstance(entry, dict):
            raise Unmeasured(f"{self.name}: {name}: the probe gave no such section")
        if entry.get("ok") is not True:
            raise Unmeasured(f"{self.name}: {name}: {entry.get('error') or 'failed, and gave no reason'}")
        return self._validated(name, model, entry.get("data"))

    def _validated(self, name: str, model: type[Model], data: Any) -> Model:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join([name, *(str(part) for part in first["loc"])])
            raise Unmeasured(f"{self.name}: {where}: malformed answer of the probe: {first['msg']}") from None

    @cached_property
    def identity(self) -> s.Identity:
        return self.section("identity", s.Identity)

    @cached_property
    def os(self) -> s.Os:
        return self.section("os", s.Os)

    @cached_property
    def cpu(self) -> s.Cpu:
        return self.section("cpu", s.Cpu)

    @cached_property
    def memory(self) -> s.Memory:
        return self.section("memory", s.Memory)

    @cached_property
    def disks(self) -> s.Disks:
        return self.section("disks", s.Disks)

    @cached_property
    def net(self) -> s.Net:
        return self.section("net", s.Net)

    @cached_property
    def rdma(self) -> s.Rdma:
        return self.section("rdma", s.Rdma)

    @cached_property
    def qos(self) -> s.Qos:
        return self.section("qos", s.Qos)

    @cached_property
    def nvml(self) -> Nvml:
        return self.section("nvml", Nvml)

    @property
    def gpus(self) -> list[GpuFacts]:
        """The GPUs that NVML lists."""
        return self.nvml.gpus

    @cached_property
    def nvidia_smi(self) -> s.NvidiaSmi:
        return self.section("nvidia_smi", s.NvidiaSmi)

    @cached_property
    def topology(self) -> s.Topology:
        return self.section("topology", s.Topology)

    @cached_property
    def kernel_log(self) -> s.KernelLog:
        return self.section("kernel_log", s.KernelLog)

    @cached_property
    def kernel(self) -> s.Kernel:
        return self.section("kernel", s.Kernel)

    @cached_property
    def limits(self) -> s.Limits:
        return self.section("limits", s.Limits)

    @cached_property
    def services(self) -> s.Services:
        return self.section("services", s.Services)

    @cached_property
    def sshd(self) -> s.Sshd:
        return self.section("sshd", s.Sshd)

    @cached_property
    def firewall(self) -> s.Firewall:
        return self.section("firewall", s.Firewall)

    @cached_property
    def accounts(self) -> s.Accounts:
        return self.section("accounts", s.Accounts)

    @cached_property
    def time(self) -> s.Time:
        return self.section("time", s.Time)

    @property
    def resolve(self) -> dict[str, list[str]]:
        """IPv4 addresses by name as this host resolves them; an empty list: the name is unknown here."""
        return self.section("resolve", s.Resolve).names

    @property
    def clock_difference_s(self) -> float:
        """How far this clock is from the operator's, at least: 0 when its reading lies between question and answer.

        Positive: this clock is ahead. Raises Unmeasured.
        """
        epoch = self.time.epoch_s
        assert self.document is not None  # self.time would have raised
        exchange = self._validated("operator", Exchange, self.document.get("operator"))
        return max(epoch - exchange.received_epoch_s, 0.0) - max(exchange.sent_epoch_s - epoch, 0.0)


def _usable(document: Mapping[str, Any] | None, reason: str | None) -> tuple[Mapping[str, Any] | None, str | None]:
    if document is None:
        return None, reason or "the host was not asked"
    if reason is not None:
        return None, reason
    if not isinstance(document, Mapping) or type(document.get("probe")) is not int:
        return None, "the probe's answer is no document of the probe"
    if document["probe"] != PROBE_FORMAT:
        return None, f"the probe's answer has format {document['probe']}, expected {PROBE_FORMAT}"
    if not isinstance(document.get("sections"), dict):
        return None, "the probe's answer holds no sections"
    return document, None


class Cluster:
    """The facts of all hosts, in the inventory's order."""

    def __init__(self, nodes: Mapping[str, NodeFacts]) -> None:
        self.nodes = dict(nodes)

    def of(self, group: str) -> list[NodeFacts]:
        """Nodes of an inventory group; "all" are all of them."""
        return [node for node in self.nodes.values() if group == "all" or group in node.groups]

    def __iter__(self) -> Iterator[NodeFacts]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> NodeFacts:
        return self.nodes[name]
