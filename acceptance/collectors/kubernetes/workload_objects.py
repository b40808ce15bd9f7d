"""What a run of workloads consists of on the cluster, made from `workloads/` and the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acceptance.collectors.kubernetes.objects import labels
from acceptance.collectors.kubernetes.projections import GPU
from acceptance.errors import Unmeasured
from acceptance.measure.documents import asked

if TYPE_CHECKING:
    from acceptance.site.contract import Contract

FOLDER = Path(__file__).parents[3] / "workloads"
SEVERAL = "several.py"
SHARED = "ranks.py"  # which every workload imports
MARGIN_S = 60.0  # after which Kubernetes ends the pods of a suite that is gone
# check → workload, in this order, as one that fails ends those after it
FIRST = {"gemm": "gemm", "memcpy": "memcpy", "nccl-allreduce": "allreduce", "ddp-training": "ddp"}
KINDS = {"ConfigMap": "configmaps", "Service": "services", "Job": "jobs", "PyTorchJob": "pytorchjobs"}
Raw = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Workloads that run in the same pods, one after another, and how long they may take once all have started."""

    name: str
    workloads: tuple[str, ...]
    seconds: float

    @property
    def text(self) -> str:
        """In words."""
        return " and ".join((", ".join(self.workloads[:-1]), self.workloads[-1])) if len(self.workloads) > 1 else (
            self.workloads[0])


def seconds_of(contract: Contract, workload: str) -> float:
    """How long a workload may take, by contract."""
    limits = contract.performance.deadlines
    if workload == "burnin":
        return asked.burn_in_seconds(contract) + limits.burn_in_margin_seconds
    return {"gemm": limits.gemm_seconds, "memcpy": limits.memcpy_seconds, "allreduce": limits.collectives_seconds,
            "ddp": limits.training_seconds}[workload]


def runs_of(contract: Contract, workloads: Sequence[str]) -> list[Run]:
    """The runs that these workloads need: one each, or one for all."""
    groups = [tuple(workloads)] if contract.performance.pods.together else [(one,) for one in workloads]
    return [Run(f"acceptance-{'-'.join(group) if len(group) < 2 else 'workloads'}", group,
                sum(seconds_of(contract, one) for one in group)) for group in groups]


@dataclass(frozen=True)
class Manifest:
    """The objects of one run. `nodes` are where its pods may run, one each; `factor` stretches deadlines."""

    contract: Contract
    run: Run
    run_id: str
    nodes: tuple[str, ...]
    factor: float = 1.0

    @property
    def marks(self) -> dict[str, str]:
        """The labels of all its objects, which are on no others, those of a run before it included."""
        return labels(self.run_id, self.run.name)

    @cached_property
    def words(self) -> list[str]:
        """The script that torchrun starts, and its arguments."""
        wait_s = self.factor * max(300.0, self.contract.performance.deadlines.start_seconds)
        turns = [[f"{one}.py", *asked.arguments(self.contract, one, wait_s)] for one in self.run.workloads]
        return turns[0] if len(turns) == 1 else _several(turns)

    def files(self) -> dict[str, str]:
        """What the ConfigMap holds. Raises Unmeasured."""
        names = [f"{one}.py" for one in self.run.workloads] + [SHARED] + [SEVERAL] * (len(self.run.workloads) > 1)
        try:
            found = {name: (FOLDER / name).read_text(encoding="utf-8") for name in names}
        except OSError as error:
            raise Unmeasured(f"{FOLDER}: {error.strerror}; expected the workloads of this checkout") from None
        import pynvml  # which images need not have

        return found | {"pynvml.py": Path(str(pynvml.__file__)).read_text(encoding="utf-8")}

    def objects(self) -> list[tuple[str, Raw]]:
        """The objects in the order in which they are made, each with its kind in the API. Raises Unmeasured."""
        import jinja2
        import yaml

        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER / "manifests"),
                                         undefined=jinja2.StrictUndefined, autoescape=False)
        kind = self.contract.performance.pods.kind.lower()
        try:
            text = environment.get_template(f"{kind}.yaml.j2").render(self._values())
        except jinja2.TemplateNotFound as error:
            raise Unmeasured(f"{FOLDER / 'manifests'}: there is no {error}") from None
        return [(KINDS[one["kind"]], one) for one in yaml.safe_load_all(text)]

    def _values(self) -> Raw:
        pods, work = self.contract.performance.pods, self.contract.performance
        limits = {GPU: str(self.contract.gpu.count)}
        if pods.rdma_resource:
            limits[pods.rdma_resource] = str(pods.rdma_count)
        deadline_s = self.factor * (work.deadlines.start_seconds + self.run.seconds) + MARGIN_S
        return {
            "name": self.run.name, "namespace": pods.namespace, "labels": self.marks, "image": pods.image,
            "launcher": pods.launcher, "files": self.files(), "script": self.words[0], "arguments": self.words[1:],
            "pods": len(self.nodes), "ranks": self.contract.gpu.count, "nodes": list(self.nodes), "port": pods.port,
            "deadline_s": round(deadline_s), "resources": {"limits": limits, "requests": dict(pods.requests)},
            "capabilities": pods.capabilities, "security": {"seccompProfile": {"type": "RuntimeDefault"}},
            "shm_mib": pods.shm_mib, "env": asked.environment(self.contract), "volumes": pods.volumes,
            "mounts": pods.mounts}


def _several(turns: Sequence[Sequence[str]]) -> list[str]:
    """All of them as arguments of `several.py`."""
    words = [SEVERAL, *turns[0]]
    for turn in turns[1:]:
        words += ["--", *turn]
    return words
