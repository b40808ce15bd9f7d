"""Pods that ask for GPUs, and pods that do not: who gets which, who has to wait, and who sees none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.in_pod import gpu_command
from acceptance.collectors.kubernetes import projections
from acceptance.collectors.kubernetes.objects import OWNER, labels, pod
from acceptance.collectors.kubernetes.owned import Key, Owned, Raw, at_once, phase, why_not
from acceptance.errors import ApiFailed
from acceptance.transport.kube import list_all

if TYPE_CHECKING:
    from acceptance.collect import Session

LIFE_S = 540
PATIENCE_POLLS = 20  # how often in a row the scheduler must be seen to find no place, before nobody waits longer
END = "end"
FREE: dict[str, dict[str, str]] = {"plain": {}, "all": {"NVIDIA_VISIBLE_DEVICES": "all"}}


@collector("kube-gpu-pods", purpose="running pods that ask for GPUs, and pods that do not", intrusive=True,
           deadline_s=480, kube=True)
def collect(session: Session) -> None:
    """Records "holders" (GPUs that others use), "sizes", "free" (pods without a GPU), "many" and "next"."""
    space = session.contract.kubernetes.probes.namespace
    count, nodes = session.contract.gpu.count, [host.name for host in session.hosts("gpu_nodes")]
    with Owned(session) as own:
        session.record("holders", document={"pods": holders(session)})
        tries = _Tries(session, own, space)
        session.record("sizes", document={"tries": tries.sizes((1, count, count + 1), count)})
        session.progress(1, 3, "pods of several sizes")
        session.record("free", document={"tries": tries.free(nodes)})
        session.progress(2, 3, "pods without a GPU")
        many, last = tries.fill(count * len(nodes))
        session.record("many", document={"tries": many})
        session.record("next", document=last)
        session.progress(3, 3, "every GPU taken, and one pod more")


def holders(session: Session) -> list[dict[str, Any]]:
    """Pods of others that hold GPUs, or wait for some. Raises ApiFailed."""
    listing = list_all(session.kube, "/api/v1/pods", project=projections.pod, deadline_s=20)
    return [one for one in listing.items if one["gpus"] and one["phase"] in ("Running", "Pending")
            and one["managed_by"] != OWNER]


class _Tries:
    def __init__(self, session: Session, own: Owned, space: str) -> None:
        self.session, self.own, self.space = session, own, space
        self.contract = session.contract.kubernetes.probes

    def body(self, name: str, gpus: int, node: str = "", env: dict[str, str] | None = None) -> Raw:
        return pod(f"acceptance-{name}", labels(self.session.run_id, "gpu", node), self.contract.gpu_image,
                   gpu_command(), node=node, gpus=gpus, env={"HOLD_S": str(LIFE_S), **(env or {})}, life_s=LIFE_S)

    def create(self, *bodies: Raw) -> list[Key]:
        self.own.create_all("pods", [(self.space, body) for body in bodies])
        return [(self.space, body["metadata"]["name"]) for body in bodies]

    def settled(self, keys: list[Key], waiting: set[Key]) -> dict[Key, Raw]:
        """The pods once each runs, has ended, is lost, or waits for a place: where it should not, for a while."""
        seen_waiting = 0

        def done(pods: dict[Key, Raw]) -> bool:
            nonlocal seen_waiting
            ended = {key: phase(pods.get(key)) in ("Running", "Failed", "Succeeded") or bool(
                self.own.lost(pods.get(key))) for key in keys}
            idle = all(ended[key] or refused(pods.get(key)) for key in keys)
            seen_waiting = seen_waiting + 1 if idle else 0
            return all(refused(pods.get(key)) if key in waiting else ended[key] for key in keys) or (
                seen_waiting >= PATIENCE_POLLS)

        return self.own.wait(done, self.contract.start_seconds + len(keys), self.space)

    def told(self, key: Key, one: Raw | None) -> dict[str, Any]:
        """What a pod is, and what it printed."""
        lost = self.own.lost(one)
        why = lost or ("" if phase(one) == "Running" else why_not(one))
        found: dict[str, Any] = {"phase": phase(one), "node": ((one or {}).get("spec") or {}).get("nodeName") or "",
                                 "why": why, "log": ""}
        for _ in range(20 if phase(one) == "Running" and not lost else 0):
            try:
                found["log"] = self.own.log(*key)
            except ApiFailed as problem:
                found["why"] = str(problem)
                break
            if END in found["log"].splitlines():
                break
            self.session.expired.wait(0.25)
        return found

    def all_told(self, keys: list[Key], pods: dict[Key, Raw]) -> list[dict[str, Any]]:
        """What several pods are and printed, in their order."""
        return at_once(lambda key: self.told(key, pods.get(key)), keys)

    def drop(self, keys: list[Key], pods: dict[Key, Raw]) -> None:
        at_once(lambda one: self.own.delete(self.space, "pods", one), [pods[key] for key in keys if key in pods])
        self.own.wait(lambda found: not set(keys) & set(found), self.contract.start_seconds, self.space)

    def sizes(self, sizes: tuple[int, ...], count: int) -> dict[str, Any]:
        """A pod of each size, one after the other's GPUs are free again."""
        found = {}
        for gpus in sizes:
            [key] = self.create(self.body(f"gpus-{gpus}", gpus))
            pods = self.settled([key], {key} if gpus > count else set())
            found[str(gpus)] = self.told(key, pods.get(key))
            self.drop([key], pods)
        return found

    def free(self, nodes: list[str]) -> dict[str, Any]:
        """Pods without a GPU on each node, with and without the variable that asks for all."""
        well, lost = self.own.nodes.split(nodes)
        places = [(node, kind) for node in well for kind in FREE]
        keys = self.create(*(self.body(f"free-{kind}-{node}", 0, node, FREE[kind]) for node, kind in places))
        pods = self.settled(keys, set())
        absent = {"phase": "absent", "node": "", "log": ""}
        found: dict[str, Any] = {node: {kind: absent | {"why": why} for kind in FREE} for node, why in lost.items()}
        for (node, kind), told in zip(places, self.all_told(keys, pods), strict=True):
            found.setdefault(node, {})[kind] = told
        self.drop(keys, pods)
        return found

    def fill(self, total: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """As many one-GPU pods as there are GPUs; then one more, which waits until one of them is gone."""
        keys = self.create(*(self.body(f"one-{number:03}", 1) for number in range(1, total + 1)))
        pods = self.settled(keys, set())
        many = {name: told for (_, name), told in zip(keys, self.all_told(keys, pods), strict=True)}
        running = [key for key in keys if phase(pods.get(key)) == "Running"]
        if len(running) < total:
            return many, {"waited": None, "why": "not every pod before it has its GPU", "freed": None}
        [last] = self.create(self.body("one-more", 1))
        waiting = self.settled([last], {last}).get(last)
        found = {"waited": refused(waiting), "why": why_not(waiting), "freed": running[0][1]}
        if found["waited"]:
            self.drop(running[:1], pods)
            after = self.settled([last], set()).get(last)
            found["after"] = self.told(last, after)
        return many, found


def refused(one: Raw | None) -> bool:
    """Whether the scheduler has said that it finds no place for a pod."""
    conditions = ((one or {}).get("status") or {}).get("conditions") or []
    return phase(one) == "Pending" and any(
        each["type"] == "PodScheduled" and each["status"] == "False" and each.get("reason") == "Unschedulable"
        for each in conditions)
