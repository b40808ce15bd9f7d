"""Faults of the cluster: what is changed through the API server, inside a host, or both, and when it has taken hold."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.faults.base import Expect, Fault
from lab.hosts import Lab

PHASES = "(phase3 or phase5) and not performance"
PERFORMANCE = "performance"  # takes minutes by itself: faults that it is not there to find are proven without
KUBECTL_S = 120.0
POLL_S = 1.0
OF_THE_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass(frozen=True)
class ClusterFault(Fault):
    """Broken by commands on the operator's host (`inject_command`), inside the target (`on_host`), or both.

    `objects` (words after `kubectl get`) are saved before, and put back when the fault is cleared: Helm's marks stay.
    `broken` and `mended` are shell conditions on the operator's host, waited for; `{host}` stands for the target.
    """

    target: str = "operator"
    phases: str = PHASES
    objects: tuple[str, ...] = ()
    inject_command: str = ""
    clear_command: str = ""
    on_host: str = ""
    on_host_clear: str = ""
    broken: str = ""
    mended: str = ""
    wait_s: float = 150

    def inject(self, lab: Lab, target: str) -> None:
        self._save(lab, target)
        if self.on_host:
            lab.host(target).run(self.on_host.replace("{host}", target), timeout=KUBECTL_S)
        if self.inject_command:
            lab.ops.run(self.inject_command.replace("{host}", target), timeout=KUBECTL_S)
        self._until(lab, self.broken, target, "has not taken hold")

    def clear(self, lab: Lab, target: str) -> None:
        self._put_back(lab, target)
        if self.on_host_clear:
            lab.host(target).run(self.on_host_clear.replace("{host}", target), timeout=KUBECTL_S)
        if self.clear_command:
            lab.ops.run(self.clear_command.replace("{host}", target), timeout=KUBECTL_S)
        self._until(lab, self.mended, target, "is not mended")

    def _saved(self, lab: Lab, target: str) -> Path:
        return lab.home / "faults" / f"{self.name}@{target}.json"

    def _save(self, lab: Lab, target: str) -> None:
        path = self._saved(lab, target)
        if not self.objects or path.exists():
            return
        found = [json.loads(lab.ops.run(f"kubectl get {words.replace('{host}', target)} -o json").stdout)
                 for words in self.objects]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([as_written(one) for one in found]))

    def _put_back(self, lab: Lab, target: str) -> None:
        path = self._saved(lab, target)
        if not path.exists():
            return
        for one in json.loads(path.read_text()):
            text = json.dumps(one)
            if lab.ops.run("kubectl replace -f -", stdin=text, check=False, timeout=KUBECTL_S).returncode:
                lab.ops.run("kubectl create -f -", stdin=text, timeout=KUBECTL_S)
        path.unlink()

    def _until(self, lab: Lab, condition: str, target: str, what: str) -> None:
        end = time.monotonic() + self.wait_s
        while condition:
            done = lab.ops.run(condition.replace("{host}", target), check=False, timeout=KUBECTL_S)
            if done.returncode == 0:
                return
            if time.monotonic() > end:
                said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
                raise LabError(f"{target}: fault {self.name} {what} after {self.wait_s:g} s: {said}")
            time.sleep(POLL_S)


def as_written(one: dict[str, Any]) -> dict[str, Any]:
    """An object without what the API server adds, so that it can be written again."""
    metadata = {key: value for key, value in one["metadata"].items() if key not in OF_THE_SERVER}
    return {**{key: value for key, value in one.items() if key != "status"}, "metadata": metadata}


def patch(words: str, change: Any, kind: str = "merge") -> str:
    """The command that patches an object."""
    return f"kubectl patch {words} --type={kind} -p {shlex.quote(json.dumps(change))}"


def apply(*objects: dict[str, Any]) -> str:
    """The command that makes objects."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    return f"printf %s {shlex.quote(text)} | kubectl apply -f -"


def delete(words: str) -> str:
    """The command that removes an object, if it is there, and waits until it is gone."""
    return f"kubectl delete {words} --ignore-not-found --timeout=60s"


def may(*pairs: tuple[str, str]) -> tuple[Expect, ...]:
    """Consequences that may show: check and subject."""
    return tuple(Expect(check, subject, required=False) for check, subject in pairs)


def gone(words: str) -> str:
    """The condition that no such object is left."""
    return f'[ -z "$(kubectl get {words} --ignore-not-found -o name)" ]'


# a node as the lab's GPU nodes are when all is well, in two looks: right after a restart the object is of before
SOUND = ("for look in 1 2 3; do [ \"$(kubectl get node {host} -o jsonpath='"
         '{.status.conditions[?(@.type=="Ready")].status}{.spec.unschedulable}{.status.allocatable.nvidia\\.com/gpu}'
         "')\" = True4 ] || exit 1; sleep 2; done")
# and its pods with it, whatever is broken elsewhere
PODS_SOUND = ("kubectl wait pod -A --all --field-selector spec.nodeName={host} --for=condition=Ready --timeout=30s "
              ">/dev/null")
