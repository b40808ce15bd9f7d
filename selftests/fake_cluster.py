"""A cluster in memory behind the API: pods are placed, get GPUs and addresses, and their output is made up."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from acceptance.collectors.kubernetes.projections import GPU
from acceptance.transport.kube import Answer, Attempt, Method, Query
from selftests.synthetic import SITE
from selftests.synthetic_kubernetes import K8S, gpu_log

Raw = dict[str, Any]
_PATH = re.compile(r"/(?:api|apis/[a-z0-9.-]+)/v1/namespaces/([^/]+)/([^/]+)(?:/([^/]+)(/log)?)?")
NO_PLACE = "0/9 nodes are available: 1 node(s) had untolerated taint, 8 Insufficient nvidia.com/gpu."


def own_only(source: str, destination: str) -> bool:
    """The contracted flows: within a team's namespace, and between the probes' own pods."""
    return source == destination


@dataclass
class FakeCluster:
    """`allowed` says which namespace reaches which, `lost` are GPUs that no pod gets; `before` may answer a request in
    the cluster's place. Of nodes, `down` are not Ready, `absent` are none, and `stuck` start no pod and seem well."""

    allowed: Callable[[str, str], bool] = own_only
    lost: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    before: Callable[[str, str], Answer | None] = lambda method, path: None
    objects: dict[tuple[str, str, str], Raw] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    token: str = ""
    number: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    secrets: list[str] = field(default_factory=list)

    def request(self, method: Method, path: str, *, deadline_s: float, query: Query = (), body: Any = None,
                headers: Mapping[str, str] | None = None, server: str | None = None, json: bool = True,
                retries: int | None = None) -> Answer:
        """See `Kube.request`."""
        del headers, server, retries
        assert deadline_s > 0
        with self.lock:
            answer = self.before(method, path)
            if answer is not None:
                return answer
            status, data = self._answer(method, path, dict(query), copy.deepcopy(body))
        text = data if isinstance(data, str) else ""
        attempt = Attempt(status, "" if status < 300 else str(data), 0.0)
        return Answer(method, path, status, text, copy.deepcopy(data) if json else None, (attempt,))

    def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if path == "/api/v1/pods":
            return 200, self._listed([one for (_, kind, _), one in self.objects.items() if kind == "pods"])
        if path == "/api/v1/nodes":
            return 200, self._listed([self._node(host.name) for host in SITE.hosts if host.name not in self.absent])
        found = _PATH.fullmatch(path)
        assert found, path
        space, kind, name, log = found.groups()
        if method == "POST":
            return self._create(space, kind, body)
        if method == "PUT":
            return self._replace((space, kind, name), body)
        if name is None:
            wanted = dict(word.split("=") for word in query["labelSelector"].split(","))
            return 200, self._listed([one for (s, k, _), one in self.objects.items() if (s, k) == (space, kind)
                                      and wanted.items() <= one["metadata"]["labels"].items()])
        one = self.objects.get((space, kind, name))
        if one is None:
            return 404, {"message": f"{kind} {name} not found"}
        if method == "DELETE":
            if not body["preconditions"].items() <= one["metadata"].items():
                return 409, {"message": "the uid differs"}
            del self.objects[space, kind, name]
            self.deleted.append(f"{space}/{kind}/{name}")
            self._place_all()
            return 200, {"kind": "Status"}
        return (200, one["log"]) if log else (200, one)

    def _listed(self, items: list[Raw]) -> Raw:
        return {"kind": "List", "metadata": {}, "items": items}

    def _node(self, name: str) -> Raw:
        ready: Raw = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        if name in self.down:
            ready |= {"status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting status."}
        return {"metadata": {"name": name}, "status": {"conditions": [ready]}}

    def _replace(self, at: tuple[str, str, str], body: Raw) -> tuple[int, Any]:
        one = self.objects.get(at)
        if one is None:
            return 404, {"message": f"{at[1]} {at[2]} not found"}
        if body["metadata"]["resourceVersion"] != one["metadata"]["resourceVersion"]:
            return 409, {"message": "the object has been modified"}
        self.number += 1
        body["metadata"] |= {"uid": one["metadata"]["uid"], "resourceVersion": str(self.number)}
        self.objects[at] = body | {"status": one["status"]}
        return 200, self.objects[at]

    def _create(self, space: str, kind: str, body: Raw) -> tuple[int, Any]:
        at = (space, kind, body["metadata"]["name"])
        if at in self.objects:
            return 409, {"message": "already exists"}
        self.number += 1
        body["metadata"] |= {"uid": f"uid-{self.number}", "namespace": space, "resourceVersion": str(self.number)}
        if kind == "services":
            body["spec"].setdefault("clusterIP", f"10.96.7.{self.number}")
        body["status"] = {"phase": "Bound" if kind == "persistentvolumeclaims" else "Pending"}
        self.objects[at] = body
        self._place_all()
        return 201, body

    def _place_all(self) -> None:
        for (_, kind, _), one in self.objects.items():
            if kind == "pods" and one["status"]["phase"] == "Pending":
                self._place(one)

    def _held(self, node: str) -> list[str]:
        return [uuid for one in self.objects.values() if one.get("gpus_on") == node for uuid in one["uuids"]]

    def _place(self, one: Raw) -> None:
        container = one["spec"]["containers"][0]
        gpus = int(container["resources"]["limits"].get(GPU, 0))
        pinned = one["spec"].get("nodeSelector", {}).get("kubernetes.io/hostname")
        for host in SITE.group("all" if pinned else "gpu_nodes"):
            free = [f"GPU-{host.name}-{n}" for n in range(4)] if "gpu_nodes" in host.groups else []
            free = [uuid for uuid in free if uuid not in (*self.lost, *self._held(host.name))]
            if pinned in (None, host.name) and len(free) >= gpus and host.name not in (*self.down, *self.absent):
                one |= {"gpus_on": host.name, "uuids": free[:gpus]}
                one["spec"]["nodeName"] = host.name
                address = f"10.244.9.{one['metadata']['uid'][4:]}"
                if host.name in self.stuck:
                    return
                one["status"] = {"phase": "Running", "podIP": address, "conditions": [], "containerStatuses": []}
                self._run(one, container)
                return
        one["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                        "message": NO_PLACE}]

    def _run(self, one: Raw, container: Raw) -> None:
        env = {each["name"]: each.get("value", "") for each in container["env"]}
        script = container["command"][-1]
        one["log"] = gpu_log(one["uuids"])
        if "PROBE" in env:
            wanted = json.loads(env["PROBE"])
            if "try" in wanted:
                one["log"] = "ACCEPTANCE " + json.dumps(self._tried(one["metadata"]["namespace"], wanted["try"]))
                one["status"]["phase"] = "Succeeded"
        elif "/data/token" in script:
            written = re.search(r"write\('([0-9a-f]+)'\)", script)
            self.token = written[1] if written else self.token
            one["log"] = "" if written else self.token
            one["status"]["phase"] = "Succeeded"

    def _tried(self, source: str, wanted: Raw) -> Raw:
        return {"mtu": {"eth0": K8S.cni.pod_mtu}, "tcp": {k: self._end(source, v[0]) for k, v in wanted["tcp"].items()},
                "udp": {key: {"end": "echoed"} for key in wanted.get("udp", {})},
                "dns": {key: self._name(name) for key, name in wanted.get("dns", {}).items()}}

    def _end(self, source: str, address: str) -> Raw:
        for (space, kind, _), one in self.objects.items():
            own = one["status"].get("podIP") if kind == "pods" else one["spec"].get("clusterIP")
            if own == address and self.allowed(source, space):
                return {"end": "connected", "name": one["metadata"]["labels"].get("acceptance/node", "")}
        return {"end": "refused"}

    def _name(self, name: str) -> Raw:
        if name.startswith("no-such"):
            return {"code": 3, "addresses": []}
        for (_, kind, own), one in self.objects.items():
            if kind == "services" and name.split(".")[0] == own:
                address = one["spec"]["clusterIP"]
                pods = [pod["status"]["podIP"] for pod in self.objects.values() if "podIP" in pod["status"]
                        and pod["metadata"]["labels"].get("acceptance/role") == "server"]
                return {"code": 0, "addresses": pods if address == "None" else [address]}
        return {"code": 0, "addresses": ["10.1.2.3"]}
