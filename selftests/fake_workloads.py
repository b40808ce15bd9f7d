"""The cluster in memory, with Jobs: their pods take a node each, and print what the healthy workloads would have."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from selftests.fake_cluster import FakeCluster
from selftests.synthetic import SITE
from selftests.workload_documents import healthy, printed

Raw = dict[str, Any]
SPACE = SITE.contract.performance.pods.namespace
PULL = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}


@dataclass
class WorkloadCluster(FakeCluster):
    """`makes_pods`: the Job's controller does. `ends` is how the pod of a number ends where it fails: exit status and
    log. `hangs` are pods that run on; `pulls` is whether there is an image. `spoilt` changes what the first pod prints.
    `warnings` are events."""

    makes_pods: bool = True
    ends: dict[int, tuple[int, str]] = field(default_factory=dict)
    hangs: tuple[int, ...] = ()
    pulls: bool = True
    spoilt: Callable[[str], str] = str
    warnings: list[Raw] = field(default_factory=list)
    jobs: list[Raw] = field(default_factory=list)
    files: list[Raw] = field(default_factory=list)

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if path.endswith("/events"):
            return 200, self._listed(self.warnings)
        return super()._answer(method, path, query, body)

    def _create(self, space: str, kind: str, body: Raw) -> tuple[int, Any]:
        status, made = super()._create(space, kind, body)
        if status == 201 and kind in ("jobs", "pytorchjobs"):
            self.jobs.append(copy.deepcopy(body))
            if self.makes_pods:
                self._make_pods(kind, body)
        if kind == "configmaps":
            self.files.append(copy.deepcopy(body))
        return status, made

    def _make_pods(self, kind: str, body: Raw) -> None:
        name, spec = body["metadata"]["name"], body["spec"]
        if kind == "jobs":
            templates = [(f"{name}-{number}-x7k2p", spec["template"]) for number in range(spec["completions"])]
        else:
            templates = [(f"{name}-{role.lower()}-{number}", one["template"])
                         for role, one in spec["pytorchReplicaSpecs"].items() for number in range(one["replicas"])]
        for number, (pod, template) in enumerate(templates):
            one = copy.deepcopy(template)
            one["metadata"] = {"name": pod, "labels": dict(one["metadata"]["labels"]), "number": number}
            super()._create(body["metadata"]["namespace"], "pods", one)
        self._go_on(body)

    def _go_on(self, job: Raw) -> None:
        """All pods of a job run at once, or those that can wait for the others."""
        marks = job["metadata"]["labels"].items()
        pods = [one for (space, kind, _), one in self.objects.items()
                if (space, kind) == (SPACE, "pods") and marks <= one["metadata"]["labels"].items()]
        if any(one["status"]["phase"] == "Pending" for one in pods):
            return
        for one in pods:
            number = one["metadata"]["number"]
            if number not in self.hangs:
                code, log = self.ends.get(number, (0, self._log(number, job)))
                ended = {"exitCode": code, "reason": "Error" if code else "Completed"}
                status = {"name": "worker", "restartCount": 0, "state": {"terminated": ended}}
                one["status"] |= {"phase": "Failed" if code else "Succeeded", "containerStatuses": [status]}
                one["log"] = log

    def _log(self, number: int, job: Raw) -> str:
        if number or self.ends:
            return "nothing\n"
        words = workload_words(job)
        return self.spoilt(printed(*(healthy(word.removesuffix(".py")) for word in words if word.endswith(".py")
                                     and word != "several.py"), before="[default0]:"))

    def _run(self, one: Raw, container: Raw) -> None:
        if one["metadata"]["namespace"] != SPACE:
            super()._run(one, container)
        elif not self.pulls:
            one["status"] = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": PULL}}]}
        else:
            one["log"] = ""


def workload_words(job: Raw) -> list[str]:
    """What torchrun is told."""
    spec = job["spec"]
    pod = spec["template"] if "template" in spec else spec["pytorchReplicaSpecs"]["Master"]["template"]
    return list(pod["spec"]["containers"][0]["args"])
