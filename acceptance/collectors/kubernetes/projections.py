"""What of each object is kept: the fields that checks judge, so that a large cluster's state stays small.

Each function takes an object of the API and gives plain data; KeyError or TypeError when the object is not what it
should be. The same fields are typed in `acceptance/facts/kubernetes.py`.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
MANAGED_BY = "app.kubernetes.io/managed-by"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def named(item: Object) -> Object:
    """Name, and namespace where there is one."""
    meta = item["metadata"]
    return {"name": meta["name"], "namespace": meta.get("namespace", "")}


def node(item: Object) -> Object:
    """Labels, taints, conditions, GPUs, versions, addresses."""
    spec, status = item["spec"], item["status"]
    return {
        "name": item["metadata"]["name"], "labels": item["metadata"].get("labels") or {},
        "unschedulable": spec.get("unschedulable") is True,
        "taints": [_taint(taint) for taint in spec.get("taints") or []],
        "conditions": {one["type"]: one["status"] for one in status.get("conditions") or []},
        "capacity_gpus": _gpus(status.get("capacity")), "allocatable_gpus": _gpus(status.get("allocatable")),
        "kubelet": status["nodeInfo"]["kubeletVersion"], "runtime": status["nodeInfo"]["containerRuntimeVersion"],
        "addresses": [one["address"] for one in status.get("addresses") or [] if one["type"] == "InternalIP"],
        "pod_ranges": spec.get("podCIDRs") or [],
    }


def _taint(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _gpus(resources: Object | None) -> int | None:
    value = (resources or {}).get(GPU)
    return None if value is None else int(value)


def pod(item: Object) -> Object:
    """Where it runs, how it does, and how many GPUs it holds."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    ready = [one["status"] for one in status.get("conditions") or [] if one["type"] == "Ready"]
    owner = next((one for one in meta.get("ownerReferences") or [] if one.get("controller")), None)
    labels = meta.get("labels") or {}
    return named(item) | {
        "node": spec.get("nodeName") or "", "phase": status.get("phase") or "", "reason": status.get("reason") or "",
        "ready": ready == ["True"], "owner": f"{owner['kind']}/{owner['name']}" if owner else "",
        "restarts": max((one["restartCount"] for one in statuses), default=0),
        "waiting": sorted({one["state"]["waiting"].get("reason") or "waiting" for one in statuses
                           if (one.get("state") or {}).get("waiting")}),
        "gpus": sum(_gpus((one.get("resources") or {}).get("limits")) or 0 for one in spec["containers"]),
        "terminating": "deletionTimestamp" in meta, "managed_by": labels.get(MANAGED_BY, ""),
    }


def daemonset(item: Object) -> Object:
    """Desired and ready pods, of the present generation or not."""
    status = item["status"]
    return named(item) | {
        "desired": status["desiredNumberScheduled"], "ready": status["numberReady"],
        "updated": status.get("updatedNumberScheduled", 0), "misscheduled": status["numberMisscheduled"],
        "observed": status.get("observedGeneration") == item["metadata"]["generation"],
    }


def deployment(item: Object) -> Object:
    """Desired and available replicas, of the present generation or not."""
    status = item.get("status") or {}
    return named(item) | {
        "desired": item["spec"]["replicas"], "available": status.get("availableReplicas", 0),
        "updated": status.get("updatedReplicas", 0),
        "observed": status.get("observedGeneration") == item["metadata"]["generation"],
    }


def namespace(item: Object) -> Object:
    """Labels and phase."""
    return {"name": item["metadata"]["name"], "labels": item["metadata"].get("labels") or {},
            "phase": item["status"]["phase"]}


def quota(item: Object) -> Object:
    """What is allowed and what is used."""
    status = item.get("status") or {}
    return named(item) | {"hard": item["spec"].get("hard") or {}, "used": status.get("used") or {},
                          "scoped": bool(item["spec"].get("scopes") or item["spec"].get("scopeSelector"))}


def limit_range(item: Object) -> Object:
    """Its limits as they are."""
    return named(item) | {"limits": item["spec"]["limits"]}


def policy(item: Object) -> Object:
    """Its whole rule."""
    spec = item["spec"]
    return named(item) | {"selector": spec.get("podSelector") or {}, "types": spec.get("policyTypes") or [],
                          "ingress": spec.get("ingress") or [], "egress": spec.get("egress") or []}


def role(item: Object) -> Object:
    """Its rules."""
    return named(item) | {"rules": [
        {"verbs": rule.get("verbs") or [], "groups": rule.get("apiGroups") or [],
         "resources": rule.get("resources") or [], "names": rule.get("resourceNames") or [],
         "urls": rule.get("nonResourceURLs") or []} for rule in item.get("rules") or []]}


def binding(item: Object) -> Object:
    """Which role, and who has it: "User x", "Group y", "ServiceAccount namespace/name"."""
    ref = item["roleRef"]
    return named(item) | {"role_kind": ref["kind"], "role": ref["name"],
                          "subjects": [_subject(one) for one in item.get("subjects") or []]}


def _subject(one: Object) -> str:
    space = f"{one['namespace']}/" if one["kind"] == "ServiceAccount" else ""
    return f"{one['kind']} {space}{one['name']}"


def storage_class(item: Object) -> Object:
    """Provisioner, and whether it is the default."""
    notes = item["metadata"].get("annotations") or {}
    return {"name": item["metadata"]["name"], "provisioner": item["provisioner"],
            "default": notes.get(DEFAULT_CLASS) == "true"}


def service(item: Object) -> Object:
    """Type, address and ports."""
    spec = item["spec"]
    return named(item) | {"type": spec["type"], "address": spec.get("clusterIP") or "",
                          "ports": [one["port"] for one in spec.get("ports") or []]}


def endpoint_slice(item: Object) -> Object:
    """The service it belongs to, and addresses of its ready ends."""
    ends = item.get("endpoints") or []
    ready = [address for end in ends if (end.get("conditions") or {}).get("ready") is not False
             for address in end["addresses"]]
    return named(item) | {"service": (item["metadata"].get("labels") or {}).get("kubernetes.io/service-name", ""),
                          "ready": ready}


def definition(item: Object) -> Object:
    """A CustomResourceDefinition's name, and whether it is established."""
    conditions = (item.get("status") or {}).get("conditions") or []
    return {"name": item["metadata"]["name"],
            "established": any(one["type"] == "Established" and one["status"] == "True" for one in conditions)}


def cluster_policy(item: Object) -> Object:
    """The GPU Operator's own word on its state."""
    return {"name": item["metadata"]["name"], "state": str((item.get("status") or {}).get("state") or "")}


def node_metrics(item: Object) -> Object:
    """Use of one node as metrics-server saw it, and when."""
    return {"name": item["metadata"]["name"], "at": item["timestamp"], "cpu": item["usage"]["cpu"],
            "memory": item["usage"]["memory"]}
