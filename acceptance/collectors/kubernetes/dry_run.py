"""What the tenants' namespaces refuse and admit, tried by creating pods that the API server throws away again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from acceptance.checks import collector
from acceptance.collectors.kubernetes.objects import labels, pod
from acceptance.collectors.kubernetes.projections import GPU

if TYPE_CHECKING:
    from acceptance.collect import Session

DEADLINE_S = 15.0
Pod = dict[str, Any]


def tries(namespace: str, image: str, run_id: str, gpus_left: int | None) -> dict[str, Pod]:
    """A pod for each thing that is tried. Each differs from the compliant one in one point."""
    good = pod(f"acceptance-try-{namespace}", labels(run_id, "dry-run"), image, ["true"])
    found = {"compliant": good}

    def variant(name: str) -> tuple[Pod, Pod]:
        found[name] = copy.deepcopy(good)
        return found[name]["spec"], found[name]["spec"]["containers"][0]

    spec, container = variant("privileged")
    container["securityContext"] = {"privileged": True}
    spec, container = variant("hostPath")
    spec["volumes"] = [{"name": "host", "hostPath": {"path": "/"}}]
    container["volumeMounts"] = [{"name": "host", "mountPath": "/host"}]
    variant("hostPID")[0]["hostPID"] = True
    variant("hostNetwork")[0]["hostNetwork"] = True
    del variant("no-limits")[1]["resources"]
    if gpus_left is not None:
        for name, gpus in (("quota-left", gpus_left), ("quota-exceeded", gpus_left + 1)):
            if gpus > 0:
                variant(name)[1]["resources"]["limits"][GPU] = str(gpus)
    return found


@collector("kube-dry-run", purpose="trying what the tenants' namespaces admit", deadline_s=90, kube=True)
def collect(session: Session) -> None:
    """One record a namespace: what is left of its quota, and for each try whether it was admitted, and with what."""
    contract = session.contract.kubernetes
    for name, team in contract.tenants.teams.items():
        used = used_gpus(session, name)
        left = None if isinstance(used, str) else max(0, team.gpus - used)
        answers = {key: create(session, name, body) for key, body in
                   tries(name, contract.probes.image, session.run_id, left).items()}
        session.record(name, document={"used_gpus": used, "tries": answers})


def used_gpus(session: Session, namespace: str) -> int | str:
    """GPUs that the namespace's quota counts as used, or why that is not known."""
    path = f"/api/v1/namespaces/{namespace}/resourcequotas/{session.contract.kubernetes.tenants.quota}"
    answer = session.kube.request("GET", path, deadline_s=DEADLINE_S)
    if not answer.ok:
        return answer.reason()
    try:
        return int(answer.data["status"]["used"][f"requests.{GPU}"])
    except (KeyError, TypeError, ValueError):
        return "the quota does not say how many GPUs are used"


def create(session: Session, namespace: str, body: Pod) -> dict[str, Any]:
    """How a dry run ended: status and message, and of an admitted pod the resources that it was given."""
    answer = session.kube.request("POST", f"/api/v1/namespaces/{namespace}/pods", query=[("dryRun", "All")], body=body,
                                  deadline_s=DEADLINE_S)
    document = {**answer.evidence(), "message": "" if answer.ok else answer.message()}
    if answer.ok:
        try:
            document["resources"] = answer.data["spec"]["containers"][0].get("resources") or {}
        except (KeyError, TypeError, IndexError):
            document["resources"] = None
    return document
