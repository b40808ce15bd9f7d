"""Objects that the suite makes: pods and what they need, small, without privileges, labelled as its own."""

from __future__ import annotations

import re
from typing import Any

from acceptance.collectors.kubernetes.projections import GPU, MANAGED_BY

OWNER = "gpu-cluster-acceptance"
RUN = "acceptance/run"
ROLE = "acceptance/role"
NODE = "acceptance/node"
MINE = f"{MANAGED_BY}={OWNER}"
USER_ID = 65534
GROUPS = {"jobs": "/apis/batch/v1", "pytorchjobs": "/apis/kubeflow.org/v1"}


def path_of(namespace: str, kind: str) -> str:
    """Where the objects of a kind are, in the API."""
    return f"{GROUPS.get(kind, '/api/v1')}/namespaces/{namespace}/{kind}"


def label(text: str) -> str:
    """Text as a label's value."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[-63:].strip("-_.")


def labels(run_id: str, role: str, node: str = "") -> dict[str, str]:
    """Whose object this is, of which run, and what for."""
    return {MANAGED_BY: OWNER, RUN: label(run_id), ROLE: role} | ({NODE: node} if node else {})


def metadata(name: str, marks: dict[str, str]) -> dict[str, Any]:
    """Name and labels."""
    return {"name": name, "labels": marks}


def pod(name: str, marks: dict[str, str], image: str, command: list[str], *, node: str = "",
        env: dict[str, str] | None = None, gpus: int = 0, claim: str = "", life_s: float = 300) -> dict[str, Any]:
    """A pod without privileges that runs one program once and is ended after `life_s`, whatever becomes of the run.

    `node` is the host name of the node it must run on; `claim` is mounted at /data.
    """
    container: dict[str, Any] = {
        "name": "probe", "image": image, "imagePullPolicy": "IfNotPresent", "command": command,
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
    }
    if gpus:
        container["resources"]["limits"][GPU] = str(gpus)
    spec: dict[str, Any] = {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
        "activeDeadlineSeconds": max(1, round(life_s)), "enableServiceLinks": False, "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER_ID, "fsGroup": USER_ID,
                            "seccompProfile": {"type": "RuntimeDefault"}},
    }
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        spec["tolerations"] = [{"operator": "Exists", "effect": effect} for effect in ("NoSchedule", "NoExecute")]
    if claim:
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(name, marks), "spec": spec}


def service(name: str, marks: dict[str, str], selector: dict[str, str], ports: list[int], *,
            headless: bool = False) -> dict[str, Any]:
    """A Service before pods with these labels."""
    spec: dict[str, Any] = {"selector": selector,
                            "ports": [{"name": f"p{port}", "port": port, "targetPort": port} for port in ports]}
    if headless:
        spec["clusterIP"] = "None"
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, marks), "spec": spec}


def claim(name: str, marks: dict[str, str], mib: int) -> dict[str, Any]:
    """A claim on the default StorageClass: it names none."""
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata(name, marks),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{mib}Mi"}}}}
